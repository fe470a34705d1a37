"""The released Flash-VStream-Qwen: Qwen2-VL with other weights, and with settings of its memory in config.json."""

from .qwen2_vl import ARCHITECTURE, load

__all__ = ["ARCHITECTURE", "load"]
