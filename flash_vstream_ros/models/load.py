"""load_model: a name becomes a model on a device, or a ModelError whose sentence says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from .interface import ModelError, VisionLanguageModel
from .names import HOUSEHOLD, HOUSEHOLD_FOLDER, TINY
from .preprocess import MAX_PIXELS
from .prompt import INSTRUCTION

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ATTENTION = ("auto", "flash_attention_2", "sdpa", "eager")
MODEL_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja"]


class AttentionChoice(NamedTuple):
    """The kernel that attention runs with, and why."""

    kernel: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kernel} ({self.reason})"


def load_model(
    name: str,
    device: str = "auto",
    dtype: str = "auto",
    max_pixels: int = MAX_PIXELS,
    instruction: str = INSTRUCTION,
    attention: str = "auto",
    age_text: str = "",
) -> VisionLanguageModel:
    """Loads a Qwen2-VL or a released Flash-VStream-Qwen, ready to encode and answer.

    `name` is a folder, a hub id, "household" or "tiny-random"; `device` "auto" or torch's name of one; `dtype` "auto"
    (bfloat16 on a GPU that has it, else float16; float32 on the CPU) or one of DTYPES; `max_pixels` the area that a
    frame is resized to at most; `instruction` the sentence before every question; `attention` one of ATTENTION.
    `age_text` is what the model is told before each memory entry, with {minutes} for how long ago it was last seen;
    "": nothing, as published. Raises ModelError.
    """
    chosen_device = choose_device(device)
    chosen_dtype = choose_dtype(dtype, chosen_device)
    choice = choose_attention(attention, chosen_device, chosen_dtype)
    if max_pixels < 56 * 56:
        raise ModelError(f"max_pixels is {max_pixels}, but the smallest frame that can be encoded is 56x56 = 3136.")
    if name == TINY:
        network, tokenizer = _tiny(chosen_device, chosen_dtype, choice.kernel)
    else:
        network, tokenizer = _stored(find_folder(name), chosen_device, chosen_dtype, choice.kernel)

    from .qwen2_vl import Qwen2VL  # transformers takes seconds to import, and tools that load no model need not wait

    return Qwen2VL(network, tokenizer, name, name != TINY, str(choice), max_pixels, instruction, age_text)


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" is the first CUDA device, else the CPU."""
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
    """The dtype called `name`; "auto" is half precision on CUDA and float32 elsewhere."""
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if name not in DTYPES:
        raise ModelError(f"dtype {name!r} is unknown: use auto, {', '.join(DTYPES)}.")
    return DTYPES[name]


def choose_attention(name: str, device: torch.device, dtype: torch.dtype) -> AttentionChoice:
    """flash-attn where it is installed and can run, else PyTorch's own kernels; ModelError when it cannot be had."""
    if name not in ATTENTION:
        raise ModelError(f"attention {name!r} is unknown: use {', '.join(ATTENTION)}.")
    if name in ("sdpa", "eager"):
        return AttentionChoice(name, "as asked")
    obstacle = _flash_obstacle(device, dtype)
    if not obstacle:
        return AttentionChoice("flash_attention_2", "flash-attn is installed")
    if name == "flash_attention_2":
        raise ModelError(f"attention flash_attention_2 cannot run: {obstacle}. Use attention auto or sdpa.")
    return AttentionChoice("sdpa", obstacle)


def find_folder(name: str) -> Path:
    """The folder called `name`, the one in this package, or that of a hub model, downloaded when not in the cache."""
    if name == HOUSEHOLD:
        return HOUSEHOLD_FOLDER
    folder = Path(name).expanduser().absolute()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise ModelError(f"{folder} is a file: name the folder that it lies in.")
    if not name or name[0] in "./~\\" or name.count("/") != 1:
        raise ModelError(
            f"There is no model folder {folder}. Name a folder, a hub id such as owner/model, "
            f"{HOUSEHOLD!r} or {TINY!r}."
        )
    return _download(name, folder)


def _download(name: str, folder: Path) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    from .checkpoint import quiet

    tried = f"There is no folder {folder}, and the model {name!r}"
    try:
        with quiet():
            return Path(snapshot_download(name, allow_patterns=MODEL_FILES))
    except GatedRepoError as error:
        raise ModelError(f"{tried} is gated: accept its terms on the hub and log in with `hf auth login`.") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"{tried} is not on {constants.ENDPOINT}: check the spelling, or log in if private."
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        offline = constants.is_offline_mode()
        why = "HF_HUB_OFFLINE is set" if offline else f"{constants.ENDPOINT} cannot be reached"
        raise ModelError(
            f"{tried} is not complete in the cache {constants.HF_HUB_CACHE}, while {why}. Run `hf download {name}` "
            "where there is a network, or copy the model and give its folder."
        ) from error


def _stored(folder: Path, device: torch.device, dtype: torch.dtype, kernel: str) -> tuple[Any, Any]:
    from .checkpoint import load_network, load_tokenizer, read_config

    tokenizer = load_tokenizer(folder, read_config(folder))  # first: weights take minutes
    return load_network(folder, device, dtype, kernel), tokenizer


def _tiny(device: torch.device, dtype: torch.dtype, kernel: str) -> tuple[Any, Any]:
    from .tiny import tiny_network, tiny_tokenizer

    tokenizer = tiny_tokenizer()
    network = tiny_network(tokenizer, kernel)
    for parameter in network.parameters():  # not the buffers: rotary frequencies stay float32
        parameter.data = parameter.data.to(dtype)
    return network.to(device), tokenizer


def _flash_obstacle(device: torch.device, dtype: torch.dtype) -> str:
    """Why flash-attn cannot run here; "" when it can."""
    if device.type != "cuda":
        return f"flash-attn needs a CUDA device, this is {device.type}"
    if dtype == torch.float32:
        return "flash-attn needs float16 or bfloat16"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "flash-attn needs a GPU of compute capability 8.0 or newer"

    from transformers.utils import is_flash_attn_2_available

    return "" if is_flash_attn_2_available() else "flash-attn is not installed"
