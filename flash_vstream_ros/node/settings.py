"""Settings of the node: frozen dataclasses, built from the values of the parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from enum import Enum
from typing import Any, get_type_hints

from flash_vstream_ros.engine.config import EngineConfig
from flash_vstream_ros.ros.image_transport import DecodingConfig

from .parameter_spec import ParameterSpec
from .parameter_table import BY_NAME
from .poses.pose_config import PoseConfig
from .requests import MAX_CAMERA_CHARS, QuestionLimits

# By group of parameters: the path in Settings of the object whose fields hold their values.
GROUPS = {
    "model": "model",
    "time": "engine",
    "memory": "engine.memory",
    "question": "engine",
    "prefix_cache": "engine.prefix_cache",
    "static": "engine.static_scene",
    "archive": "engine.archive",
    "watch": "engine.watch",
    "pose": "pose",
}
_CAMERA = re.compile(rf"[A-Za-z][A-Za-z0-9_]{{0,{MAX_CAMERA_CHARS - 1}}}")


@dataclass(frozen=True)
class Settings:
    """The node's settings. `model` holds the arguments of load_model; the program applies `torch_threads`."""

    autostart: bool
    model: dict[str, Any]
    torch_threads: int
    engine: EngineConfig
    question_limits: QuestionLimits
    image_transport: str
    image_reliability: str
    decoding: DecodingConfig
    pose: PoseConfig
    status_period_s: float
    memory_view_period_s: float
    diagnostics_period_s: float
    summary_period_s: float
    summary_prompt: str
    summary_max_new_tokens: int
    report_prompt: str
    report_max_new_tokens: int


def settings_from(values: Mapping[str, Any]) -> Settings:
    """The settings from the values of all parameters in the table."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = field_of(BY_NAME[name]).split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = camera_names(value) if name == "cameras" else value
    return _build(Settings, tree)


def field_of(spec: ParameterSpec) -> str:
    """Dotted path of the settings field that holds a parameter."""
    if spec.field:
        return spec.field
    group, _, rest = spec.name.partition(".")
    return f"{GROUPS[group]}.{rest}" if group in GROUPS else spec.name.replace(".", "_")


def camera_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names that can be part of a topic, each once; "camera" if there is none."""
    return tuple(dict.fromkeys(name for name in names if _CAMERA.fullmatch(name))) or ("camera",)


def _build(kind: Any, tree: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    return kind(**{name: _converted(hints[name], value) for name, value in tree.items()})


def _converted(hint: Any, value: Any) -> Any:
    if is_dataclass(hint):
        return _build(hint, value)
    return hint(value) if isinstance(hint, type) and issubclass(hint, Enum) else value
