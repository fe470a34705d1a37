"""CDR in and out of message objects, without copies of large fields where that can be."""

from __future__ import annotations

import struct
from typing import Any, TypeVar

from rosbags.serde import SerdeError

from .messages import Message
from .types import typestore

ENCAPSULATION = b"\x00\x01\x00\x00"  # plain CDR, little endian
SERVICE_HEADER = struct.Struct("<Qq")  # client's request-writer instance handle, sequence number

M = TypeVar("M", bound=Message)


class CorruptSample(ValueError):
    """The bytes received do not hold the message they should."""


def serialize(message: Message, header: bytes = b"") -> bytearray:
    """The sample on the wire; `header` (a service header) goes before the fields.

    Raises ValueError when a field holds what its type cannot.
    """
    definition = typestore.get_msgdef(message.TYPE_NAME)
    try:
        start = len(ENCAPSULATION) + len(header)
        size = start + definition.getsize_cdr(0, message, typestore)
        raw = bytearray((size + 3) & ~3)  # DDS wants multiples of four bytes
        raw[:start] = ENCAPSULATION + header
        definition.serialize_cdr_le(memoryview(raw)[start:], 0, message, typestore)
    except (struct.error, TypeError, AttributeError, UnicodeEncodeError, SerdeError) as error:
        raise ValueError(f"This {message.TYPE_NAME} cannot be serialised: {error}") from error
    return raw


def deserialize(raw: memoryview | bytes, message_type: type[M], header_size: int = 0) -> tuple[M, bool]:
    """Returns the message and whether text had to be repaired; arrays of numbers are views of `raw`.

    Every byte that is no UTF-8 becomes '?', so that no message is lost for it.
    Raises CorruptSample when `raw` is too short or otherwise not such a message.
    """
    view = memoryview(raw)
    if len(view) < len(ENCAPSULATION) + header_size or view[0] != 0 or view[1] not in (0, 1):
        raise CorruptSample(f"{len(view)} bytes are no plain CDR of {message_type.TYPE_NAME}")
    definition = typestore.get_msgdef(message_type.TYPE_NAME)
    read = definition.deserialize_cdr_le if view[1] else definition.deserialize_cdr_be
    fields = view[len(ENCAPSULATION) + header_size :]
    try:
        try:
            return read(fields, 0, message_type, typestore)[0], False
        except UnicodeDecodeError:
            return read(RepairedText(fields), 0, message_type, typestore)[0], True
    except (struct.error, ValueError, IndexError, SerdeError) as error:
        raise CorruptSample(f"{len(view)} bytes are no {message_type.TYPE_NAME}: {error}") from error


class RepairedText(bytearray):
    """Serialised fields whose strings decode whatever they hold: rosbags reads `bytes(fields[start:end]).decode()`.

    In one pass: repairing one string after the other would read a sample once for each of very many bad ones.
    """

    def __getitem__(self, key: Any) -> Any:
        item = super().__getitem__(key)
        return _Text(item) if isinstance(key, slice) else item


class _Text(bytes):
    def __bytes__(self) -> bytes:
        return self

    def decode(self, *_: Any) -> str:
        return super().decode(errors="surrogateescape").encode(errors="replace").decode()  # '?' for each bad byte
