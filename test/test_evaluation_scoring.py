"""Responses are parsed without guessing, and scored as defined here and as published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_miniatures import ovo, streaming_proactive

from flash_vstream_ros.evaluation.benchmarks import BENCHMARKS
from flash_vstream_ros.evaluation.benchmarks.benchmark import load_items
from flash_vstream_ros.evaluation.item import AnswerKind, Item
from flash_vstream_ros.evaluation.parsing import exact_match, option_letter, token_f1, whole_number, yes_no
from flash_vstream_ros.evaluation.records import Record
from flash_vstream_ros.evaluation.scoring import Verdict, grade, score

OPTIONS = ("a red ball", "a dog", "the kitchen", "nothing")
CHOICE = Item("1", Path("v"), 1.0, "?", "B", AnswerKind.CHOICE, "Counting", options=OPTIONS)
OPEN = Item("1", Path("v"), 1.0, "?", "A red ball.", AnswerKind.OPEN, "all")


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("b.", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("B. a dog", "B"),
        ("(B) It is a dog.", "B"),
        ("The answer is B", "B"),
        ("Answer: (B)", "B"),
        ("The best option is: B.", "B"),
        ("A dog!", "B"),
        ("Kitchen", "C"),
        ("A. because the answer is A", "A"),
        ("A person walks by", None),
        ("The answer is a dog on a chair", None),
        ("B or C", None),
        ("The answer is B or C", None),
        ("B. a dog. The answer is C", None),
        ("E", None),
        ("I. cannot", None),
        ("The answer is A dog that", None),
        ("", None),
    ],
)
def test_option_letters(response: str, letter: str | None) -> None:
    assert option_letter(response, OPTIONS) == letter


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Yes", "yes"),
        ("yes, they are", "yes"),
        ("NO.", "no"),
        ("N", "no"),
        ("No, not yet", "no"),
        ("no idea", None),
        ("Yes and no", None),
        ("Maybe yes", None),
        ("", None),
    ],
)
def test_yes_and_no(response: str, answer: str | None) -> None:
    assert yes_no(response) == answer


@pytest.mark.parametrize(
    ("response", "number"),
    [("3", "3"), ("They jumped 03 times.", "3"), ("three", "3"), ("2 or 3", None), ("2.5", None), ("many", None)],
)
def test_whole_numbers(response: str, number: str | None) -> None:
    assert whole_number(response) == number


def test_free_texts() -> None:
    assert exact_match("the Red ball", "A red ball.")
    assert not exact_match("a ball", "A red ball.")
    assert token_f1("a ball", "A red ball.") == pytest.approx(2 / 3)
    assert token_f1("a dog", "A red ball.") == 0.0
    assert token_f1("", "") == 1.0


def test_an_unparsable_choice_is_wrong_here_and_guessed_as_published() -> None:
    ovo_bench, streaming = BENCHMARKS["ovo_bench"], BENCHMARKS["streaming_bench_real"]
    said = Record("ours", "1", response="Both Ball and dog")
    ours = grade(ovo_bench, CHOICE, said)
    assert (ours.is_right, ours.is_unparsable, ours.published) == (False, True, 1.0)
    assert grade(streaming, CHOICE, said).published == 1.0
    assert grade(streaming, CHOICE, replace(said, response="(B)")).published == 0.0
    empty = grade(streaming, CHOICE, replace(said, response=""))
    assert (empty.is_unparsable, empty.published) == (True, None)


def test_a_failed_question_counts_as_wrong() -> None:
    failed = Record("ours", "1", error="no frames")
    for record in (failed, None):
        found = grade(BENCHMARKS["ovo_bench"], CHOICE, record)
        assert (found.is_right, found.is_failed, found.published) == (False, True, 0.0)
        assert grade(BENCHMARKS["streaming_bench_real"], CHOICE, record).published is None


def test_open_answers_with_and_without_a_judge() -> None:
    rvs, said = BENCHMARKS["rvs_ego"], Record("ours", "1", response="ball")
    alone = grade(rvs, OPEN, said)
    assert (alone.is_right, alone.score, alone.published) == (False, pytest.approx(2 / 3), None)
    judged = grade(rvs, OPEN, said, Verdict(True, 4.0))
    assert (judged.is_right, judged.score, judged.published) == (True, 4.0, 1.0)
    assert grade(rvs, OPEN, said, Verdict(None)).is_unparsable
    assert grade(rvs, OPEN, replace(said, response=" ")).is_unparsable


@pytest.mark.parametrize(
    ("said", "asked_s", "is_right", "published"),
    [("Now.", 7.0, True, 0.0), ("now", 8.0, True, 1.0), ("now", 9.0, False, 0.0), ("", 10.0, False, 0.0)],
)
def test_proactive_answers_need_the_time_and_the_text(
    said: str, asked_s: float, is_right: bool, published: float, tmp_path: Path
) -> None:
    streaming_proactive(tmp_path)
    benchmark = BENCHMARKS["streaming_bench_proactive"]
    (item,), _ = load_items(benchmark, tmp_path, partial=True)
    found = grade(benchmark, item, Record("ours", item.id, response=said, asked_s=asked_s))
    assert (found.is_right, found.published) == (is_right, published)


def test_ovo_has_three_averages(tmp_path: Path) -> None:
    ovo(tmp_path)
    benchmark = BENCHMARKS["ovo_bench"]
    items, _ = load_items(benchmark, tmp_path, partial=True)
    said = {"0": "B", "1": "C", "2_0": "No", "2_1": "It is yes", "3_0": "Yes", "4_0": "1 of 10"}
    found = score(benchmark, items, [grade(benchmark, item, Record("ours", item.id, said[item.id])) for item in items])
    # Tasks: EPM 1, OCR 0, CRR 1/2 (one unparsable), SSR 1, REC 0 (unparsable); published: CRR 1/2, REC 0.
    assert found.parts["backward"].accuracy == 1.0
    assert found.parts["real-time"].accuracy == 0.0
    assert found.parts["forward"].accuracy == pytest.approx((0.5 + 1 + 0) / 3)
    averages = {name: average.accuracy for name, average in found.averages.items()}
    assert averages == {
        "(backward + real-time + forward) / 3": pytest.approx((1 + 0 + 0.5) / 3),
        "(backward + real-time) / 2": 0.5,
        "real-time only": 0.0,
    }
    assert (found.micro.n, found.micro.right, found.micro.unparsable) == (6, 3, 2)
    assert found.micro.accuracy == 0.5
    assert found.macro.accuracy == pytest.approx((1 + 0 + 0.5 + 1 + 0) / 5)


def test_an_average_without_all_its_parts_is_empty() -> None:
    benchmark = BENCHMARKS["ovo_bench"]
    item = replace(CHOICE, task="OCR", part="real-time")
    found = score(benchmark, [item], [grade(benchmark, item, Record("ours", "1", "B"))])
    assert found.averages["real-time only"].accuracy == 1.0
    assert found.averages["(backward + real-time) / 2"].accuracy is None
