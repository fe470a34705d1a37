"""The node's parameters: declared from one table, checked, and read into frozen settings."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flash_vstream_ros.engine.answering.uncached_reader import PrefixCacheConfig
from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.engine.ingest.stamps import JumpBack
from flash_vstream_ros.engine.ingest.static_scene import StaticLimits
from flash_vstream_ros.engine.memory_policies import POLICIES
from flash_vstream_ros.memory.config import FlashMemoryConfig
from flash_vstream_ros.models.load import ATTENTION, DTYPES
from flash_vstream_ros.models.names import PUBLISHED_MODEL
from flash_vstream_ros.models.options import POSITIONS, QUANTIZATIONS
from flash_vstream_ros.models.preprocess import MAX_PIXELS, PROCESSOR_MAX_PIXELS
from flash_vstream_ros.models.prompt import INSTRUCTION
from flash_vstream_ros.node.requests import QuestionLimits
from flash_vstream_ros.ros import FloatingPointRange, IntegerRange, Node, Parameter, ParameterDescriptor
from flash_vstream_ros.ros.cv_bridge_decoder import DECODERS
from flash_vstream_ros.ros.image_transport import COLOUR_ORDERS, DecodingConfig
from flash_vstream_ros.ros.images import MAX_PIXELS as MAX_IMAGE_PIXELS

Value = bool | int | float | str | list[str]
# An example of each type that ROS tells apart: 1 is no double.
TYPES = {bool: "a bool", int: "an integer", float: "a double, such as 1.0", str: "a string", list: "a list of strings"}


@dataclass(frozen=True)
class ParameterSpec:
    """One row of the table. `least` and `most` bound numbers, `choices` strings.

    A `dynamic` one can change while the node runs, an `initial` one is read when the node is made, the others are read
    when it is configured.
    """

    name: str
    default: Value
    description: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False
    initial: bool = False

    def problem(self, value: Any) -> str:
        """What is wrong with a value, as a sentence about this parameter; empty when nothing is."""
        expected = ""
        is_list = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
        if not is_list if isinstance(self.default, list) else type(value) is not type(self.default):
            expected = TYPES[type(self.default)]
        elif self.choices and value not in self.choices:
            expected = "one of " + ", ".join(self.choices)
        elif self.least is not None and self.most is not None and not self.least <= value <= self.most:
            expected = f"from {self.least} to {self.most}"
        return f"{self.name!r} has to be {expected}, not {value!r}" if expected else ""

    def descriptor(self) -> ParameterDescriptor:
        described = ParameterDescriptor(description=self.description, read_only=not self.dynamic)
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


LONGEST_QUEUE = 64
# load_model's arguments; the instruction can change later.
LOADED_WITH = (
    "name",
    "device",
    "vision_device",
    "dtype",
    "quantization",
    "attention",
    "positions",
    "max_pixels",
    "age_text",
    "threads",
)
SUMMARY_PROMPT = "Describe in one or two sentences what happened."

PARAMETERS = (
    ParameterSpec(
        "autostart", True, "Configure and activate at start; false: wait for a lifecycle manager", initial=True
    ),
    ParameterSpec(
        "model.name",
        PUBLISHED_MODEL,
        "Hub id or folder of a model or a LoRA adapter; no download: household (the demo's), tiny-random (untrained)",
    ),
    ParameterSpec(
        "model.device", "auto", "auto: CUDA when there is one, else CPU; or a torch device such as cuda:0, cpu"
    ),
    ParameterSpec("model.vision_device", "auto", "Device of the vision tower and the memory. auto: model.device"),
    ParameterSpec(
        "model.quantization",
        QUANTIZATIONS[0],
        "Weights of the language model in 8 or 4 bits: needs bitsandbytes and accelerate",
        choices=QUANTIZATIONS,
    ),
    ParameterSpec(
        "model.positions",
        POSITIONS[0],
        "How the memory stands in the prompt: AM-RoPE, or as the base model knows videos. auto: am_rope for Qwen2-VL",
        choices=POSITIONS,
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
    ParameterSpec(
        "model.age_text",
        "",
        "Told before each memory entry, {minutes} being how long ago it was last seen; empty: nothing, as published",
    ),
    ParameterSpec(
        "model.threads",
        0,
        "Threads that PyTorch computes with on a CPU; 0: one for each core, or OMP_NUM_THREADS of them",
        0,
        1024,
    ),
    ParameterSpec(
        "model.warm_up", True, "Encode a slot and answer a question at configure, so that the first one is no slower"
    ),
    ParameterSpec("model.instruction", INSTRUCTION, "Put before every question", dynamic=True),
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
    ParameterSpec(
        "image.decoder",
        DECODERS[0],
        "Decoder of raw images. auto: cv_bridge for the encodings that it decodes right here, else the built-in one",
        choices=DECODERS,
    ),
    ParameterSpec(
        "image.significant_bits",
        0,
        "Significant bits of 16-bit samples; 0: estimated from the images; 16: the high byte [bits]",
        0,
        16,
    ),
    ParameterSpec(
        "image.compressed_colours",
        COLOUR_ORDERS[0],
        "Compressed images whose format names rgb. standard: as viewers show them; as_named: red and blue exchanged",
        choices=COLOUR_ORDERS,
    ),
    ParameterSpec(
        "image.max_megapixels", MAX_IMAGE_PIXELS / 1e6, "Largest image accepted [million pixels]", 0.01, 1000.0
    ),
    ParameterSpec(
        "sample_fps",
        1.0,
        "Frames taken into the memory per second of message time [1/s]",
        0.01,
        60.0,
        dynamic=True,
    ),
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
        "memory.policy",
        "flash",
        "What is kept. flash: Flash Memory; star: STAR memory by the rule of its paper, Flash-VStream-LLaVA only; "
        "recent: the newest slots; uniform: evenly spaced ones",
        choices=POLICIES,
    ),
    ParameterSpec(
        "memory.synopsis_slots",
        60,
        "Clusters of the context synopsis memory (CSM), low resolution [slots]",
        1,
        4096,
        dynamic=True,
    ),
    ParameterSpec(
        "memory.key_frame_slots",
        30,
        "Key slots of the detail augmentation memory (DAM), at most synopsis_slots",
        1,
        4096,
        dynamic=True,
    ),
    ParameterSpec(
        "memory.tokens",
        0,
        "Visual tokens that synopsis and key frames may fill: both are scaled to fit; 0: not scaled [tokens]",
        0,
        1000000,
        dynamic=True,
    ),
    ParameterSpec(
        "memory.recent_slots",
        1,
        "Newest slots of each camera, always held in DAM, within its size [slots]",
        0,
        4096,
        dynamic=True,
    ),
    ParameterSpec("memory.exemplars", 2, "Slots kept at high resolution per cluster [slots]", 1, 16, dynamic=True),
    ParameterSpec(
        "memory.horizon_slots",
        120,
        "Longest time span seen in training; longer ones are scaled to it, 0: never [slots]",
        0,
        1000000,
        dynamic=True,
    ),
    ParameterSpec(
        "memory.last_seen_ids",
        False,
        "Time ids tell the model how long ago something was last seen; false: its mean time, as published",
        dynamic=True,
    ),
    ParameterSpec(
        "memory.episode_slots",
        0.0,
        "So many slots apart, equal views count as different and are rather kept apart; 0: time does not count [slots]",
        0.0,
        1e6,
        dynamic=True,
    ),
    ParameterSpec(
        "question.queue",
        4,
        "Questions that may wait; more are answered BUSY [questions]",
        1,
        LONGEST_QUEUE,
        dynamic=True,
    ),
    ParameterSpec(
        "question.deadline_s", 30.0, "Time for an answer when the question sets none [s]", 0.1, 3600.0, dynamic=True
    ),
    ParameterSpec(
        "question.max_new_tokens", 128, "Longest answer when the question sets none [tokens]", 1, 4096, dynamic=True
    ),
    ParameterSpec(
        "question.max_deadline_s",
        120.0,
        "Longest deadline that a client can set; longer ones are reduced to it [s]",
        0.1,
        86400.0,
        dynamic=True,
    ),
    ParameterSpec(
        "question.max_answer_tokens",
        1024,
        "Longest answer that a client can ask for; longer ones are reduced to it [tokens]",
        1,
        65535,
        dynamic=True,
    ),
    ParameterSpec("question.max_chars", 4096, "Longest question accepted [characters]", 1, 1000000, dynamic=True),
    ParameterSpec("question.evidence", 3, "Memory entries returned as evidence [entries]", 0, 64, dynamic=True),
    ParameterSpec(
        "prefix_cache.max_lag_s",
        0.0,
        "How far behind the newest slot an answer may be read from warm memory; 0: never behind [s]",
        0.0,
        3600.0,
        dynamic=True,
    ),
    ParameterSpec(
        "prefix_cache.tail_slots",
        0,
        "Newest slots shown after warm memory that is behind, which no model was trained with [slots]",
        0,
        64,
        dynamic=True,
    ),
    ParameterSpec(
        "prefix_cache.stable_order",
        False,
        "What is shown stays where it stood, so that less is read again, in an order that no model was trained with",
        dynamic=True,
    ),
    ParameterSpec(
        "prefix_cache.max_device_share",
        0.5,
        "Largest share of the time that reading the memory ahead may take; 0: questions alone warm it",
        0.0,
        1.0,
        dynamic=True,
    ),
    ParameterSpec(
        "prefix_cache.chunk_s",
        0.03,
        "Read ahead for about so long at once; a frame or a question that comes meanwhile waits [s]",
        0.001,
        10.0,
        dynamic=True,
    ),
    ParameterSpec(
        "prefix_cache.max_chunk_tokens", 2048, "Most tokens read ahead at once [tokens]", 1, 1000000, dynamic=True
    ),
    ParameterSpec(
        "prefix_cache.max_mib",
        1024,
        "Largest warm memory; 0: none, each question is cold [MiB]",
        0,
        1048576,
        dynamic=True,
    ),
    ParameterSpec(
        "static.threshold",
        6.0,
        "Slots in which no block's mean colour changed by more are not encoded anew; 0: all are [levels of 255]",
        0.0,
        255.0,
        dynamic=True,
    ),
    ParameterSpec(
        "static.max_interval_s",
        60.0,
        "Longest time from one encoded slot of a camera to the next, however little changes [s]",
        0.1,
        86400.0,
        dynamic=True,
    ),
    ParameterSpec("status.period_s", 1.0, "Time between two messages on ~/status [s]", 0.02, 60.0, dynamic=True),
    ParameterSpec(
        "diagnostics.period_s", 1.0, "Time between two messages on /diagnostics; 0: none [s]", 0.0, 60.0, dynamic=True
    ),
    ParameterSpec(
        "summary.period_s",
        60.0,
        "Time between scene summaries, by the node's clock; 0: none [s]",
        0.0,
        86400.0,
        dynamic=True,
    ),
    ParameterSpec("summary.prompt", SUMMARY_PROMPT, "The question behind a scene summary", dynamic=True),
    ParameterSpec("summary.max_new_tokens", 64, "Longest summary [tokens]", 1, 4096, dynamic=True),
)
BY_NAME = {spec.name: spec for spec in PARAMETERS}


@dataclass(frozen=True)
class Settings:
    """The parameters as the node uses them. `model` holds load_model's arguments."""

    autostart: bool
    model: dict[str, Any]
    engine: EngineConfig
    question_limits: QuestionLimits
    image_transport: str
    image_reliability: str
    decoding: DecodingConfig
    status_period_s: float
    diagnostics_period_s: float
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
    cameras = _camera_names(values["cameras"])
    csm_slots = max(values["memory.synopsis_slots"], len(cameras))
    sound = {
        "memory.synopsis_slots": csm_slots,
        "memory.key_frame_slots": min(values["memory.key_frame_slots"], csm_slots),
    }
    for sentence in contradictions(values):
        used = ", ".join(f"{name} {value}" for name, value in {"cameras": list(cameras), **sound}.items())
        complain(f"parameter {sentence}; used are {used}")
    node.set_parameters([Parameter(name, value=value) for name, value in sound.items() if value != values[name]])
    return settings_of(node)


