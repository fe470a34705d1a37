"""Lists of numbers in a model's config.json, which anybody may have edited."""

from __future__ import annotations

import math
from typing import Any, TypeGuard


def is_numbers(value: Any, count: int) -> TypeGuard[list[float]]:
    """Returns True if a value is a list of `count` finite numbers."""
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(one, int | float) and math.isfinite(one) for one in value)
    )
