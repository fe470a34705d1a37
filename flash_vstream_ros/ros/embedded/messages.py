"""Base of message classes: defaults, keyword construction, checked assignment, comparison."""

from __future__ import annotations

import array
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

Check = Callable[[str, Any], Any]

INTEGER_RANGES = {
    f"{sign}int{bits}": (low, high)
    for bits in (8, 16, 32, 64)
    for sign, low, high in (("", -(1 << bits - 1), (1 << bits - 1) - 1), ("u", 0, (1 << bits) - 1))
}


class Message:
    """Base of the message classes, which behave like rosidl's Python classes.

    Keyword arguments and assignments are checked as in rclpy: AssertionError names the wrong field. Positional
    arguments, used by the deserialiser, are not checked.
    """

    __slots__ = ()
    TYPE_NAME: ClassVar[str]
    _fields_and_types: ClassVar[dict[str, str]]
    _checks: ClassVar[dict[str, Check]]
    _defaults: ClassVar[dict[str, Callable[[], Any]]]

    def __init__(self, *values: Any, **fields: Any) -> None:
        store = object.__setattr__
        if values:
            for name, value in zip(self._defaults, values, strict=True):
                store(self, name, value)
            return
        for name, default in self._defaults.items():
            if name not in fields:
                store(self, name, default())
        for name, value in fields.items():
            if name not in self._defaults:
                raise AssertionError(f"{type(self).__name__} has no field '{name}'")
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        check = self._checks.get(name)
        if check is None:
            raise AttributeError(f"{type(self).__name__} has no field '{name}'")
        object.__setattr__(self, name, check(name, value))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return False
        return all(_equal(getattr(self, name), getattr(other, name)) for name in self._defaults)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={_short(getattr(self, name))}" for name in self._fields_and_types)
        return f"{self.TYPE_NAME.replace('/', '.')}({fields})"

    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]:
        return dict(cls._fields_and_types)


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return bool(np.array_equal(left, right))
    return bool(left == right)


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > 16:
        return f"<{value.size} x {value.dtype}>"
    return repr(value.tolist() if isinstance(value, np.ndarray) else value)


def _refuse(name: str, expected: str, value: Any) -> AssertionError:
    return AssertionError(f"The '{name}' field must be {expected}, not {type(value).__name__} {_short(value)[:80]}")


def check_plain(kind: type) -> Check:
    def check(name: str, value: Any) -> Any:
        if not isinstance(value, kind):
            raise _refuse(name, f"of type '{kind.__name__}'", value)
        return value

    return check


def check_octet(name: str, value: Any) -> Any:
    """Check a `byte`, which is stored as an integer. rclpy's one-byte strings are accepted too."""
    return value[0] if isinstance(value, bytes) and len(value) == 1 else check_integer("uint8")(name, value)


def check_integer(base: str) -> Check:
    low, high = INTEGER_RANGES[base]

    def check(name: str, value: Any) -> Any:
        if not isinstance(value, int) or not low <= value <= high:
            raise _refuse(name, f"an integer in [{low}, {high}]", value)
        return value

    return check


def check_string(bound: int) -> Check:
    def check(name: str, value: Any) -> Any:
        if not isinstance(value, str) or (bound and len(value) > bound):
            raise _refuse(name, f"a string of at most {bound} characters" if bound else "of type 'str'", value)
        return value

    return check


def check_message(resolve: Callable[[], type[Message]]) -> Check:
    def check(name: str, value: Any) -> Any:
        expected = resolve()
        if not isinstance(value, expected):
            raise _refuse(name, f"a sub message of type '{expected.__name__}'", value)
        return value

    return check


def check_sequence(item: Check, length: int, fixed: bool) -> Check:
    def check(name: str, value: Any) -> Any:
        if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, set)):
            raise _refuse(name, "a sequence", value)
        if length and (len(value) != length if fixed else len(value) > length):
            raise _refuse(name, f"{'' if fixed else 'at most '}{length} items", value)
        return [item(name, element) for element in value]

    return check


def check_numbers(dtype: np.dtype, length: int, fixed: bool) -> Check:
    """Check numbers, which are stored as one flat array. Memory with the right layout is not copied."""

    def check(name: str, value: Any) -> Any:
        numbers = _as_numbers(name, value, dtype)
        if length and (numbers.size != length if fixed else numbers.size > length):
            raise _refuse(name, f"{'' if fixed else 'at most '}{length} items", value)
        return numbers

    return check


def _as_numbers(name: str, value: Any, dtype: np.dtype) -> np.ndarray:
    if isinstance(value, np.ndarray):
        if value.dtype != dtype:
            raise _refuse(name, f"an array of {dtype}", value)
        return value.reshape(-1)
    if isinstance(value, (bytes, bytearray, memoryview, array.array)):
        raw = memoryview(value)
        if dtype.itemsize == 1 and raw.itemsize == 1:
            return np.frombuffer(raw.cast("B"), dtype=dtype)
        return np.frombuffer(raw, dtype=raw.format).astype(dtype, casting="safe").reshape(-1)
    items = list(value)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not all(isinstance(item, (int, np.integer)) and limits.min <= item <= limits.max for item in items):
            raise _refuse(name, f"integers in [{limits.min}, {limits.max}]", value)
    elif not all(isinstance(item, (bool, int, float, np.number, np.bool_)) for item in items):
        raise _refuse(name, f"numbers of type {dtype}", value)
    return np.array(items, dtype=dtype)
