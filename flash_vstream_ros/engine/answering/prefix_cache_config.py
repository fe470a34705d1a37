"""Settings and status of the prefix cache."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PrefixCacheConfig:
    """Limits of the prefix cache: time, memory, and lag behind the visual memory."""

    max_lag_s: float = 0.0  # largest lag of a cached answer, in message time; 0: none
    tail_slots: int = 0  # number of newest slots appended to the prompt if the cache lags
    stable_order: bool = False  # keep the entries' order in the prompt, so that fewer are prefilled again
    max_device_share: float = 0.5  # share of the worker's time for background prefill; 0: none
    chunk_s: float = 0.03  # target duration of a background chunk; frames and questions wait for it
    max_chunk_tokens: int = 2048
    max_mib: int = 1024  # limit of keys, values and embeddings together; 0: no cache


@dataclass(frozen=True)
class PrefixCacheStatus:
    """State of the prefix cache. `until_ns` is the stamp of its newest frame, 0 unless it is complete."""

    bytes: int = 0
    tokens: int = 0
    until_ns: int = 0
    failures: int = 0