def declare_one(node: Node, spec: ParameterSpec, complain: Callable[[str], None]) -> Any:
    """The value of one parameter, declared now where it is not yet; a bad override is complained of.

    One that was declared with another default, and not overridden, takes the new one.
    """
    override = _overrides(node).get(spec.name)
    if node.has_parameter(spec.name):
        value = node.get_parameter(spec.name).value
        if override is not None or value == spec.default:
            return value
        node.describe_parameter(spec.name).read_only = False
        node.undeclare_parameter(spec.name)
    problem = spec.problem(override.value) if override is not None else ""
    if problem:
        complain(f"parameter {problem}; its default {spec.default!r} is used")
    return node.declare_parameter(spec.name, spec.default, spec.descriptor(), ignore_override=bool(problem)).value


def settings_of(node: Node) -> Settings:
    """The declared parameters of `node` as they are now."""
    values = {name: node.get_parameter(name).value for name in BY_NAME}
    return Settings(
        autostart=values["autostart"],
        model={name: values[f"model.{name}"] for name in LOADED_WITH},
        engine=EngineConfig(
            cameras=_camera_names(values["cameras"]),
            sample_fps=values["sample_fps"],
            memory=FlashMemoryConfig(
                csm_slots=values["memory.synopsis_slots"],
                dam_slots=values["memory.key_frame_slots"],
                tokens=values["memory.tokens"],
                recent_slots=values["memory.recent_slots"],
                exemplars=values["memory.exemplars"],
                horizon_slots=values["memory.horizon_slots"],
                last_seen_ids=values["memory.last_seen_ids"],
                episode_slots=values["memory.episode_slots"],
            ),
            policy=values["memory.policy"],
            on_jump_back=JumpBack(values["time.on_jump_back"]),
            jump_s=values["time.jump_s"],
            question_queue=values["question.queue"],
            deadline_s=values["question.deadline_s"],
            max_new_tokens=values["question.max_new_tokens"],
            max_question_chars=values["question.max_chars"],
            evidence=values["question.evidence"],
            instruction=values["model.instruction"],
            warm=PrefixCacheConfig(
                max_lag_s=values["prefix_cache.max_lag_s"],
                tail_slots=values["prefix_cache.tail_slots"],
                stable_order=values["prefix_cache.stable_order"],
                max_device_share=values["prefix_cache.max_device_share"],
                chunk_s=values["prefix_cache.chunk_s"],
                max_chunk_tokens=values["prefix_cache.max_chunk_tokens"],
                max_mib=values["prefix_cache.max_mib"],
            ),
            warm_up=values["model.warm_up"],
            static=StaticLimits(threshold=values["static.threshold"], max_interval_s=values["static.max_interval_s"]),
        ),
        question_limits=QuestionLimits(values["question.max_deadline_s"], values["question.max_answer_tokens"]),
        image_transport=values["image.transport"],
        image_reliability=values["image.reliability"],
        decoding=DecodingConfig(
            decoder=values["image.decoder"],
            significant_bits=values["image.significant_bits"],
            compressed_colours=values["image.compressed_colours"],
            max_pixels=round(values["image.max_megapixels"] * 1e6),
        ),
        status_period_s=values["status.period_s"],
        diagnostics_period_s=values["diagnostics.period_s"],
        summary_period_s=values["summary.period_s"],
        summary_prompt=values["summary.prompt"],
        summary_max_new_tokens=values["summary.max_new_tokens"],
    )


