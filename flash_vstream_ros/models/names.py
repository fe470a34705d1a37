"""Names and kinds of models, without importing torch."""

import json
from pathlib import Path

from .model_kind import CONFIG_KEY

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


def is_demo_model(name: str) -> bool:
    """Returns True if a model, or an adapter's base, was trained on the demo's simulator.

    It then needs the settings of its training.
    """
    folder = HOUSEHOLD_FOLDER if name == HOUSEHOLD else Path(name).expanduser()
    try:
        if is_adapter(folder):
            base = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
            folder = HOUSEHOLD_FOLDER if base == HOUSEHOLD else Path(base).expanduser()
        return bool(json.loads((folder / "config.json").read_text(encoding="utf-8")).get(CONFIG_KEY))
    except (OSError, ValueError, AttributeError, LookupError, TypeError):
        return False  # the error is reported when the model is loaded
