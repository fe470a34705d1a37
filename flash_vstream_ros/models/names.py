"""Names and kinds of models, without importing torch."""

from pathlib import Path

PUBLISHED_MODEL = "zhang9302002/Flash-VStream-Qwen-7b"
TINY = "tiny-random"
HOUSEHOLD = "household"
HOUSEHOLD_FOLDER = Path(__file__).with_name("household")
VSTREAM = "vstream"  # model_type of Flash-VStream-LLaVA
MODEL_TYPES = tuple(sorted(file.stem for file in Path(__file__).with_name("families").glob("[a-z]*.py")))
ADAPTER_CONFIG = "adapter_config.json"  # of a LoRA adapter in peft's layout


def is_adapter(folder: Path) -> bool:
    """Returns True if a folder holds an adapter and no weights of a model."""
    return (folder / ADAPTER_CONFIG).is_file() and not any(folder.glob("model*.safetensors*"))
