"""The node's parameters: declared from one table, read into frozen settings, mistakes answered with the default."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.stamps import JumpBack
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.models.load import ATTENTION, DTYPES
from flash_vstream_ros.models.names import PUBLISHED_MODEL
from flash_vstream_ros.models.preprocess import MAX_PIXELS, PROCESSOR_MAX_PIXELS
from flash_vstream_ros.models.prompt import INSTRUCTION
from flash_vstream_ros.ros import (
    FloatingPointRange,
    IntegerRange,
    Node,
    ParameterDescriptor,
    ParameterException,
)

Value = bool | int | float | str | list[str]


@dataclass(frozen=True)
class ParameterSpec:
    """One row of the table. `least` and `most` bound numbers, `choices` strings; all parameters are read at start."""

    name: str
    default: Value
    description: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()

    def descriptor(self) -> ParameterDescriptor:
        described = ParameterDescriptor(description=self.description, read_only=True)
        if self.choices:
            described.additional_constraints = "one of: " + ", ".join(self.choices)
        if self.least is not None and self.most is not None:
            if isinstance(self.default, int):
                bounds = IntegerRange(from_value=int(self.least), to_value=int(self.most), step=1)
                described.integer_range = [bounds]
            else:
                described.floating_point_range = [
                    FloatingPointRange(from_value=float(self.least), to_value=float(self.most), step=0.0)
                ]
        return described


SUMMARY_PROMPT = "Describe in one or two sentences what happened."

PARAMETERS = (
    ParameterSpec("autostart", True, "Configure and activate at start; false: wait for a lifecycle manager"),
    ParameterSpec(
        "model.name",
        PUBLISHED_MODEL,
        "Hub id or folder of the model; no download: household (the demo's), tiny-random (untrained)",
    ),
    ParameterSpec(
        "model.device", "auto", "auto: CUDA when there is one, else CPU; or a torch device such as cuda:0, cpu"
    ),
    ParameterSpec(
        "model.dtype",
        "auto",
        "auto: bfloat16 on CUDA, float32 on a CPU",
        choices=("auto", *DTYPES),
    ),
    ParameterSpec(
        "model.attention",
        "auto",
        "Attention kernel. auto: flash-attn when it is installed, else PyTorch's SDPA",
        choices=ATTENTION,
    ),
    ParameterSpec(
        "model.max_pixels", MAX_PIXELS, "Largest area of a frame seen by the model [pixels]", 3136, PROCESSOR_MAX_PIXELS
    ),
    ParameterSpec("model.instruction", INSTRUCTION, "Put before every question"),
    ParameterSpec("cameras", ["camera"], "Names of the cameras. One: its topic is image; several: NAME/image each"),
    ParameterSpec(
        "image.transport",
        "raw",
        "raw: sensor_msgs/Image; compressed: sensor_msgs/CompressedImage (JPEG, PNG) on the topic's /compressed",
        choices=("raw", "compressed"),
    ),
    ParameterSpec(
        "image.reliability",
        "auto",
        "QoS asked of the cameras. auto: reliable where every publisher offers it, else best effort",
        choices=("auto", "best_effort", "reliable"),
    ),
    ParameterSpec("sample_fps", 1.0, "Frames taken into the memory per second of message time [1/s]", 0.01, 60.0),
    ParameterSpec(
        "time.on_jump_back",
        JumpBack.FORK.value,
        "After stamps jumped back: drop frames, forget the camera, or keep its memory and go on behind it",
        choices=tuple(choice.value for choice in JumpBack),
    ),
    ParameterSpec(
        "time.jump_s", 2.0, "Stamps that go back by more, and rise from there for as long, have jumped [s]", 0.1, 3600.0
    ),
    ParameterSpec(
        "memory.csm_slots", 60, "Clusters of the context synopsis memory (CSM), low resolution [slots]", 1, 4096
    ),
    ParameterSpec(
        "memory.dam_slots", 30, "Key slots of the detail augmentation memory (DAM), at most csm_slots", 1, 4096
    ),
    ParameterSpec(
        "memory.recent_slots", 1, "Newest slots of each camera, always held in DAM, within its size [slots]", 0, 4096
    ),
    ParameterSpec("memory.exemplars", 2, "Slots kept at high resolution per cluster [slots]", 1, 16),
    ParameterSpec(
        "memory.horizon_slots",
        120,
        "Longest time span seen in training; longer ones are scaled to it, 0: never [slots]",
        0,
        1000000,
    ),
    ParameterSpec(
        "memory.episode_slots",
        0.0,
        "So many slots apart, equal views count as different and are rather kept apart; 0: time does not count [slots]",
        0.0,
        1e6,
    ),
    ParameterSpec("question.queue", 4, "Questions that may wait; more are answered BUSY [questions]", 1, 64),
    ParameterSpec("question.deadline_s", 30.0, "Time for an answer when the question sets none [s]", 0.1, 3600.0),
    ParameterSpec("question.max_new_tokens", 128, "Longest answer when the question sets none [tokens]", 1, 4096),
    ParameterSpec("question.max_chars", 4096, "Longest question accepted [characters]", 1, 1000000),
    ParameterSpec("question.evidence", 3, "Memory entries returned as evidence [entries]", 0, 64),
    ParameterSpec("status.period_s", 1.0, "Time between two messages on ~/status [s]", 0.02, 60.0),
    ParameterSpec(
        "summary.period_s", 60.0, "Time between scene summaries, by the node's clock; 0: none [s]", 0.0, 86400.0
    ),
    ParameterSpec("summary.prompt", SUMMARY_PROMPT, "The question behind a scene summary"),
    ParameterSpec("summary.max_new_tokens", 64, "Longest summary [tokens]", 1, 4096),
)


@dataclass(frozen=True)
class Settings:
    """The parameters as the node uses them. `model` holds load_model's arguments."""

    autostart: bool
    model: dict[str, Any]
    engine: EngineConfig
    image_transport: str
    image_reliability: str
    status_period_s: float
    summary_period_s: float
    summary_prompt: str
    summary_max_new_tokens: int


