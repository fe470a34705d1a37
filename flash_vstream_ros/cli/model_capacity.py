"""Checks if a model fits into the memory and on the disk of this machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from .model_files import FAIL, OK, WARN, Check, ModelFiles

GB = 1e9
RUNTIME_BYTES = 1e9  # torch and, on a GPU, CUDA
WORKING_SHARE = 0.1  # KV cache, visual memory and activations with published settings, relative to the weights
BYTES_PER_PARAMETER = {"float32": 4, "float16": 2, "bfloat16": 2}
LARGE_DOWNLOAD_BYTES = 20e9  # more than a 7B model in bfloat16
LOGS_BYTES = 0.2e9  # space that the logs need


class DeviceMemory(NamedTuple):
    """Device and dtype that `auto` chooses for a model, and the device's free and total memory [bytes]."""

    device: str
    dtype: str
    free: float
    total: float


def needed_bytes(parameters: int, dtype: str) -> float:
    """Memory that a model with this number of parameters needs [bytes]."""
    return parameters * BYTES_PER_PARAMETER[dtype] * (1 + WORKING_SHARE) + RUNTIME_BYTES


def check_model_memory(files: ModelFiles, memory: DeviceMemory | None) -> Check:
    """Check that the model fits into the memory of its device; `memory` is None if unknown."""
    name = "model memory"
    if files.check.state == FAIL:
        return Check(name, WARN, "not checked: the model's files are missing", "see model")
    if files.parameters is None:
        return Check(name, WARN, "the size of the model is unknown", "download it, then run doctor again")
    if memory is None:
        return Check(name, WARN, "the memory of this machine is unknown", "see torch and memory")
    need = needed_bytes(files.parameters, memory.dtype)
    found = (
        f"{files.parameters / 1e9:.2f} billion parameters in {memory.dtype} need about {need / GB:.1f} GB; "
        f"{memory.free / GB:.1f} of {memory.total / GB:.1f} GB are free on {memory.device}"
    )
    if need <= memory.free:
        return Check(name, OK, found)
    if need <= memory.total:
        return Check(name, FAIL, found, f"end other programs that use the memory of {memory.device}")
    smaller = "set model.quantization to 4bit or 8bit, or " if memory.device != "cpu" else "use a CUDA GPU, or "
    return Check(name, FAIL, found, f"{smaller}choose a smaller model (docs/models.md lists sizes)")


def chosen_device_memory(available: tuple[float, float] | None) -> DeviceMemory | None:
    """Memory of the device that `auto` chooses. `available`: free and total memory of the CPU [bytes]."""
    try:
        import torch

        from flash_vstream_ros.models.load import choose_device, choose_dtype

        device = choose_device("auto")
        dtype = str(choose_dtype("auto", device)).removeprefix("torch.")
        if device.type == "cuda":
            return DeviceMemory(str(device), dtype, *torch.cuda.mem_get_info(device))
    except Exception:  # a broken torch may raise any exception; its own check reports it
        return None
    return DeviceMemory("cpu", dtype, *available) if available else None


def available_memory(path: Path = Path("/proc/meminfo")) -> tuple[float, float] | None:
    """Free and total memory of the CPU [bytes]; None if unknown."""
    try:
        lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        free, total = (int(lines[key].split()[0]) * 1024.0 for key in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError, IndexError):
        return None
    return free, total


def check_disk(folder: Path, download_bytes: int | None, free: float | None = None) -> Check:
    """Check that a download of `download_bytes` fits into `folder`; None: its size is unknown."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free if free is None else free
    found = f"{free / GB:.1f} GB free at {existing}"
    if free < LOGS_BYTES:
        return Check("disk", FAIL, found, "make room: not even logs fit")
    advice = "make room, or set HF_HOME to a folder on another disk"
    if download_bytes is None:
        if free < LARGE_DOWNLOAD_BYTES:
            return Check("disk", WARN, f"{found}; the size of the download is unknown", advice)
    elif free < download_bytes + LOGS_BYTES:
        return Check("disk", FAIL, f"{found}; the model's download takes {download_bytes / GB:.1f} GB", advice)
    return Check("disk", OK, found)
