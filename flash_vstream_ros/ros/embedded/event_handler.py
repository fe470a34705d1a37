"""Callbacks for QoS events, as rclpy.event_handler. The executor runs them in the callback group of their entity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from cyclonedds.core import DDSException, DDSStatus

from .callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from .waitable import Waitable, Work

Callback = Callable[[Any], None]


class UnsupportedEventTypeError(RuntimeError):
    """Never raised here: Cyclone DDS has every event."""


class QoSPolicyKind(IntEnum):
    """The values of rmw's rmw_qos_policy_kind_t."""

    INVALID = 1
    DURABILITY = 2
    DEADLINE = 4
    LIVELINESS = 8
    RELIABILITY = 16
    HISTORY = 32
    LIFESPAN = 64


_BY_DDS_ID = {2: "DURABILITY", 4: "DEADLINE", 8: "LIVELINESS", 11: "RELIABILITY", 13: "HISTORY", 21: "LIFESPAN"}


@dataclass(frozen=True)
class QoSIncompatibleInfo:
    """Peers met whose QoS does not fit, in all and since the last event, and a policy of the last one."""

    total_count: int
    total_count_change: int
    last_policy_kind: QoSPolicyKind


@dataclass
class SubscriptionEventCallbacks:
    """What to call for the events of a subscription. The default callback says which publisher does not fit."""

    deadline: Callback | None = None
    incompatible_qos: Callback | None = None
    liveliness: Callback | None = None
    message_lost: Callback | None = None
    matched: Callback | None = None
    use_default_callbacks: bool = True


@dataclass
class PublisherEventCallbacks:
    """What to call for the events of a publisher. The default callback says which subscription does not fit."""

    deadline: Callback | None = None
    liveliness: Callback | None = None
    incompatible_qos: Callback | None = None
    matched: Callback | None = None
    use_default_callbacks: bool = True


EventCallbacks = SubscriptionEventCallbacks | PublisherEventCallbacks

_READER_EVENTS = {
    "deadline": (DDSStatus.RequestedDeadlineMissed, "get_requested_deadline_missed_status"),
    "incompatible_qos": (DDSStatus.RequestedIncompatibleQos, "get_requested_incompatible_qos_status"),
    "liveliness": (DDSStatus.LivelinessChanged, "get_liveliness_changed_status"),
    "message_lost": (DDSStatus.SampleLost, "get_sample_lost_status"),
    "matched": (DDSStatus.SubscriptionMatched, "get_subscription_matched_status"),
}
_WRITER_EVENTS = {
    "deadline": (DDSStatus.OfferedDeadlineMissed, "get_offered_deadline_missed_status"),
    "liveliness": (DDSStatus.LivelinessLost, "get_liveliness_lost_status"),
    "incompatible_qos": (DDSStatus.OfferedIncompatibleQos, "get_offered_incompatible_qos_status"),
    "matched": (DDSStatus.PublicationMatched, "get_publication_matched_status"),
}


class EventHandler(Waitable):
    """One kind of event of one reader or writer; `entity` is set once that exists."""

    entity: Any = None

    def __init__(self, callback_group: CallbackGroup, callback: Callback, status: int, getter: str) -> None:
        super().__init__(callback_group)
        self.status = status
        self._callback = callback
        self._getter = getter

    def take(self) -> Work | None:
        self.signalled = False
        try:
            info = getattr(self.entity, self._getter)()
        except DDSException:  # the entity was destroyed meanwhile
            return None
        if hasattr(info, "last_policy_id"):
            kind = QoSPolicyKind[_BY_DDS_ID.get(info.last_policy_id, "INVALID")]
            info = QoSIncompatibleInfo(info.total_count, info.total_count_change, kind)
        return lambda: self._callback(info)


class EntityEvents:
    """The events of one reader or writer."""

    def __init__(self, callbacks: EventCallbacks | None, group: CallbackGroup) -> None:
        events = _WRITER_EVENTS if isinstance(callbacks, PublisherEventCallbacks) else _READER_EVENTS
        wanted = [(getattr(callbacks, name, None), event) for name, event in events.items()]
        self.handlers = tuple(EventHandler(group, callback, *event) for callback, event in wanted if callback)
        self.statuses = sum(handler.status for handler in self.handlers)
        self.says_incompatible = callbacks is None or (
            callbacks.use_default_callbacks and callbacks.incompatible_qos is None
        )

    def signal(self, status: int) -> None:
        """One or more DDS statuses have changed."""
        for handler in self.handlers:
            if status & handler.status:
                handler.signalled = True


NO_EVENTS = EntityEvents(None, MutuallyExclusiveCallbackGroup())
