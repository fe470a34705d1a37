"""Names of models, for whoever asks about them without torch."""

PUBLISHED_MODEL = "zhang9302002/Flash-VStream-Qwen-7b"
TINY = "tiny-random"
MODEL_TYPES = ("qwen2_vl", "flash_vstream_qwen2_vl")
