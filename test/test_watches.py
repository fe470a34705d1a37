"""Watches: hysteresis, checks on the newest slots of a real model, bounds, and what survives a restart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memory_slots import SECOND, tiny  # noqa: F401
from watch_bench import ALWAYS, TEXT, Bench, probabilities

from flash_vstream_ros.engine.answering.background_budget import BURST_WINDOW_S
from flash_vstream_ros.engine.watches.hysteresis import Change, Phase, Thresholds, step
from flash_vstream_ros.engine.watches.watch import BadWatch, Watch, WatchConfig
from flash_vstream_ros.engine.watches.watches import RETRY_S, Watches
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.qwen2_vl import Qwen2VL
from flash_vstream_ros.models.yes_no import YesNo, yes_no_tokens

BEGAN, ENDED = Change.BEGAN, Change.ENDED


@pytest.mark.parametrize(
    ("hold", "release", "cooldown", "probabilities", "changes"),
    [
        (0, 0, 0, [0.1, 0.8, 0.5, 0.9, 0.2, 0.2, 0.9], {1: BEGAN, 4: ENDED, 6: BEGAN}),
        (2, 0, 0, [0.8, 0.8, 0.5, 0.8, 0.8, 0.8, 0.1], {5: BEGAN, 6: ENDED}),
        (0, 0, 3, [0.8, 0.1, 0.8, 0.8, 0.8, 0.1], {0: BEGAN, 1: ENDED, 4: BEGAN, 5: ENDED}),
        (0, 1, 0, [0.8, 0.1, 0.5, 0.1, 0.8, 0.1, 0.1, 0.8], {0: BEGAN, 6: ENDED, 7: BEGAN}),
        (0, 2, 2, [0.8, 0.1, 0.1, 0.8, 0.1, 0.1, 0.1, 0.8, 0.8], {0: BEGAN, 6: ENDED, 8: BEGAN}),
        (0, 0, 0, [0.5, 0.69, 0.5], {}),
    ],
)
def test_a_series_of_probabilities_begins_and_ends(
    hold: int, release: int, cooldown: int, probabilities: list[float], changes: dict[int, Change]
) -> None:
    phase, found = Phase(), {}
    for at, probability in enumerate(probabilities):
        phase, change = step(phase, Thresholds(0.7, 0.3, hold, release, cooldown), 100 + at, probability)
        if change is not None:
            found[at] = change
    assert found == changes


def test_a_jump_back_of_stamps_starts_the_holding_time_anew() -> None:
    thresholds = Thresholds(0.7, 0.3, hold_ns=5, cooldown_ns=1000)
    phase, _ = step(Phase(ended_ns=900), thresholds, 1000, 0.9)
    phase, change = step(phase, thresholds, 10, 0.9)
    assert change is None
    assert step(phase, thresholds, 15, 0.9)[1] is BEGAN


def test_a_jump_back_of_stamps_and_an_interruption_start_the_release_anew() -> None:
    thresholds = Thresholds(0.7, 0.3, release_ns=5)
    low = Phase(active=True, above_since_ns=0, below_since_ns=100, newest_ns=100)
    for before, begin in ((low, 10), (low.interrupted, 110)):
        phase, change = step(before, thresholds, begin, 0.1)
        assert phase.active
        assert change is None
        assert step(phase, thresholds, begin + 5, 0.1)[1] is ENDED
    assert step(low, thresholds, 105, 0.1)[1] is ENDED


def test_the_first_tokens_of_yes_and_no_are_told_apart() -> None:
    ids = {"y": [1, 2], "Y": [3], "n": [4], "N": [5, 6], " ": [7, 1]}
    tokens = yes_no_tokens(lambda text: ids[text[0]])
    assert tokens == ((1, 3), (4, 5))  # not 7, which begins both
    assert YesNo(0.3, 0.1).probability == pytest.approx(0.75)
    assert YesNo(0.0, 0.0).probability == 0.5


@pytest.fixture
def bench(tiny: Qwen2VL) -> Bench:  # noqa: F811
    return Bench(tiny)


@pytest.mark.parametrize("release_s", [0.0, 1.5])  # slots are 2 s apart
def test_the_events_are_those_of_the_probabilities_of_the_newest_slots(bench: Bench, release_s: float) -> None:
    images = (0, 1, 0, 2, 3, 1)
    found = probabilities(bench.model, images)
    threshold = sorted(found)[len(found) // 2]
    watch = Watch("it", TEXT, release_s=release_s, on=threshold, off=threshold)
    bench.watches.add(watch)
    bench.check()
    assert not bench.events  # nothing was seen yet
    phase = Phase()
    for number, (image, probability) in enumerate(zip(images, found, strict=True), start=1):
        bench.see(image)
        bench.check()
        assert probability == pytest.approx(bench.probability(), abs=1e-5)
        bench.check()  # the same slot once more changes nothing
        at_ns = 2 * number * SECOND
        phase, change = step(phase, watch.thresholds, at_ns, probability)
        events = [event for event in bench.events if event.stamp_ns == at_ns]
        assert [event.change for event in events] == ([] if change is None else [change])
        for event in events:
            assert (event.watch, event.camera, event.reason) == (watch, "camera", "")
            assert event.probability == pytest.approx(probability, abs=1e-6)
            assert event.entry is not None
            assert (event.entry.thumbnail, event.entry.thumbnail_ns) == (b"jpeg", at_ns)
    assert bench.events
    assert bench.watches.status.events == len(bench.events)
    (status,) = bench.watches.status.watches
    assert (status.active, status.checks, status.missed, status.problem) == (phase.active, 12, 0, "")


def test_watches_share_one_prefix_and_ask_about_a_slot_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    cache = bench.watches._slots._cache
    assert cache is not None
    counted(cache, "set_snapshot", calls, monkeypatch)
    counted(cache, "answer", calls, monkeypatch)
    for number in range(3):
        bench.watches.add(Watch(str(number), f"{TEXT} {number}?"))
    bench.see()
    for _ in range(4):
        bench.check()
    assert calls == ["set_snapshot", "answer", "answer", "answer"]
    bench.see(1)
    bench.check()
    assert calls[4:] == ["set_snapshot", "answer", "answer", "answer"]


def counted(target: Any, name: str, calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(target, name)

    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        return real(*arguments, **options)

    monkeypatch.setattr(target, name, call)


def test_each_camera_is_asked_about_by_itself(tiny: Qwen2VL) -> None:  # noqa: F811
    bench = Bench(tiny, cameras=("left", "right"))
    for cameras in ((), ("left",), ("right",)):
        bench.watches.add(replace(ALWAYS, id="".join(cameras), cameras=cameras))
    bench.see(0, "left")
    bench.see(1, "right")
    bench.check()
    both, left, right = bench.events
    assert (left.camera, right.camera) == ("left", "right")
    assert left.probability != right.probability
    likelier = max(left, right, key=lambda event: event.probability)
    assert (both.probability, both.camera) == (likelier.probability, likelier.camera)


def test_what_is_forgotten_ends_an_event_and_is_not_kept(bench: Bench) -> None:
    bench.watches.add(ALWAYS)
    bench.see()
    bench.check()
    scope = Scope(since_ns=SECOND)
    bench.memory.forget(scope)
    bench.watches.forget(scope)
    assert [(event.change, event.reason, event.entry) for event in bench.events[1:]] == [(ENDED, "forgotten", None)]
    cache = bench.watches._slots._cache
    assert cache is not None
    assert cache.bytes == 0
    (status,) = bench.watches.status.watches
    assert (status.active, status.stamp_ns, status.probability) == (False, 0, 0.0)
    bench.check()
    assert len(bench.events) == 2
    bench.watches.remove("it")
    assert not bench.watches.status.watches


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": " "}, "the text of the watch is empty"),
        ({"text": "x" * 300}, "watch.max_chars allows 256"),
        ({"text": "a\x1b[2J"}, "control character"),
        ({"cameras": ("rear",)}, "unknown camera rear; the cameras are camera"),
        ({"period_s": 0.001}, "period must be from 0.05"),
        ({"hold_s": -1.0}, "hold, release and cooldown"),
        ({"release_s": -1.0}, "hold, release and cooldown"),
        ({"on": 0.2, "off": 0.5}, "0 < off <= on < 1"),
        ({"on": float("nan")}, "0 < off <= on < 1"),
        ({"id": "first", "text": "another"}, "the id 'first' is in use by another watch"),
        ({"id": "third"}, "there are 2 watches, and watch.max_watches allows no more"),
    ],
)
def test_a_bad_watch_is_refused_with_a_reason(tiny: Qwen2VL, changes: dict[str, Any], message: str) -> None:  # noqa: F811
    bench = Bench(tiny, WatchConfig(max_watches=2))
    first = Watch("first", TEXT)
    bench.watches.add(first)
    bench.watches.add(first)  # once more changes nothing
    bench.watches.add(Watch("second", TEXT))
    with pytest.raises(BadWatch, match=r".*") as refused:
        bench.watches.add(replace(Watch("new", TEXT), **changes))
    assert message in str(refused.value)
    assert [each.watch.id for each in bench.watches.status.watches] == ["first", "second"]
    with pytest.raises(BadWatch, match="no watch with the id 'unknown'"):
        bench.watches.remove("unknown")


def test_checks_stay_within_their_share_and_say_that_they_are_late(tiny: Qwen2VL) -> None:  # noqa: F811
    bench = Bench(tiny, WatchConfig(device_share=0.1))
    bench.watches.add(Watch("it", TEXT, period_s=0.5))
    bench.pass_s = 0.2
    began, spent = bench.now, 0.0
    while bench.now < began + 100.0:
        bench.see(bench.slots % 6)
        while bench.now < began + 2.0 * bench.slots:
            before = bench.now
            wait_s = bench.watches.check()
            spent += bench.now - before
            bench.now += max(wait_s or 0.0, 0.01)
    assert spent <= 0.1 * (bench.now - began) + BURST_WINDOW_S + 1.0
    (status,) = bench.watches.status.watches
    assert status.missed > 0
    assert status.missed == bench.watches.status.missed
    assert any("cannot keep its period of 0.5 s" in line for line in bench.log)


def test_nothing_is_missed_while_the_node_is_inactive(bench: Bench) -> None:
    bench.watches.add(Watch("it", TEXT))
    bench.see()
    bench.check()
    bench.watches.suspend()
    bench.check(500.0)
    assert bench.watches.status.missed == 0


def test_a_check_that_fails_is_logged_and_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the kernel failed")

    bench.watches.add(ALWAYS)
    bench.see()
    cache = bench.watches._slots._cache
    with monkeypatch.context() as patch:
        patch.setattr(cache, "answer", fail)
        bench.check()
    assert "no watch is checked for 30 s" in bench.log[-1]
    assert "the kernel failed" in bench.watches.status.watches[0].problem
    bench.check()
    assert not bench.events
    bench.now += RETRY_S
    bench.see()
    bench.check()
    assert [event.change for event in bench.events] == [BEGAN]
    assert (bench.watches.status.failures, bench.watches.status.watches[0].problem) == (1, "")


def test_watches_are_kept_over_a_restart(
    tiny: Qwen2VL,  # noqa: F811
    tmp_path: Path,
) -> None:
    path = tmp_path / "new" / "watches.json"
    config = WatchConfig(path=str(path))
    watch = Watch("it", "où est-il ?", ("camera",), 2.0, 3.0, 4.0, 5.0, 0.8, 0.2)

    def restarted(work: Callable[[Watches], object] = lambda _: None) -> tuple[list[Watch], Bench]:
        bench = Bench(tiny, config)
        bench.watches.restore()
        work(bench.watches)
        bench.watches.close()
        return [each.watch for each in bench.watches.status.watches], bench

    assert restarted()[0] == []
    assert not path.exists()
    restarted(lambda watches: watches.add(watch))
    assert path.stat().st_mode & 0o777 == 0o600
    assert restarted()[0] == [watch]
    restarted(lambda watches: watches.remove("it"))
    assert restarted()[0] == []
    path.write_text('{"format": 1, "watches": [{"id": 3}]}')
    watches, bench = restarted()
    assert watches == []
    assert "no watches are restored from" in bench.log[0]
    assert path.with_name("watches.json.unusable").exists()
