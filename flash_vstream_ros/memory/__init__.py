"""Flash Memory in pure torch: a bounded memory of camera slots, and the position ids of its tokens.

Imports neither models, engine nor ROS. `video_memory` computes the published memory of a whole video, `FlashMemory` is
the memory of a stream, and `Memory` is the interface of all retention policies.
"""

from .am_rope import MergedGrid, PromptIds, prompt_ids, text_start, visual_ids
from .config import FlashMemoryConfig
from .flash_memory import FlashMemory
from .interface import Forgotten, Memory
from .kmeans import OrderedClusters, klarge_retrieve, ordered_kmeans
from .slot import EntryKind, Grid, MemoryEntry, MemorySnapshot, Slot
from .video_compression import CompressedVideo, CompressionMethods, compress_video
from .video_memory import video_memory
from .ward import Insertion, Merge, WardClustering

__all__ = [
    "CompressedVideo",
    "CompressionMethods",
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
    "compress_video",
    "klarge_retrieve",
    "ordered_kmeans",
    "prompt_ids",
    "text_start",
    "video_memory",
    "visual_ids",
]
