"""The parameter table and the settings that are built from it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import pytest

from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.ingest.stamps import JumpBack
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.node.parameter_spec import MAX_CHARS, ParameterSpec
from flash_vstream_ros.node.parameter_table import BY_NAME, PARAMETERS
from flash_vstream_ros.node.parameters import contradictions, problems
from flash_vstream_ros.node.settings import Settings, camera_names, field_of, settings_from

DEFAULTS = {spec.name: spec.default for spec in PARAMETERS}
DERIVED = {"engine.memory.slot_period_ns", "engine.memory.patches_per_token"}  # from sample_fps, and from the model


def paths(kind: Any, prefix: str = "") -> Iterator[str]:
    """The dotted path of every field, down to those that are no dataclasses."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            yield from paths(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def test_every_setting_has_one_parameter() -> None:
    places = [field_of(spec) for spec in PARAMETERS]
    assert len(set(places)) == len(places)
    loading = {place.removeprefix("model.") for place in places if place.startswith("model.")}
    assert loading == set(inspect.signature(load_model).parameters) - {"instruction"}
    assert {place for place in places if not place.startswith("model.")} == set(paths(Settings)) - {"model"} - DERIVED


def test_the_parameter_defaults_equal_those_of_the_engine() -> None:
    assert settings_from(DEFAULTS).engine == EngineConfig(warm_up=True)


def test_each_parameter_sets_its_own_field() -> None:
    changed = {
        "time.on_jump_back": "reset",
        "memory.synopsis_slots": 7,
        "memory.key_frame_slots": 5,
        "question.max_deadline_s": 9.0,
        "summary.prompt": "What is new?",
        "cameras": ["left", "left", "not a name", "right"],
    }
    settings = settings_from({**DEFAULTS, **changed})
    assert settings.engine.on_jump_back is JumpBack.RESET
    assert (settings.engine.memory.csm_slots, settings.engine.memory.dam_slots) == (7, 5)
    assert (settings.question_limits.deadline_s, settings.summary_prompt) == (9.0, "What is new?")
    assert settings.engine.cameras == ("left", "right")


def test_the_defaults_do_not_contradict_each_other() -> None:
    assert contradictions(DEFAULTS) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"question.deadline_s": 200.0}, "'question.deadline_s' is 200.0, more than 'question.max_deadline_s', 120.0"),
        (
            {"question.max_answer_tokens": 100},
            "'question.max_new_tokens' is 128, more than 'question.max_answer_tokens', 100",
        ),
    ],
)
def test_a_default_deadline_beyond_its_limit_is_refused(values: dict[str, Any], sentence: str) -> None:
    assert problems(DEFAULTS, values, locked=True) == [sentence]


@pytest.mark.parametrize("name", ["\u00e9", "a b", "1st", "x" * 65, "", "a/b", "a\n"])
def test_a_camera_name_must_be_valid_in_a_topic(name: str) -> None:
    assert camera_names([name, "front"]) == ("front",)
    assert camera_names([name]) == ("camera",)


@pytest.mark.parametrize("spec", PARAMETERS, ids=lambda spec: spec.name)
def test_no_value_of_any_type_raises(spec: ParameterSpec) -> None:
    for value in (
        None,
        True,
        2**63 - 1,
        -(2**63),
        float("inf"),
        float("nan"),
        "x" * 10_000_000,
        ["x" * 10_000_000],
        [],
    ):
        problem = spec.problem(value)
        assert len(problem) < 1000
        assert not problem or problem.isprintable()
    assert spec.problem(spec.default) == ""


def test_a_long_text_is_refused_and_abbreviated_in_the_error() -> None:
    spec = BY_NAME["model.instruction"]
    assert spec.problem("x" * MAX_CHARS) == ""
    problem = spec.problem("forged\n[INFO] line\x1b[31m" + "x" * MAX_CHARS)
    assert problem.startswith("'model.instruction' must be at most 4096 characters long, not 'forged\\n[INFO]")
    assert len(problem) < 400
