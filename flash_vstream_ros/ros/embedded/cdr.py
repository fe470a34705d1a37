"""Converts message objects to CDR and back, without copies of large fields if possible."""

from __future__ import annotations

import struct
from typing import Any, TypeVar

from rosbags.serde import SerdeError

from .messages import Message
from .types import typestore

ENCAPSULATION = b"\x00\x01\x00\x00"  # plain CDR, little endian
SERVICE_HEADER = struct.Struct("<Qq")  # instance handle of the client's request writer, sequence number

M = TypeVar("M", bound=Message)


class CorruptSample(ValueError):
    """The received bytes are not a message of the expected type."""


def serialize(message: Message, header: bytes = b"") -> bytearray:
    """The serialised message; `header` (a service header) goes before the fields.

    Raises ValueError if a field's value does not fit its type.
    """
    definition = typestore.get_msgdef(message.TYPE_NAME)
    try:
        start = len(ENCAPSULATION) + len(header)
        size = start + definition.getsize_cdr(0, message, typestore)
        raw = bytearray((size + 3) & ~3)  # DDS needs a multiple of four bytes
        raw[:start] = ENCAPSULATION + header
        definition.serialize_cdr_le(memoryview(raw)[start:], 0, message, typestore)
    except (struct.error, TypeError, AttributeError, UnicodeEncodeError, SerdeError) as error:
        raise ValueError(f"This {message.TYPE_NAME} cannot be serialised: {error}") from error
    return raw


def deserialize(raw: memoryview | bytes, message_type: type[M], header_size: int = 0) -> tuple[M, bool]:
    """Returns the message, and True if its text was repaired. Arrays of numbers are views of `raw`.

    Bytes that are not UTF-8 become '?', so that their message is not lost.

    Raises CorruptSample if `raw` is too short or not such a message.
    """
    view = memoryview(raw)
    if len(view) < len(ENCAPSULATION) + header_size or view[0] != 0 or view[1] not in (0, 1):
        raise CorruptSample(f"{len(view)} bytes are not plain CDR of {message_type.TYPE_NAME}")
    definition = typestore.get_msgdef(message_type.TYPE_NAME)
    read = definition.deserialize_cdr_le if view[1] else definition.deserialize_cdr_be
    fields = view[len(ENCAPSULATION) + header_size :]
    try:
        try:
            return read(fields, 0, message_type, typestore)[0], False
        except UnicodeDecodeError:
            return read(RepairedText(fields), 0, message_type, typestore)[0], True
    except (struct.error, ValueError, IndexError, SerdeError) as error:
        raise CorruptSample(f"{len(view)} bytes are not a {message_type.TYPE_NAME}: {error}") from error


class RepairedText(bytearray):
    """Serialised fields whose strings always decode when rosbags calls `bytes(fields[start:end]).decode()`.

    All strings are repaired in one pass. Repairing only the first bad one would repeat the pass for each bad string.
    """

    def __getitem__(self, key: Any) -> Any:
        item = super().__getitem__(key)
        return _Text(item) if isinstance(key, slice) else item


class _Text(bytes):
    def __bytes__(self) -> bytes:
        return self

    def decode(self, *_: Any) -> str:
        return super().decode(errors="surrogateescape").encode(errors="replace").decode()  # '?' for each bad byte
