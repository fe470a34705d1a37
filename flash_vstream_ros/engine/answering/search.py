"""Searches the memory for moments that a text describes, by the model's attention, or that look like an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flash_vstream_ros.engine.config import FRAMES_PER_SLOT
from flash_vstream_ros.memory.interface import Memory
from flash_vstream_ros.memory.slot import EntryKind, MemoryEntry
from flash_vstream_ros.models.interface import VisionLanguageModel

from .question import Evidence, Question

# The wording that found most in comparisons by `flash-vstream-ros bench search --prompt`.
SEARCH_PROMPT = "Have you seen {}?"
QUESTION_MARK = "?"


def search_prompt(text: str, prompt: str = SEARCH_PROMPT) -> str:
    """The question that the model reads in a search for `text`. A text that is a question stays as it is."""
    text = text.strip()
    return text if text.endswith(QUESTION_MARK) else prompt.replace("{}", text)


def prompt_of(question: Question) -> str:
    """The text that the model reads after the memory."""
    return search_prompt(question.text) if question.is_search else question.text


class UnsearchableImage(ValueError):
    """An image that cannot be searched for; the message says why."""


def moments_like(model: VisionLanguageModel, memory: Memory, search: Question) -> tuple[Evidence, ...]:
    """The moments of `memory`, in the scope of a search, that look like its image, most similar first.

    The image is encoded as a slot without motion. Raises UnsearchableImage.
    """
    image = search.image
    assert image is not None
    if memory.entries and not any(memory.grid):
        raise UnsearchableImage("this memory.policy cannot be searched for an image; search for a text")
    try:
        model.grid(*image.shape[:2])
    except ValueError as error:
        raise UnsearchableImage(f"the image cannot be searched for: {error}") from error
    if not memory.entries:
        return ()
    frame = model.prepare(image, memory.grid)
    ((low, _),) = model.encode_slots([[frame] * FRAMES_PER_SLOT], memory.grid)
    similar = sorted(memory.similar(low, search.scope), key=lambda pair: -pair[1])
    return tuple(Evidence(entry, cosine) for entry, cosine in similar)


def moments_of(evidence: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """`evidence`, strongest first. Entries that show the same moment become one, with the largest of their relevances.

    If one of the merged entries is a key frame, it describes the moment, since a cluster spans more time.
    """
    groups: list[list[Evidence]] = []
    for one in evidence:
        same = [group for group in groups if any(same_moment(one.entry, other.entry) for other in group)]
        merged = [each for group in same for each in group] + [one]
        groups = [group for group in groups if group not in same] + [merged]
    return tuple(sorted(map(_moment, groups), key=lambda each: -each.relevance))


def same_moment(one: MemoryEntry, other: MemoryEntry) -> bool:
    """Returns True if the entries show slots that overlap. A cluster shows only the slot of its thumbnail."""
    (first, last), (other_first, other_last) = _shown_stamps(one), _shown_stamps(other)
    return one.camera == other.camera and first <= other_last and other_first <= last


def _shown_stamps(entry: MemoryEntry) -> tuple[int, int]:
    """Stamps of the slot that the entry shows, as far as they are known [ns]."""
    if entry.kind is EntryKind.DAM:
        return entry.first_ns, entry.last_ns
    return entry.thumbnail_ns, entry.thumbnail_ns


def _moment(group: Sequence[Evidence]) -> Evidence:
    """Merge entries that show the same moment."""
    key_frames = [each for each in group if each.entry.kind is EntryKind.DAM]
    described = max(key_frames or group, key=lambda each: each.relevance)
    return replace(described, relevance=max(each.relevance for each in group))
