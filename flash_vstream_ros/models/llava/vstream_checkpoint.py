"""Loads Flash-VStream-LLaVA in the released layout: model_type vstream, with its vision tower in any folder."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from flash_vstream_ros.memory.star import AbstractAttention, StarConfig
from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.options import LoadOptions
from flash_vstream_ros.models.weights.checkpoint import load_part, read_tokenizer
from flash_vstream_ros.models.weights.folder import read_json
from flash_vstream_ros.models.weights.load_errors import first_line
from flash_vstream_ros.models.weights.locate import find_folder
from flash_vstream_ros.models.weights.weight_files import fill, read_tensors

from .centre_crop import CentreCrop
from .flash_vstream_llava import FlashVStreamLLaVA, VStream

PROJECTOR, ATTENTION = "model.mm_projector.", "model.attention_model."
TOWER = "model.vision_tower.vision_tower.vision_model."
PUBLISHED_TOWER = "openai/clip-vit-large-patch14"
CLIP_HEAD = 64  # width of an attention head of OpenAI's towers, which does not follow from the weights
# Weights of the released checkpoint that its code does not use.
UNUSED = re.compile(
    r"model\.attention_model\.(v_proj|out_proj|out_ln)\..+|.*\.rotary_emb\.inv_freq|.*embeddings\.position_ids"
)
# Weights of a whole CLIP besides its vision tower.
NOT_VISION = re.compile(
    r"text_model\..+|text_projection\..+|visual_projection\..+|logit_scale|.*embeddings\.position_ids"
)
SETTINGS = {  # settings in config.json, with the values that are supported
    "mm_vision_select_feature": ("patch",),
    "compress_type": ("mean",),
    "video_sample_type": ("weighted_kmeans",),
    "mm_use_im_start_end": (False,),
    "mm_use_4_vision_tokens": (False,),
}


def load_llava(folder: Path, options: LoadOptions) -> FlashVStreamLLaVA:
    """Load the folder's networks and tokenizer. Raises ModelError, also for options that this family lacks."""
    refuse_options(folder, options)
    config = read_json(folder / "config.json")
    vocabulary = _number(config, folder / "config.json", "vocab_size")
    tokenizer = load_vicuna_tokenizer(folder, vocabulary)  # first, to report its errors before weights are read
    networks = load_vstream(folder, options.device, options.dtype, options.attention.kernel)
    return FlashVStreamLLaVA(
        networks, tokenizer, options.name, attention_kernel=str(options.attention), instruction=options.instruction
    )


def refuse_options(folder: Path, options: LoadOptions) -> None:
    """Raise ModelError for an option that this family does not support."""
    asked = {
        "age_text": options.age_text,
        "adapter": "" if options.adapter is None else str(options.adapter),
        "quantization": "" if options.quantization == "none" else options.quantization,
        "positions": "" if options.positions == "auto" else options.positions,
        "vision_device": "" if options.vision_device == options.device else str(options.vision_device),
    }
    for setting, value in asked.items():
        if value:
            raise ModelError(
                f"{setting} {value!r} is not supported by Flash-VStream-LLaVA, the model in {folder}: leave it out."
            )


