"""The released Flash-VStream-LLaVA: CLIP, a projector and Vicuna."""

from flash_vstream_ros.models.llava.vstream_checkpoint import load_llava as load

__all__ = ["load"]