def declare(node: Node, complain: Callable[[str], None]) -> Settings:
    """Declare every parameter and read its value; a bad override is complained of and its default used."""
    values = {spec.name: declare_one(node, spec, complain) for spec in PARAMETERS}
    for name in _unknown(node):
        close = difflib.get_close_matches(name, values, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        complain(f"unknown parameter {name!r} is ignored{hint}")
    cameras = _camera_names(values["cameras"], complain)
    csm_slots = max(values["memory.csm_slots"], len(cameras))
    if values["memory.dam_slots"] > csm_slots:
        complain(f"parameter 'memory.dam_slots' is above memory.csm_slots; {csm_slots} is used")
    return Settings(
        autostart=values["autostart"],
        model={key.removeprefix("model."): value for key, value in values.items() if key.startswith("model.")},
        engine=EngineConfig(
            cameras=cameras,
            sample_fps=values["sample_fps"],
            memory=FlashMemoryConfig(
                csm_slots=csm_slots,
                dam_slots=min(values["memory.dam_slots"], csm_slots),
                recent_slots=values["memory.recent_slots"],
                exemplars=values["memory.exemplars"],
                horizon_slots=values["memory.horizon_slots"],
                episode_slots=values["memory.episode_slots"],
            ),
            on_jump_back=JumpBack(values["time.on_jump_back"]),
            jump_s=values["time.jump_s"],
            question_queue=values["question.queue"],
            deadline_s=values["question.deadline_s"],
            max_new_tokens=values["question.max_new_tokens"],
            max_question_chars=values["question.max_chars"],
            evidence=values["question.evidence"],
        ),
        image_transport=values["image.transport"],
        image_reliability=values["image.reliability"],
        status_period_s=values["status.period_s"],
        summary_period_s=values["summary.period_s"],
        summary_prompt=values["summary.prompt"],
        summary_max_new_tokens=values["summary.max_new_tokens"],
    )


def declare_one(node: Node, spec: ParameterSpec, complain: Callable[[str], None]) -> Any:
    """The value of one parameter, declared now where it is not yet; a bad override is complained of."""
    known = node.has_parameter(spec.name)
    value = node.get_parameter(spec.name).value if known else _first_value(node, spec, complain)
    if spec.choices and value not in spec.choices:
        complain(f"parameter {spec.name!r} is {value!r}, not {' or '.join(spec.choices)}; {spec.default!r} is used")
        value = spec.default
    return value


def _first_value(node: Node, spec: ParameterSpec, complain: Callable[[str], None]) -> Any:
    try:
        return node.declare_parameter(spec.name, spec.default, spec.descriptor()).value
    except ParameterException as error:
        complain(f"parameter {spec.name!r}: {error}; its default {spec.default!r} is used")
        return node.declare_parameter(spec.name, spec.default, spec.descriptor(), ignore_override=True).value


def _unknown(node: Node) -> list[str]:
    """Overrides given for this node that it never declared; ROS itself would say nothing of them."""
    overrides = getattr(node, "_parameter_overrides", {})
    return sorted(name for name in overrides if not node.has_parameter(name) and not name.startswith("qos_overrides."))


def _camera_names(names: list[str], complain: Callable[[str], None]) -> tuple[str, ...]:
    usable = tuple(dict.fromkeys(name for name in names if name.isidentifier()))
    if len(usable) < len(names):
        complain(f"parameter 'cameras' is {names!r}: names must differ and be letters, digits and _; using {usable!r}")
    return usable or ("camera",)
