"""Qwen2-VL 2B and 7B, and models trained from them with Flash Memory."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.model_kind import CONFIG_KEY, ModelKind
from flash_vstream_ros.models.options import LoadOptions
from flash_vstream_ros.models.preprocess import CLIP, PixelScale
from flash_vstream_ros.models.qwen2_vl import Qwen2VL
from flash_vstream_ros.models.video_prompt import VideoPrompted, VideoPromptedQwen2
from flash_vstream_ros.models.weights.checkpoint import (
    QWEN2_VL,
    Architecture,
    load_network,
    load_tokenizer,
    read_config,
)
from flash_vstream_ros.models.weights.folder import read_json

ARCHITECTURE = QWEN2_VL
Model = TypeVar("Model", bound=Qwen2VL)


def load(folder: Path, options: LoadOptions) -> Qwen2VL:
    """Load a model from a folder in the hub's layout. Raises ModelError."""
    return load_as(ARCHITECTURE, VideoPromptedQwen2 if options.positions == "video" else Qwen2VL, folder, options)


def load_as(
    architecture: Architecture, model: type[Model], folder: Path, options: LoadOptions, scale: PixelScale = CLIP
) -> Model:
    """Load a folder of any Qwen-VL family as an instance of the class `model`. Raises ModelError."""
    if options.positions == "am_rope" and issubclass(model, VideoPrompted):
        raise ModelError(
            f"positions am_rope needs weights trained from Qwen2-VL, and this is a {architecture.title}: "
            "use positions auto or video."
        )
    if options.age_text and issubclass(model, VideoPrompted):
        raise ModelError(
            f"age_text {options.age_text!r} needs positions am_rope; this {architecture.title} gets the memory as "
            "videos with times: leave age_text empty."
        )
    # The tokenizer first: its errors are reported at once, while weights take minutes.
    tokenizer = load_tokenizer(folder, read_config(folder, architecture), architecture)
    network = load_network(
        folder,
        options.device,
        options.dtype,
        options.attention.kernel,
        architecture,
        vision_device=options.vision_device,
        quantization=options.quantization,
        adapter=options.adapter,
    )
    return model(
        network,
        tokenizer,
        options.name,
        kind=ModelKind.DEMO if read_json(folder / "config.json").get(CONFIG_KEY) is True else ModelKind.TRAINED,
        attention_kernel=str(options.attention),
        max_pixels=options.max_pixels,
        instruction=options.instruction,
        age_text=options.age_text,
        scale=scale,
    )
