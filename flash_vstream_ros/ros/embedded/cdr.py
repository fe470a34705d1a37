"""CDR in and out of message objects, without copies of large fields where that can be."""

from __future__ import annotations

import codecs
import struct
from typing import TypeVar

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
    """-> (message, whether text had to be repaired); arrays of numbers are views of `raw`.

    Bytes that are no UTF-8 become '?', one each, so that no message is lost for them.
    Raises CorruptSample when `raw` is too short or otherwise not such a message.
    """
    view = memoryview(raw)
    if len(view) < len(ENCAPSULATION) + header_size or view[0] != 0 or view[1] not in (0, 1):
        raise CorruptSample(f"{len(view)} bytes are no plain CDR of {message_type.TYPE_NAME}")
    definition = typestore.get_msgdef(message_type.TYPE_NAME)
    read = definition.deserialize_cdr_le if view[1] else definition.deserialize_cdr_be
    start = len(ENCAPSULATION) + header_size
    repaired = False
    while True:
        try:
            message, _ = read(view[start:], 0, message_type, typestore)
        except UnicodeDecodeError as error:  # noqa: PERF203 (one round per bad string)
            view = memoryview(_repair(view, error.object))
            repaired = True
        except (struct.error, ValueError, IndexError, SerdeError) as error:
            raise CorruptSample(f"{len(view)} bytes are no {message_type.TYPE_NAME}: {error}") from error
        else:
            return message, repaired


def _repair(raw: memoryview, text: bytes) -> bytes:
    """The sample with the invalid bytes of one of its strings replaced."""
    length = struct.pack("<I" if raw[1] else ">I", len(text) + 1)
    # The length before the text keeps equal bytes elsewhere, in an image say, as they are.
    return bytes(raw).replace(length + text, length + valid_utf8(text))


def valid_utf8(text: bytes) -> bytes:
    """`text` with every byte that is not part of valid UTF-8 replaced by '?'; the length stays."""
    return text.decode(errors=QUESTION_MARKS).encode()


def _question_marks(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "?" * (error.end - error.start), error.end


QUESTION_MARKS = "flash_vstream.question_marks"
codecs.register_error(QUESTION_MARKS, _question_marks)
