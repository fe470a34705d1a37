"""How fast a model reads, told by the newest portions of prompts."""

from __future__ import annotations

FADES = 0.9  # what counts of a portion when the next one is read
LEAST_PORTION = 64  # tokens


class PrefillThroughput:
    """A weighted mean over all portions, in which the newest count most."""

    def __init__(self) -> None:
        self._seconds, self._tokens = 0.0, 0.0

    @property
    def known(self) -> bool:
        return self._tokens > 0

    def add(self, seconds: float, tokens: int) -> None:
        """A portion of so many tokens has been read in so long."""
        self._seconds = FADES * self._seconds + seconds
        self._tokens = FADES * self._tokens + tokens

    def seconds(self, tokens: int) -> float:
        """What reading so many tokens is likely to take; 0 while nothing is known."""
        return tokens * self._seconds / self._tokens if self.known else 0.0

    def portion(self, seconds: float) -> int:
        """Tokens to read at once. Few cost hardly less time than a few more, so that there is a least number."""
        in_time = seconds * self._tokens / max(self._seconds, 1e-9) if self.known else 0.0
        return int(max(in_time, LEAST_PORTION))