def load_vstream(folder: Path, device: torch.device, dtype: torch.dtype, attention: str) -> VStream:
    """Load all networks of the folder. Raises ModelError, which names the wrong file, setting or weight."""
    file = folder / "config.json"
    values = read_json(file)
    star, side, width = _sizes(values, file)
    language = load_part(LlamaForCausalLM, folder, _llama(values, file), dtype, attention, _is_other_part)
    dim = _number(values, file, "mm_hidden_size")
    projector = _projector(str(values.get("mm_projector_type")), dim, language.config.hidden_size, file)
    abstract = AbstractAttention(dim, width)
    for module, prefix in ((projector, PROJECTOR), (abstract, ATTENTION)):
        tensors = _used(folder, prefix)
        fill(module, {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}, folder, prefix)
    tower, crop = _load_tower(folder, values, dtype, attention)
    if tower.config.hidden_size != dim:
        raise ModelError(f"{file}: mm_hidden_size is {dim}, but the vision tower has {tower.config.hidden_size}.")
    patches = crop.side // tower.config.patch_size
    poolings = ((patches, side), (side, star.temporal_side), (side, star.abstract_side))
    if tower.config.image_size != crop.side or any(whole % part for whole, part in poolings):
        sides = ", ".join(f"{whole} to {part}" for whole, part in poolings)
        raise ModelError(f"{file}: square token maps cannot be pooled evenly with these sides: {sides}.")
    try:
        return VStream(
            language.to(device).eval(),
            tower.to(device).eval(),
            projector.to(device, dtype).eval(),
            abstract.to(device).float().eval(),
            star,
            crop,
            _number(values, file, "mm_vision_select_layer", -2),
            side,
        )
    except RuntimeError as error:
        raise ModelError(f"The model does not fit on {device}: {first_line(error)}") from error


def load_vicuna_tokenizer(folder: Path, vocabulary: int) -> Any:
    """The folder's tokenizer. Raises ModelError if there is none or it does not fit a model of `vocabulary` ids."""
    if not (folder / "tokenizer.json").is_file() and not (folder / "tokenizer.model").is_file():
        raise ModelError(
            f"{folder} has no tokenizer: neither tokenizer.json nor tokenizer.model. "
            "Copy it from lmsys/vicuna-7b-v1.5 or download the model again."
        )
    if not (folder / "tokenizer.json").is_file() and not (find_spec("sentencepiece") and find_spec("google")):
        raise ModelError(
            f"{folder / 'tokenizer.model'} needs two packages to be read: pip install sentencepiece protobuf"
        )
    tokenizer = read_tokenizer(folder, LlamaConfig())
    known = tokenizer.get_vocab()
    if tokenizer.bos_token is None or tokenizer.eos_token is None or max(known.values()) >= vocabulary:
        raise ModelError(
            f"The tokenizer in {folder} does not belong to the model: it needs <s>, </s> and ids below {vocabulary}."
        )
    return tokenizer


def _is_other_part(name: str) -> bool:
    return name.startswith((PROJECTOR, ATTENTION, TOWER)) or bool(UNUSED.fullmatch(name))


def _used(folder: Path, prefix: str) -> dict[str, Tensor]:
    return read_tensors(folder, lambda name: name.startswith(prefix) and not UNUSED.fullmatch(name))


def _sizes(values: dict[str, Any], file: Path) -> tuple[StarConfig, int, int]:
    """Sizes of the memory, side of a frame in tokens, and width of the abstract memory's attention."""
    for name, known in SETTINGS.items():
        if values.get(name, known[0]) not in known:
            raise ModelError(f"{file}: {name} is {values[name]!r}, but only {known[0]!r} is supported.")
    try:
        star = StarConfig(
            spatial_frames=_number(values, file, "video_current_memory_length", 1),
            temporal_clusters=_number(values, file, "video_long_memory_length"),
            temporal_side=_number(values, file, "compress_long_memory_size"),
            abstract_slots=_number(values, file, "video_Turing_memory_length"),
            abstract_side=_number(values, file, "compress_Turing_memory_size"),
            update_ratio=float(values.get("compress_Turing_update_ratio", 0.2)),
        )
    except (TypeError, ValueError) as error:
        raise ModelError(f"{file} describes no STAR memory: {error}") from error
    return star, _number(values, file, "compress_size"), _number(values, file, "compress_Turing_hidden_dim", 32)


def _number(values: dict[str, Any], file: Path, name: str, default: int | None = None) -> int:
    value = values.get(name, default)
    if not isinstance(value, int):
        raise ModelError(f"{file}: {name} is {value!r}, not a whole number.")
    return value


def _llama(values: dict[str, Any], file: Path) -> Any:
    try:
        return LlamaConfig.from_dict({**values, "model_type": "llama", "architectures": ["LlamaForCausalLM"]})
    except Exception as error:
        raise ModelError(f"{file} does not describe a Llama: {first_line(error)}") from error


