"""The released Flash-VStream-Qwen: a Qwen2-VL with other weights, and its memory's settings in config.json."""

from .qwen2_vl import ARCHITECTURE, load

__all__ = ["ARCHITECTURE", "load"]
