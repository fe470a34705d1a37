"""Loads a model by its name onto a device."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import torch

from .interface import ModelError, VisionLanguageModel
from .names import ADAPTER_CONFIG, TINY, is_adapter
from .options import POSITIONS, QUANTIZATIONS, AttentionChoice, LoadOptions
from .preprocess import MAX_PIXELS
from .prompt import INSTRUCTION
from .weights.adapter import base_name
from .weights.folder import model_type
from .weights.load_errors import first_line
from .weights.locate import find_folder

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ATTENTION = ("auto", "flash_attention_2", "sdpa", "eager")


def load_model(
    name: str,
    device: str = "auto",
    dtype: str = "auto",
    max_pixels: int = MAX_PIXELS,
    instruction: str = INSTRUCTION,
    attention: str = "auto",
    vision_device: str = "auto",
    quantization: str = "none",
    positions: str = "auto",
    age_text: str = "",
) -> VisionLanguageModel:
    """Load a model. Raises ModelError, whose message says what to do.

    name: folder of a model or of a LoRA adapter, hub id, "household" or "tiny-random".
    device, vision_device: "auto" or torch's name of a device. The vision tower and the memory are on `vision_device`,
        which is `device` if "auto".
    dtype: "auto" (bfloat16 or float16 on a GPU, float32 on the CPU) or one of DTYPES.
    max_pixels: largest area of a resized frame.
    instruction: sentence before every question.
    attention: one of ATTENTION.
    quantization: one of QUANTIZATIONS.
    positions: position encoding of the memory: "am_rope", as published; "video", as the base model encodes videos;
        "auto", am_rope if the weights may have been trained with it.
    age_text: text before each memory entry, with {minutes} for its age; "": none, as published.
    """
    for setting, value, known in (
        ("quantization", quantization, QUANTIZATIONS),
        ("positions", positions, POSITIONS),
    ):
        if value not in known:
            raise ModelError(f"{setting} {value!r} is unknown: use {', '.join(known)}.")
    if max_pixels < 56 * 56:
        raise ModelError(f"max_pixels is {max_pixels}, but the smallest frame that can be encoded is 56x56 = 3136.")
    language = choose_device(device)
    vision = language if vision_device == "auto" else choose_device(vision_device)
    chosen_dtype = choose_dtype(dtype, language)
    options = LoadOptions(
        name=name,
        device=language,
        dtype=chosen_dtype,
        attention=choose_attention(attention, language, chosen_dtype, vision),
        max_pixels=max_pixels,
        instruction=instruction,
        vision_device=vision,
        quantization=quantization,
        positions=positions,
        age_text=age_text,
    )
    if name == TINY:
        from .tiny import load  # imported here: transformers takes seconds to import

        return load(options)
    folder = find_folder(name)
    if is_adapter(folder):
        folder, options = _base_of_adapter(folder, options)
    family = import_module(f"{__package__}.families.{model_type(folder)}")
    try:
        model: VisionLanguageModel = family.load(folder, options)
    except ModelError:
        raise
    except Exception as error:  # libraries raise any exception for a damaged file
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ModelError(f"The model in {folder} failed to load ({reason}): download it again.") from error
    return model


def choose_device(name: str) -> torch.device:
    """The device with this name; "auto" is the first CUDA device, or the CPU if there is none."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ModelError(f"Device {name!r} is unknown: use auto, cpu, cuda or cuda:N.")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
            raise ModelError(
                f"Device {name!r} is not available: torch {torch.__version__} ({built}) sees {count} CUDA devices. "
                "Use device auto or cpu, or install a torch built for this machine's CUDA driver."
            )
        return torch.device("cuda", device.index or 0)
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype with this name; "auto" is half precision on CUDA and float32 elsewhere."""
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if name not in DTYPES:
        raise ModelError(f"dtype {name!r} is unknown: use auto, {', '.join(DTYPES)}.")
    return DTYPES[name]


def choose_attention(
    name: str, device: torch.device, dtype: torch.dtype, vision_device: torch.device | None = None
) -> AttentionChoice:
    """The kernel with this name; "auto" is flash-attn if it can run here, else SDPA. Raises ModelError."""
    if name not in ATTENTION:
        raise ModelError(f"attention {name!r} is unknown: use {', '.join(ATTENTION)}.")
    if name in ("sdpa", "eager"):
        return AttentionChoice(name, "as configured")
    obstacle = _flash_obstacle(vision_device or device, dtype) or _flash_obstacle(device, dtype)
    if not obstacle:
        return AttentionChoice("flash_attention_2", "flash-attn is installed")
    if name == "flash_attention_2":
        raise ModelError(f"attention flash_attention_2 cannot run: {obstacle}. Use attention auto or sdpa.")
    return AttentionChoice("sdpa", obstacle)


def _base_of_adapter(folder: Path, options: LoadOptions) -> tuple[Path, LoadOptions]:
    """The folder of an adapter's base model, and the options to merge the adapter."""
    base = base_name(folder)
    if options.quantization != "none":
        raise ModelError(
            f"{folder} is a LoRA adapter, which cannot be merged into quantised weights: use quantization none, or "
            "merge it on a machine with enough memory, save the result, and name its folder."
        )
    try:
        return find_folder(base), replace(options, adapter=folder)
    except ModelError as error:
        raise ModelError(
            f"{folder} is a LoRA adapter over {base!r}, which failed to load: {error} "
            f"Or set base_model_name_or_path in {folder / ADAPTER_CONFIG} to the folder of that model."
        ) from error


def _flash_obstacle(device: torch.device, dtype: torch.dtype) -> str:
    """The reason why flash-attn cannot run on this machine; "" if it can."""
    if device.type != "cuda":
        return f"flash-attn needs a CUDA device, this is {device.type}"
    if dtype == torch.float32:
        return "flash-attn needs float16 or bfloat16"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "flash-attn needs a GPU of compute capability 8.0 or newer"

    from transformers.utils import is_flash_attn_2_available

    return _flash_import_error() if is_flash_attn_2_available() else "flash-attn 2.3.3 or newer is not installed"


def _flash_import_error() -> str:
    """The error when flash-attn is imported, for example if it was built for another version of torch; "" if none."""
    try:
        import_module("flash_attn")
    except Exception as error:  # a broken C extension raises anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"flash-attn does not import: {reason}"
    return ""
