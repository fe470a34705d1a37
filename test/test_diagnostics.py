"""/diagnostics from given figures: levels, messages, values, and rates by the node's clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_slots import tiny  # noqa: F401
from watch_bench import ALWAYS, Bench

from flash_vstream_ros.engine.answering.prefix_cache_config import PrefixCacheStatus
from flash_vstream_ros.engine.ingest.mailbox import FrameCounts
from flash_vstream_ros.engine.restart.rebuild import MemoryStart
from flash_vstream_ros.engine.restart.snapshots import SnapshotStatus
from flash_vstream_ros.engine.state import State
from flash_vstream_ros.engine.status import MemoryStats, Status
from flash_vstream_ros.models.qwen2_vl import Qwen2VL
from flash_vstream_ros.node.diagnostics import (
    LATE_S,
    LOST_S,
    MANY_DROPS,
    SILENT_S,
    History,
    Level,
    Observation,
    Report,
    camera_report,
    memory_report,
    model_report,
    unwatched_report,
    watches_report,
)

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
DIAGNOSTICS_PAGE = (Path(__file__).parents[1] / "docs" / "reference" / "diagnostics.md").read_text(encoding="utf-8")


def counts(received: int = 0, encoded: int = 0, newest_s: float | None = None, **drops: int) -> FrameCounts:
    """`newest_s` in seconds after START."""
    dropped = sum(drops.values())
    newest_ns = 0 if newest_s is None else START + round(newest_s * SECOND)
    return FrameCounts(received, encoded, received - encoded - dropped, 0, tuple(sorted(drops.items())), newest_ns)


def status(state: State = State.READY, memory: MemoryStats | None = None, **cameras: FrameCounts) -> Status:
    return Status(
        state=state,
        cameras=tuple(cameras.items()),
        memory=memory or MemoryStats(),
        answer_s=(0.5, 1.5),
        questions_answered=3,
        questions_failed=1,
        questions_waiting=0,
        question_queue=4,
        last_error="a lens cap",
    )


def report(observations: Sequence[tuple[float, FrameCounts]], state: State = State.READY, **options) -> Report:  # type: ignore[no-untyped-def]
    """Report of a camera whose counts were observed at the given seconds after START."""
    history = History()
    for second, figures in observations:
        history.add(Observation(START + round(second * SECOND), status(state, front=figures)))
    view = history.camera("front", "/front/image", options.pop("sample_period_s", 1.0), **options)
    assert view is not None
    return camera_report(view, state)


def streaming(seconds: int, rate: int = 30, **drops: int) -> list[tuple[float, FrameCounts]]:
    """A camera whose images are 50 ms old, one in a second ingested; `drops` in each second."""
    return [
        (
            second,
            counts(second * rate, second, second - 0.05, **{reason: second * count for reason, count in drops.items()}),
        )
        for second in range(1, seconds + 1)
    ]


def test_a_camera_that_streams_is_ok_with_its_rates_and_its_age() -> None:
    found = report(streaming(20))
    assert (found.task, found.level, found.message) == ("camera front", Level.OK, "30.0 images/s, 1.00/s ingested")
    values = dict(found.values)
    assert values["topic"] == "/front/image"
    assert values["rate received [1/s]"] == "30.00"
    assert values["rate ingested [1/s]"] == "1.000"
    assert values["frame age [s]"] == "0.050"
    assert (values["received"], values["ingested"], values["dropped"]) == ("600", "20", "0")


def test_rates_are_those_of_the_last_ten_periods() -> None:
    slow_then_fast = [(second, counts(second)) for second in range(20)]
    slow_then_fast += [(20 + second, counts(20 + 10 * second)) for second in range(11)]
    assert dict(report(slow_then_fast).values)["rate received [1/s]"] == "10.00"


@pytest.mark.parametrize(
    ("second", "level"), [(0, Level.OK), (2, Level.OK), (3, Level.WARN), (29, Level.WARN), (30, Level.ERROR)]
)
def test_a_camera_that_never_sends_becomes_a_warning_and_then_an_error(second: int, level: Level) -> None:
    found = report([(0, counts()), (second, counts())])
    assert found.level is level
    assert "first image on /front/image" in found.message or "no image yet on /front/image" in found.message


@pytest.mark.parametrize(("silent", "level"), [(2, Level.OK), (3, Level.WARN), (31, Level.ERROR)])
def test_a_camera_that_stops_is_reported_with_the_duration_of_its_silence(silent: int, level: Level) -> None:
    found = report([*streaming(5), (5 + silent, counts(150, 5, 4.95))])
    assert found.level is level
    assert level is Level.OK or f"no image for {silent} s" in found.message


def test_a_camera_that_is_sampled_rarely_may_be_silent_for_longer() -> None:
    observations = [(0, counts(1, 1, 0)), (100, counts(1, 1, 0))]
    assert report(observations, sample_period_s=60.0).level is Level.OK
    assert report(observations, sample_period_s=40.0).level is Level.WARN
    assert report(observations, sample_period_s=4.0).level is Level.ERROR


def test_a_camera_that_resumes_is_ok_again() -> None:
    gone = [*streaming(5), (50, counts(150, 5, 4.95))]
    assert report(gone).level is Level.ERROR
    assert report([*gone, (51, counts(180, 6, 50.9))]).level is Level.OK


def test_images_that_arrive_late_are_reported_with_their_age() -> None:
    found = report([(second, counts(second * 30, second, second - 9.0)) for second in range(1, 5)])
    assert found.level is Level.WARN
    assert "9.0 s old" in found.message
    assert report([(second, counts(second * 30, second, second - 4.0)) for second in range(1, 5)]).level is Level.OK


def test_stamps_ahead_of_the_clock_are_reported() -> None:
    found = report([(1, counts(30, 1, 1)), (2, counts(60, 2, 12))])
    assert found.level is Level.WARN
    assert "10.0 s ahead" in found.message


def test_many_drops_are_reported_by_reason_and_unsampled_frames_are_not_drops() -> None:
    assert report(streaming(11, superseded=1)).message == "10 of 20 due frames were dropped: superseded 10"
    assert report(streaming(11, superseded=1)).level is Level.WARN
    assert report([(0, counts()), (10, counts(300, 40, 10, superseded=3))]).level is Level.OK


def test_a_camera_with_only_dropped_frames_is_an_error() -> None:
    nothing = [(second, counts(second * 10, unknown_encoding=second * 10)) for second in range(1, 4)]
    found = report(nothing)
    assert found.level is Level.ERROR
    assert found.message.startswith("20 of 20 due frames were dropped: unknown_encoding 20")
    assert dict(found.values)["dropped: unknown_encoding"] == "30"


@pytest.mark.parametrize("reason", ["paused", "forgotten"])
def test_drops_by_pause_and_forget_are_values_without_a_warning(reason: str) -> None:
    found = report([(second, counts(second * 30, **{reason: second * 30})) for second in range(1, 5)])
    assert found.level is Level.OK
    assert dict(found.values)[f"dropped: {reason}"] == "120"


def test_old_drops_are_values_without_a_warning() -> None:
    observations = [(second, counts(second * 30, second, second, superseded=50)) for second in range(10, 30)]
    found = report(observations)
    assert found.level is Level.OK
    assert dict(found.values)["dropped: superseded"] == "50"


@pytest.mark.parametrize("state", [State.LOADING, State.FAILED])
def test_a_silent_camera_is_ok_while_ingest_is_paused_or_inactive(state: State) -> None:
    found = report([(0, counts()), (500, counts())], state)
    assert (found.level, found.message) == (Level.OK, f"not watched: the node is {state.name.lower()}")
    assert report(streaming(9, superseded=1), state).level is Level.OK
    assert unwatched_report("front", "/image").level is Level.OK


def test_silence_counts_from_when_the_node_became_ready() -> None:
    history = History()
    for second, state in ((0, State.LOADING), (100, State.LOADING), (101, State.READY), (102, State.READY)):
        history.add(Observation(START + second * SECOND, status(state, front=counts())))
    view = history.camera("front", "/image", 1.0)
    assert view is not None
    assert view.silent_s == 2


def test_incompatible_publishers_are_reported_and_the_worst_finding_comes_first() -> None:
    found = report([(0, counts()), (40, counts())], camera_findings=["/driver on /image is not received: RELIABILITY"])
    assert found.level is Level.ERROR
    assert found.message.startswith("no image yet on /front/image; /driver on /image is not received")


def test_a_clock_that_jumps_back_starts_a_new_history() -> None:
    found = report([*streaming(10), (1, counts(330, 11, 1)), (2, counts(360, 12, 2))])
    assert (found.level, dict(found.values)["rate received [1/s]"]) == (Level.OK, "30.00")


def test_a_clock_that_stands_still_keeps_the_rates() -> None:
    found = report([*streaming(5), (5, counts(150, 5, 4.95)), (5, counts(150, 5, 4.95))])
    assert (found.level, dict(found.values)["rate received [1/s]"]) == (Level.OK, "30.00")


def test_an_engine_that_starts_counting_again_starts_a_new_history() -> None:
    found = report([*streaming(5), (6, counts(30, 1, 5.95)), (7, counts(60, 2, 6.95))])
    assert dict(found.values)["rate received [1/s]"] == "30.00"


@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(-3, 40), st.integers(0, 50), st.integers(0, 5), st.integers(-1, 2)), max_size=40
    ),
    state=st.sampled_from(State),
)
def test_any_history_gives_a_report_whose_values_are_strings(
    steps: list[tuple[int, int, int, int]], state: State
) -> None:
    history, second, figures = History(), 100, counts()
    for ahead, received, dropped, encoded in steps:
        second = max(0, second + ahead)
        figures = FrameCounts(
            figures.received + received,
            max(0, figures.encoded + encoded),  # withdrawn frames make it fall
            0,
            0,
            (("superseded", figures.dropped + dropped),),
            figures.newest_ns + received,
        )
        history.add(Observation(second * SECOND, status(state, front=figures)))
        view = history.camera("front", "/image", 1.0)
        assert view is not None
        found = camera_report(view, state)
        assert found.message
        assert all(isinstance(text, str) for pair in found.values for text in pair)
        assert float(dict(found.values)["rate ingested [1/s]"]) >= 0


def test_a_camera_unknown_to_the_engine_has_no_view() -> None:
    history = History()
    assert history.camera("front", "/image", 1.0) is None
    history.add(Observation(START, status(rear=counts())))
    assert history.camera("front", "/image", 1.0) is None


@pytest.mark.parametrize(
    ("state", "level", "message"),
    [
        (State.LOADING, Level.WARN, "loading some/model"),
        (State.READY, Level.OK, "ready"),
        (State.FAILED, Level.ERROR, "a lens cap"),
    ],
)
def test_the_level_of_the_model_follows_its_state(state: State, level: Level, message: str) -> None:
    found = model_report(status(state), "some/model", START)
    assert (found.task, found.level) == ("model", level)
    assert message in found.message


def test_the_model_reports_durations_questions_and_the_last_error() -> None:
    values = dict(model_report(status(memory=MemoryStats(encode_s=(0.1, 0.25))), "m", START).values)
    assert (values["encode a slot p50 [s]"], values["encode a slot p95 [s]"]) == ("0.1000", "0.2500")
    assert (values["answer p50 [s]"], values["answer p95 [s]"]) == ("0.5000", "1.5000")
    assert values["questions waiting"] == "0 of 4"
    assert (values["questions answered"], values["questions failed"]) == ("3", "1")
    assert values["last error"] == "a lens cap"


def test_a_full_queue_and_a_clock_that_never_began_are_warnings() -> None:
    assert model_report(replace(status(), questions_waiting=3), "m", START).level is Level.OK
    assert "BUSY" in model_report(replace(status(), questions_waiting=4), "m", START).message
    assert "/clock" in model_report(status(), "m", 0).message


def test_the_memory_reports_its_size_and_the_time_it_covers() -> None:
    figures = MemoryStats(
        slots=50,
        entries=40,
        capacity=90,
        tokens=1234,
        bytes=10**6,
        device_bytes=7,
        first_ns=START,
        last_ns=START + 90 * SECOND,
    )
    found = memory_report(status(memory=figures))
    assert (found.task, found.level) == ("memory", Level.OK)
    assert found.message == "40 of 90 entries, 1234 tokens, 90 s covered"
    values = dict(found.values)
    assert (values["bytes"], values["GPU bytes"], values["covered span [s]"]) == ("1000000", "7", "90.000")
    assert (values["prefix cache bytes"], values["prefix cache until"]) == ("0", "")
    cached = PrefixCacheStatus(bytes=5000, tokens=1300, until_ns=START)
    values = dict(memory_report(replace(status(memory=figures), prefix_cache=cached)).values)
    assert (values["prefix cache bytes"], values["prefix cache tokens"]) == ("5000", "1300")
    assert values["prefix cache until"] == f"{START // SECOND}.000"
    assert memory_report(status()).message == "empty"


def test_the_memory_reports_how_it_began_and_the_progress_of_its_rebuild() -> None:
    saved = SnapshotStatus("folder")
    under_way = MemoryStart("the memory is rebuilt from 9 of 30 archived key frames: why", 9, 4, 1, under_way=True)
    found = memory_report(replace(status(), snapshots=saved, memory_start=under_way))
    assert found.level == Level.WARN
    assert found.message == "the memory is being rebuilt from the archive: 4 of 9 key frames"
    values = dict(found.values)
    assert (values["began"], values["key frames rebuilt"]) == (under_way.sentence, "3 of 9")
    done = replace(under_way, done=9, under_way=False)
    found = memory_report(replace(status(), snapshots=saved, memory_start=done))
    assert found.level == Level.OK
    assert dict(found.values)["key frames rebuilt"] == "8 of 9"


def test_the_watches_report_what_is_active_and_what_keeps_them_from_their_checks(tiny: Qwen2VL) -> None:  # noqa: F811
    bench = Bench(tiny)
    bench.watches.add(ALWAYS)
    bench.watches.add(replace(ALWAYS, id="other", on=0.999999, off=0.999998))
    bench.see()
    bench.pass_s = 0.01
    bench.check()
    found = watches_report(bench.watches.status)
    assert (found.task, found.level, found.message) == ("watches", Level.OK, "1 of 2 watches active")
    values = dict(found.values)
    assert float(values.pop("device share")) > 0.0
    assert values == {"watches": "2", "active": "1", "events": "1", "checks missed": "0", "checks failed": "0"}
    bench.watches.config = replace(bench.watches.config, device_share=0.0)
    bench.now += 3.5
    found = watches_report(bench.watches.status)
    assert found.level is Level.WARN
    for watch_id in ("it", "other"):
        assert f"watch {watch_id}: it is not checked" in found.message
    assert int(dict(found.values)["checks missed"]) == 2 * bench.watches.status.watches[0].missed > 0


def test_without_an_engine_the_report_is_ok() -> None:
    assert model_report(None, "m", START).message == "not configured"
    assert {model_report(None, "m", START).level, memory_report(None).level} == {Level.OK}


def test_the_diagnostics_page_lists_the_thresholds() -> None:
    row = next(line for line in DIAGNOSTICS_PAGE.splitlines() if line.startswith("| camera |"))
    for threshold in (
        f"{SILENT_S:g} s",
        f"{LOST_S:g} s",
        f"over {LATE_S:g} s old",
        f"{MANY_DROPS:.0%}".replace("%", " %"),
    ):
        assert threshold in row