def _projector(kind: str, dim: int, width: int, file: Path) -> nn.Sequential:
    depth = re.fullmatch(r"mlp(\d+)x_gelu", kind)
    if not depth:
        raise ModelError(f"{file}: mm_projector_type is {kind!r}, but only mlp2x_gelu, mlp3x_gelu, ... are supported.")
    layers: list[nn.Module] = [nn.Linear(dim, width)]
    for _ in range(int(depth[1]) - 1):
        layers += [nn.GELU(), nn.Linear(width, width)]
    return nn.Sequential(*layers)


def _load_tower(folder: Path, values: dict[str, Any], dtype: torch.dtype, attention: str) -> tuple[Any, CentreCrop]:
    """Load the vision tower from the folder that the config names, else from the weights, else from the hub."""
    name = str(values.get("mm_vision_tower", PUBLISHED_TOWER))
    place = next((place for place in _places(folder, name) if (place / "config.json").is_file()), None)
    if place is None:
        inside = _used(folder, TOWER)
        if inside:
            return _tower_inside(folder, inside, dtype, attention)
        place = _from_hub(folder, name)
    try:
        config = CLIPVisionConfig.from_pretrained(place, local_files_only=True)
    except Exception as error:
        raise ModelError(f"{place / 'config.json'} does not describe a CLIP: {first_line(error)}") from error
    tower = load_part(CLIPVisionModel, place, config, dtype, attention, lambda name: bool(NOT_VISION.fullmatch(name)))
    file = place / "preprocessor_config.json"
    try:
        return tower, CentreCrop.of(read_json(file)) if file.is_file() else _crop_of(config)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{file} is not CLIP's preprocessing: {error}") from error


def _tower_inside(
    folder: Path, tensors: dict[str, Tensor], dtype: torch.dtype, attention: str
) -> tuple[Any, CentreCrop]:
    """Load a tower without a config; its sizes follow from the shapes of its weights."""
    try:
        width, _, patch, _ = tensors[f"{TOWER}embeddings.patch_embedding.weight"].shape
        side = round((len(tensors[f"{TOWER}embeddings.position_embedding.weight"]) - 1) ** 0.5)
        layers = {name.split(".")[6] for name in tensors if name.startswith(f"{TOWER}encoder.layers.")}
        config = CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=len(tensors[f"{TOWER}encoder.layers.0.mlp.fc1.weight"]),
            num_hidden_layers=len(layers),
            num_attention_heads=width // CLIP_HEAD,
            image_size=side * patch,
            patch_size=patch,
            attn_implementation=attention,
        )
    except KeyError as error:
        raise ModelError(f"The weights in {folder} lack {error.args[0]}. Download the model again.") from error
    tower = CLIPVisionModel(config).to(dtype)
    own = "vision_model." if any(name.startswith("vision_model.") for name in tower.state_dict()) else ""
    fill(tower, {own + name.removeprefix(TOWER): tensor for name, tensor in tensors.items()}, folder, TOWER)
    return tower, _crop_of(config)


def _crop_of(config: Any) -> CentreCrop:
    return CentreCrop(config.image_size, config.image_size)


def _places(folder: Path, name: str) -> list[Path]:
    """Folders that may contain a tower: relative to the model, to its parent, and to the working directory."""
    given = Path(name).expanduser()
    return [base / part for part in (given, Path(given.name)) for base in (folder, folder.parent, Path.cwd())]


def _from_hub(folder: Path, name: str) -> Path:
    hub = PUBLISHED_TOWER if Path(name).name == Path(PUBLISHED_TOWER).name else name
    try:
        return find_folder(hub)
    except ModelError as error:
        looked = ", ".join(dict.fromkeys(str(place) for place in _places(folder, name)))
        raise ModelError(
            f"{folder / 'config.json'} names the vision tower {name!r}, which is in none of {looked}. {error}"
        ) from error
