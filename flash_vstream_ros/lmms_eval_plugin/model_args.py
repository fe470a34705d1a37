"""The settings of a run from lmms-eval's `--model_args`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flash_vstream_ros.evaluation.method_names import METHODS, OURS
from flash_vstream_ros.evaluation.run import RunConfig
from flash_vstream_ros.node.offline_parameters import BadParameters, checked, parameter_values
from flash_vstream_ros.node.parameter_table import BY_NAME

from .clip import Clip

DEVICE = "model.device"
FPS = 1.0
MAX_NEW_TOKENS = 128  # of tasks that set no limit


@dataclass(frozen=True)
class ModelArgs:
    """What determines the answers of the model."""

    run: RunConfig
    method: str = OURS
    fps: float | None = None  # sampling rate [1/s]; None: that of the clip, or FPS

    def at_rate_of(self, clip: Clip) -> RunConfig:
        """The settings for a clip."""
        return replace(self.run, fps=self.fps or clip.fps or FPS)


def model_args(given: Mapping[str, Any], rank_device: str | None = None) -> ModelArgs:
    """The settings in `--model_args`: pretrained, params_file, method, fps, frames_fps, instruction and parameters.

    A parameter of the node has its own name, such as memory.policy. `rank_device` is the device of this process if
    there are several. Raises BadParameters.
    """
    args = dict(given)
    file, name = args.pop("params_file", None), args.pop("pretrained", None)
    method = str(args.pop("method", OURS))
    if method not in METHODS:
        raise BadParameters(f"method is {method!r}, which is none of {', '.join(METHODS)}")
    fps = _rate("fps", args.pop("fps")) if "fps" in args else None
    frames_fps = _rate("frames_fps", args.pop("frames_fps", FPS))
    instruction = str(args.pop("instruction", ""))  # a task's prompt has its own
    if unknown := [key for key in args if key not in BY_NAME]:
        raise BadParameters(f"{unknown[0]} is neither an argument of flash_vstream nor a parameter of the node")
    values = parameter_values(file, name) | {key: _typed(key, value) for key, value in args.items()}
    if rank_device is not None:
        values[DEVICE] = rank_device
    run = RunConfig("lmms-eval", checked(values), fps or FPS, frames_fps, MAX_NEW_TOKENS, instruction)
    return ModelArgs(run, method, fps)


def _rate(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise BadParameters(f"{name} is {value!r}, but must be a rate above 0 [1/s]")
    return float(value)


def _typed(name: str, value: Any) -> Any:
    """A value as lmms-eval has parsed it, in the type of the parameter: "1" is a whole number to lmms-eval."""
    default = BY_NAME[name].default
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    return str(value) if isinstance(default, str) else value
