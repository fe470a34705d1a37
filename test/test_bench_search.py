"""The benchmark of searches: what is looked for, its controls, and that the household model finds it."""

from __future__ import annotations

import numpy as np
import pytest

from flash_vstream_ros.bench.search import BEST, Found, Search, figures, image_searches, patrol, searches, show
from flash_vstream_ros.demo.past import past_of
from flash_vstream_ros.demo.world import Truth, World
from flash_vstream_ros.engine.answering.search import SEARCH_PROMPT
from flash_vstream_ros.models.household_settings import LOADING
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.models.names import HOUSEHOLD


def test_a_frame_shows_what_is_looked_for_if_it_shows_all_of_it() -> None:
    kitchen = Truth("kitchen", ("red ball",), False)
    assert Search("thing", "red ball", frozenset(["red ball"])).is_shown_at(kitchen)
    assert Search("room", "kitchen", room="kitchen").is_shown_at(kitchen)
    assert not Search("thing in a room", "red ball in the office", frozenset(["red ball"]), "office").is_shown_at(
        kitchen
    )
    assert not Search("person", "person", person=True).is_shown_at(kitchen)


def test_everything_that_is_looked_for_was_seen() -> None:
    world = World(3, 12.0)
    for now in (60.0, 300.0, 700.0):
        frames = [world.truth(t) for t in np.arange(0.0, now, 1.0)]
        images = image_searches(world, now, np.random.default_rng(0))
        wanted = [*searches(past_of(world.visits, now), np.random.default_rng(0)), *images]
        assert {search.kind for search in wanted} >= {"thing", "thing in a room", "any colour", "room", "image"}
        for search in wanted:
            assert any(search.is_shown_at(frame) for frame in frames), search


def test_the_shares_count_what_the_memory_lost_as_not_found() -> None:
    found = [
        Found("flash", "thing", stored=True, found=True, first=False, newest=False, random=0.25),
        Found("flash", "thing", stored=False, found=False, first=False, newest=False, random=0.0),
        Found("flash", "room", stored=True, found=True, first=True, newest=True, random=0.5),
        Found("published", "room", stored=True, found=False, first=False, newest=True, random=0.5),
    ]
    rows = figures(found, "flash")
    assert list(rows) == ["all texts", "thing", "room"]
    assert rows["thing"] == {
        "searches": 2,
        "stored": 1,
        "found": 0.5,
        "found_of_stored": 1.0,
        "first_of_stored": 0.0,
        "newest": 0.0,
        "random": 0.125,
    }
    assert rows["all texts"]["found"] == pytest.approx(2 / 3)


def test_the_household_model_finds_what_it_saw(capsys: pytest.CaptureFixture[str]) -> None:
    model = load_model(HOUSEHOLD, device="cpu", **LOADING)
    found = patrol(model, 520_000, 4.0, (15.0, 15.0), SEARCH_PROMPT)
    rows = {memory: figures(found, memory) for memory in ("flash", "published")}
    for row in rows.values():
        assert row["all texts"]["searches"] >= 8
        assert row["all texts"]["found_of_stored"] >= 0.9
        assert row["all texts"]["found_of_stored"] > row["all texts"]["random"] + 0.3
        assert row["image"]["searches"] >= 2
        assert row["image"]["found_of_stored"] == 1.0
    show({"prompt": SEARCH_PROMPT, "minutes": 4.0, "memories": rows})
    printed = capsys.readouterr().out
    assert f"first {BEST} moments" in printed
    assert "thing in a room" in printed
