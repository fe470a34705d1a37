"""Questions about intervals that the memory no longer shows are answered from the archive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_engine import (
    CONFIG,
    SECOND,
    Failing,
    Halting,
    ask,
    frame,
    image,
    model,
    running,
    settled,
    wait_until,
    watch,
)

from flash_vstream_ros.engine.answering import recollection
from flash_vstream_ros.engine.answering.dialogue import NO_ARCHIVE, NOTHING_ARCHIVED
from flash_vstream_ros.engine.answering.question import Answer, ErrorCode, Question
from flash_vstream_ros.engine.answering.recollection import Recollection
from flash_vstream_ros.engine.answering.request import KeyFrameProgress, Request
from flash_vstream_ros.engine.answering.request_queue import RequestQueue
from flash_vstream_ros.engine.archive.archive_config import ArchiveConfig
from flash_vstream_ros.engine.archive.key_frame import KeyFrame
from flash_vstream_ros.engine.archive.recall import Match, spread
from flash_vstream_ros.engine.engine import Engine
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.memory.scope import Scope
from flash_vstream_ros.models.interface import VisionLanguageModel

__all__ = ["model"]  # a fixture

EARLY = Scope(since_ns=4 * SECOND, until_ns=13 * SECOND)
SMALL = replace(CONFIG, memory=FlashMemoryConfig(csm_slots=4, dam_slots=1, exemplars=1))


@contextmanager
def archiving(folder: Path, load: Callable[[], Any], **slots: int) -> Iterator[tuple[Engine, list[str]]]:
    """An engine whose small memory has seen 30 slots, all archived. `slots` are settings of the archive."""
    archive = ArchiveConfig(str(folder), 3600.0, 0.1, **slots)
    with running(replace(SMALL, archive=archive), load) as (engine, warnings):
        watch(engine, range(1, 61))
        wait_until(lambda: engine.status().archive.written == 30)
        yield engine, warnings


def test_the_progress_of_key_frames_comes_before_the_text(model: VisionLanguageModel, tmp_path: Path) -> None:
    with archiving(tmp_path, lambda: model) as (engine, _):
        request = engine.ask(Question("What was there?", EARLY))
        pieces = list(request.pieces())
        assert pieces[:7] == [KeyFrameProgress(done, 6) for done in range(7)]
        assert not [piece for piece in pieces[7:] if isinstance(piece, KeyFrameProgress)]
        assert "".join(piece for piece in pieces if isinstance(piece, str)).rstrip() == request.answer(30.0).text
        assert not [piece for piece in engine.ask(Question("What?")).pieces() if isinstance(piece, KeyFrameProgress)]


def seconds_shown(answer: Answer) -> set[int]:
    return {stamp // SECOND for one in answer.evidence for stamp in (one.entry.first_ns, one.entry.last_ns)}


def test_a_question_about_an_early_interval_is_answered_from_the_archive(
    model: VisionLanguageModel, tmp_path: Path
) -> None:
    with archiving(tmp_path, lambda: model) as (engine, warnings):
        slots = engine.status().memory.slots
        answer = ask(engine, scope=EARLY)
        assert answer.error_code is ErrorCode.NONE, answer
        assert answer.text
        (adjustment,) = answer.adjustments
        assert adjustment.startswith("answered from 6 of 6 archived key frames of the interval")
        assert (answer.covered_since_ns, answer.covered_until_ns) == (3 * SECOND, 14 * SECOND)  # slots that touch it
        assert answer.newest_ns == 60 * SECOND
        assert seconds_shown(answer) <= set(range(3, 15))
        assert all(one.entry.thumbnail for one in answer.evidence)
        assert engine.status().memory.slots == slots
        assert ask(engine).adjustments == ()
        assert not warnings


def test_a_search_in_an_early_interval_finds_archived_moments(model: VisionLanguageModel, tmp_path: Path) -> None:
    with archiving(tmp_path, lambda: model) as (engine, warnings):
        slots = engine.status().memory.slots
        found = ask(engine, "red ball", scope=EARLY, moments=64)
        alike = ask(engine, "", scope=EARLY, moments=64, image=image(8))
        everything = ask(engine, "red ball", moments=3)
        assert engine.status().memory.slots == slots
    assert not warnings
    for answer in (found, alike):
        assert answer.error_code is ErrorCode.NONE, answer
        assert not answer.text
        assert answer.adjustments[0].startswith("searched in 6 of 6 archived key frames of the interval")
        assert seconds_shown(answer) <= set(range(3, 15))
        shares = [one.relevance for one in answer.evidence]
        assert shares == sorted(shares, reverse=True)
        assert all(one.entry.thumbnail for one in answer.evidence)
    assert alike.evidence[0].entry.last_ns == 8 * SECOND
    assert everything.adjustments == ()


def test_a_search_of_the_archive_takes_several_looks_and_shows_the_best_of_all(
    model: VisionLanguageModel, tmp_path: Path
) -> None:
    with archiving(tmp_path, lambda: model) as (engine, warnings), pytest.MonkeyPatch.context() as patch:
        patch.setattr(recollection, "LOOK_SLOTS", 8)
        slots = engine.status().memory.slots
        request = engine.ask(Question("red ball", moments=3, archived=True))
        progress = [piece for piece in request.pieces() if isinstance(piece, KeyFrameProgress)]
        found = request.answer(30.0)
        alike = ask(engine, "", moments=64, archived=True, image=image(8))
        early = ask(engine, "red ball", moments=64, archived=True, scope=EARLY)
        assert engine.status().memory.slots == slots
        assert ask(engine, "red ball", moments=3).adjustments == ()
    assert not warnings
    assert progress == [KeyFrameProgress(done, 30) for done in range(31)]
    assert (len(found.evidence), len(alike.evidence)) == (3, 4)  # the memory has four clusters
    for answer in (found, alike):
        assert answer.error_code is ErrorCode.NONE, answer
        assert answer.adjustments == ("searched in 30 of 30 archived key frames",)
        assert (answer.covered_since_ns, answer.covered_until_ns) == (1 * SECOND, 60 * SECOND)
        relevance = [one.relevance for one in answer.evidence]
        assert relevance == sorted(relevance, reverse=True)
    assert alike.evidence[0].entry.last_ns == 8 * SECOND
    assert early.adjustments == ("searched in 6 of 6 archived key frames",)
    assert seconds_shown(early) <= set(range(3, 15))


def test_the_number_of_key_frames_of_a_search_of_the_archive_is_bounded(
    model: VisionLanguageModel, tmp_path: Path
) -> None:
    with archiving(tmp_path, lambda: model, search_slots=12) as (engine, _):
        assert ask(engine, "red ball", moments=3, archived=True).adjustments == (
            "searched in 12 of 30 archived key frames",
        )
        nothing = ask(engine, "red ball", moments=3, archived=True, scope=Scope(since_ns=99 * SECOND))
        assert (nothing.error_code, nothing.error_msg) == (ErrorCode.NO_FRAMES, NOTHING_ARCHIVED)
    with archiving(tmp_path / "off", lambda: model, search_slots=0) as (engine, _):
        refused = ask(engine, "red ball", moments=3, archived=True)
        assert (refused.error_code, refused.error_msg) == (ErrorCode.INVALID_REQUEST, NO_ARCHIVE)


def test_a_search_of_a_damaged_archive_fails_with_the_reason(model: VisionLanguageModel, tmp_path: Path) -> None:
    with archiving(tmp_path, lambda: model) as (engine, _):
        (tmp_path / "archive.sqlite").rename(tmp_path / "elsewhere.sqlite")
        answer = ask(engine, "red ball", moments=3, archived=True)
    assert answer.error_code is ErrorCode.INTERNAL
    assert "archive.sqlite" in answer.error_msg


def test_what_is_forgotten_during_a_search_of_the_archive_is_not_found(
    model: VisionLanguageModel, tmp_path: Path
) -> None:
    """The forgotten key frames are in another look than the one under way."""
    halting = Halting(model)
    with archiving(tmp_path, lambda: halting) as (engine, _), pytest.MonkeyPatch.context() as patch:
        patch.setattr(recollection, "LOOK_SLOTS", 1)
        halting.armed = True
        request = engine.ask(Question("red ball", moments=3, archived=True))
        assert halting.halted.wait(60.0)
        engine.submit(lambda commands: commands.forget(Scope(since_ns=50 * SECOND)))
        halting.released.set()
        assert request.answer(60.0).error_code is ErrorCode.CANCELLED


def test_a_question_does_not_wait_for_a_search_in_the_archive(model: VisionLanguageModel, tmp_path: Path) -> None:
    """The question arrives when the first key frame of the search is encoded."""
    with archiving(tmp_path, lambda: model) as (engine, _), pytest.MonkeyPatch.context() as patch:
        late: list[Request] = []
        finished: list[str] = []
        insert, finish = Recollection._insert, RequestQueue.finish

        def ask_first(recollection: Recollection, frame: KeyFrame) -> None:
            if not late:
                late.append(engine.ask(Question("Who?")))
            insert(recollection, frame)

        def note(queue: RequestQueue, request: Request, answer: Answer) -> None:
            finished.append(request.question.text)
            finish(queue, request, answer)

        patch.setattr(Recollection, "_insert", ask_first)
        patch.setattr(RequestQueue, "finish", note)
        found = ask(engine, "red ball", scope=EARLY, moments=3)
        assert late[0].answer(30.0).error_code is ErrorCode.NONE
    assert finished == ["Who?", "red ball"]
    assert found.error_code is ErrorCode.NONE
    assert found.adjustments[0].startswith("searched in 6 of 6")


def test_a_recent_interval_is_answered_from_the_memory(model: VisionLanguageModel, tmp_path: Path) -> None:
    with archiving(tmp_path, lambda: model) as (engine, _):
        assert ask(engine, scope=Scope(since_ns=59 * SECOND)).adjustments == ()


def test_at_most_so_many_key_frames_are_encoded(model: VisionLanguageModel, tmp_path: Path) -> None:
    with archiving(tmp_path, lambda: model, question_slots=12) as (engine, _):
        (adjustment,) = ask(engine, scope=Scope(until_ns=52 * SECOND)).adjustments
        assert adjustment.startswith("answered from 12 of 26 archived key frames")
    with archiving(tmp_path / "off", lambda: model, question_slots=0) as (engine, _):
        assert ask(engine, scope=EARLY).adjustments == ()


def test_what_is_spread_over_an_interval_is_novel() -> None:
    matches = [Match(number, number * SECOND, 1.0 if number % 10 == 3 else 0.5) for number in range(100)]
    assert [match.id for match in spread(matches[::-1], 10)] == [10 * part + 3 for part in range(10)]
    assert spread(matches[::-1], 100) == matches
    assert len(spread(matches, 7)) == 7


def test_a_forgotten_interval_is_not_recalled(model: VisionLanguageModel, tmp_path: Path) -> None:
    with archiving(tmp_path, lambda: model) as (engine, _):
        forgotten = engine.submit(lambda commands: (commands.forget(EARLY), commands.erase_from_disk(EARLY)))
        erased = forgotten.result(30.0)[1].archive
        assert erased is not None
        assert erased.result(30.0) == 6
        answer = ask(engine, scope=EARLY)
        assert answer.error_code is ErrorCode.NO_FRAMES


def test_a_damaged_archive_is_no_reason_not_to_answer(model: VisionLanguageModel, tmp_path: Path) -> None:
    with archiving(tmp_path, lambda: model) as (engine, warnings):
        whole = ask(engine, scope=EARLY)
        assert whole.adjustments
        (tmp_path / "archive.sqlite").rename(tmp_path / "elsewhere.sqlite")
        answer = ask(engine, scope=EARLY)
        assert answer.error_code in (ErrorCode.NONE, ErrorCode.NO_FRAMES)
        assert answer.adjustments == ()
        assert any("a question is answered without the archive" in sentence for sentence in warnings)


@pytest.mark.parametrize("how", ["cancel", "forget", "stop"])
def test_a_recollection_can_be_ended(how: str, model: VisionLanguageModel, tmp_path: Path) -> None:
    halting = Halting(model)
    with archiving(tmp_path, lambda: halting) as (engine, _):
        halting.armed = True
        request = engine.ask(Question("What was there?", EARLY, id="early"))
        assert halting.halted.wait(60.0)
        stopping = threading.Thread(target=engine.stop)
        if how == "cancel":
            assert engine.cancel("early")
        elif how == "forget":
            engine.submit(lambda commands: commands.forget(Scope(until_ns=5 * SECOND)))
        else:
            stopping.start()
            wait_until(engine._stop.is_set)
        halting.released.set()
        assert request.answer(60.0).error_code is ErrorCode.CANCELLED
        assert halting.slots == 1
        if how == "stop":
            stopping.join()
        else:
            halting.armed = False
            assert ask(engine, scope=Scope(since_ns=8 * SECOND, until_ns=13 * SECOND)).adjustments


def test_frames_wait_for_one_slot_of_a_recollection_at_most(model: VisionLanguageModel, tmp_path: Path) -> None:
    halting = Halting(model)
    with archiving(tmp_path, lambda: halting) as (engine, _):
        halting.armed = True
        seen: list[int] = []
        halting.on_encode = lambda: seen.append(engine.status().memory.slots)
        request = engine.ask(Question("What was there?", EARLY))
        assert halting.halted.wait(60.0)
        for number in (61, 62):
            engine.offer(frame(number))
        wait_until(lambda: engine._worker is not None and engine._worker.ingest.prefetch.full)
        decoded = engine._worker.ingest.prefetch.submit(lambda: None)  # type: ignore[union-attr]
        decoded.result(30.0)
        halting.released.set()
        assert request.answer(60.0).error_code is ErrorCode.NONE
        wait_until(lambda: settled(engine))
        assert seen[0] == 30
        assert 31 in seen[:4]  # frame by frame: the slot of both is in the memory after two more key frames
        assert halting.slots == 6 + 1


def test_a_failing_encoder_ends_that_question_only(model: VisionLanguageModel, tmp_path: Path) -> None:
    halting = Halting(model)
    with archiving(tmp_path, lambda: halting) as (engine, warnings):
        failing = Failing(model, "encode_slots", RuntimeError("a broken kernel"))
        halting._model = failing  # type: ignore[assignment]
        assert ask(engine, scope=EARLY).error_code is ErrorCode.INTERNAL
        assert any("a broken kernel" in sentence for sentence in warnings)
        assert ask(engine, scope=EARLY).error_code is ErrorCode.NONE
