"""Estimate of the prefill throughput, which determines the size of a chunk."""

from __future__ import annotations

EMA_DECAY = 0.9  # factor on earlier chunks when one is added
MIN_CHUNK_TOKENS = 64  # a smaller chunk takes hardly less time


class PrefillThroughput:
    """Exponential moving average of the tokens prefilled per second."""

    def __init__(self) -> None:
        self._seconds, self._tokens = 0.0, 0.0

    @property
    def known(self) -> bool:
        return self._tokens > 0

    def add(self, seconds: float, tokens: int) -> None:
        """Count a chunk of `tokens` that took `seconds`."""
        self._seconds = EMA_DECAY * self._seconds + seconds
        self._tokens = EMA_DECAY * self._tokens + tokens

    def seconds(self, tokens: int) -> float:
        """Expected time to prefill `tokens` [s]; 0 before the first chunk."""
        return tokens * self._seconds / self._tokens if self.known else 0.0

    def chunk_tokens(self, seconds: float) -> int:
        """Size of a chunk that takes about `seconds`."""
        in_time = seconds * self._tokens / max(self._seconds, 1e-9) if self.known else 0.0
        return int(max(in_time, MIN_CHUNK_TOKENS))
