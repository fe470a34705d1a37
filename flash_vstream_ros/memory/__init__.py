"""Flash Memory in pure torch: what to keep of an endless stream, and where in time it stands."""

from .am_rope import MergedGrid, PromptIds, prompt_ids, text_start, visual_ids
from .compression import ClipMethods, CompressedClip, compress_clip
from .config import FlashMemoryConfig
from .flash_memory import FlashMemory
from .interface import Forgotten, Memory
from .kmeans import OrderedClusters, klarge_retrieve, ordered_kmeans
from .slot import EntryKind, Grid, MemoryEntry, MemorySnapshot, Slot
from .ward import Insertion, Merge, WardClustering
from .whole_video import clip_memory

__all__ = [
    "ClipMethods",
    "CompressedClip",
    "EntryKind",
    "FlashMemory",
    "FlashMemoryConfig",
    "Forgotten",
    "Grid",
    "Insertion",
    "Memory",
    "MemoryEntry",
    "MemorySnapshot",
    "Merge",
    "MergedGrid",
    "OrderedClusters",
    "PromptIds",
    "Slot",
    "WardClustering",
    "clip_memory",
    "compress_clip",
    "klarge_retrieve",
    "ordered_kmeans",
    "prompt_ids",
    "text_start",
    "visual_ids",
]
