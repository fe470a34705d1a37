"""Converts watches, their status and their events to messages, and messages to watches."""

from __future__ import annotations

from flash_vstream_ros.engine.watches.hysteresis import Change
from flash_vstream_ros.engine.watches.watch import (
    OFF,
    ON,
    PERIOD_S,
    RELEASE_S,
    BadWatch,
    Watch,
    WatchEvent,
    WatchStatus,
)
from flash_vstream_ros.node.conversions import entry_message
from flash_vstream_ros.node.requests import request_id
from flash_vstream_ros.ros.interfaces import Event, Header
from flash_vstream_ros.ros.interfaces import Watch as WatchMsg
from flash_vstream_ros.ros.interfaces import WatchStatus as WatchStatusMsg
from flash_vstream_ros.ros.stamps import SECOND_NS, BadStamp, duration_message, duration_ns, stamp_message

EVENT_KIND = {Change.BEGAN: Event.BEGAN, Change.ENDED: Event.ENDED}
DIGITS = 6  # of a probability: what a float32 can express


def watch_of(message: WatchMsg, watch_id: str) -> Watch:
    """The watch in a message, with the defaults in place of zeros. Raises BadWatch, or BadRequest for the id."""
    try:
        period_s, hold_s, release_s, cooldown_s = (
            duration_ns(each) / SECOND_NS for each in (message.period, message.hold, message.release, message.cooldown)
        )
    except BadStamp as error:
        raise BadWatch(f"period, hold, release or cooldown: {error}") from error
    return Watch(
        id=request_id(watch_id, "watch_id"),
        text=str(message.text),
        cameras=tuple(map(str, message.cameras)),
        period_s=period_s or PERIOD_S,
        hold_s=hold_s,
        release_s=release_s or RELEASE_S,
        cooldown_s=cooldown_s,
        on=round(float(message.on), DIGITS) or ON,
        off=round(float(message.off), DIGITS) or OFF,
    )


def watch_message(watch: Watch) -> WatchMsg:
    return WatchMsg(
        watch_id=watch.id,
        text=watch.text,
        cameras=list(watch.cameras),
        period=duration_message(watch.period_s),
        hold=duration_message(watch.hold_s),
        release=duration_message(watch.release_s),
        cooldown=duration_message(watch.cooldown_s),
        on=watch.on,
        off=watch.off,
    )


def status_message(status: WatchStatus) -> WatchStatusMsg:
    return WatchStatusMsg(
        watch=watch_message(status.watch),
        active=status.active,
        checks=status.checks,
        missed=status.missed,
        probability=status.probability,
        answered=status.answered,
        stamp=stamp_message(status.stamp_ns),
        problem=status.problem,
    )


def event_message(event: WatchEvent) -> Event:
    entry = event.entry
    return Event(
        header=Header(stamp=stamp_message(event.stamp_ns), frame_id=entry.frame_id if entry else ""),
        kind=EVENT_KIND[event.change],
        watch_id=event.watch.id,
        text=event.watch.text,
        probability=event.probability,
        reason=event.reason,
        model_kind=int(event.model_kind),
        camera=event.camera,
        evidence=[entry_message(entry)] if entry else [],
    )
