"""Names of models, for whoever asks about them without torch."""

from pathlib import Path

PUBLISHED_MODEL = "zhang9302002/Flash-VStream-Qwen-7b"
TINY = "tiny-random"
HOUSEHOLD = "household"
HOUSEHOLD_FOLDER = Path(__file__).with_name("household")
VSTREAM = "vstream"  # model_type of Flash-VStream-LLaVA
MODEL_TYPES = ("qwen2_vl", "flash_vstream_qwen2_vl")