def problems(values: Mapping[str, Any], wanted: Mapping[str, Any], *, locked: bool) -> list[str]:
    """Why `wanted` cannot replace some of `values`: a sentence for everything that is wrong.

    `locked`: what is not dynamic is in use. Parameters that are not in the table are somebody else's.
    """
    found, sound = [], dict(values)
    for name, value in wanted.items():
        if name not in BY_NAME:
            continue
        if BY_NAME[name].initial:
            found.append(f"{name!r} is read at start: start the node again")
        elif locked and not BY_NAME[name].dynamic:
            found.append(f"{name!r} is read at start: configure the node again")
        elif problem := BY_NAME[name].problem(value):
            found.append(problem)
        else:
            sound[name] = value
    return found + contradictions(sound)


def contradictions(values: Mapping[str, Any]) -> list[str]:
    """A sentence for all parameters that are sound by themselves, but not together."""
    found = []
    cameras = _camera_names(values["cameras"])
    csm_slots, dam_slots = values["memory.synopsis_slots"], values["memory.key_frame_slots"]
    if list(cameras) != list(values["cameras"]):
        found.append(f"'cameras' has to be different names of letters, digits and _, not {values['cameras']}")
    if csm_slots < len(cameras):
        found.append(f"'memory.synopsis_slots' is {csm_slots}, but each of {len(cameras)} cameras needs a slot")
    if dam_slots > csm_slots:
        found.append(f"'memory.key_frame_slots' is {dam_slots}, more than 'memory.synopsis_slots', {csm_slots}")
    return found


def _overrides(node: Node) -> Mapping[str, Parameter]:
    return getattr(node, "_parameter_overrides", {})


def _unknown(node: Node) -> list[str]:
    """Overrides given for this node that it never declared; ROS itself would say nothing of them."""
    return sorted(
        name for name in _overrides(node) if not node.has_parameter(name) and not name.startswith("qos_overrides.")
    )


def _camera_names(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name.isidentifier())) or ("camera",)
