"""The two messages that carry embeddings, without copies through protobuf.

An AppendRequest is built with one copy of its embeddings, and those in a
ReadContextResponse are found where they lie. All else goes through protobuf; a
test holds these functions against it.
"""

from __future__ import annotations

from typing import Iterator, List, NamedTuple, Optional, Tuple

from ._wire import append_varint, read_varint

_VARINT, _FIXED64, _LEN, _FIXED32 = 0, 1, 2, 5

_REQUEST_TOKENS = 2  # AppendRequest.tokens
_RESPONSE_TOKENS = 1  # ReadContextResponse.tokens
_STORED_TOKENS = 1  # StoredTokens.tokens
_EMBEDDINGS = 7  # TokenBatch.embeddings


class StoredParts(NamedTuple):
    """A ReadContextResponse{tokens}, taken apart."""

    stored: bytes
    """A serialised StoredTokens without its batch."""
    batch: bytes
    """A serialised TokenBatch without its embeddings."""
    embeddings: memoryview
    """Within the message."""


def encode_batch(batch: bytes, embeddings: memoryview) -> bytes:
    """Returns a serialised `AppendRequest{tokens: batch}` with these embeddings.

    `batch` is a serialised TokenBatch without embeddings.
    """
    inner = bytearray(batch)
    inner.append(_EMBEDDINGS << 3 | _LEN)
    append_varint(inner, len(embeddings))
    outer = bytearray((_REQUEST_TOKENS << 3 | _LEN,))
    append_varint(outer, len(inner) + len(embeddings))
    return b"".join((outer, inner, embeddings))


def _fields(message: bytes, start: int, end: int) -> Iterator[Tuple[int, int, int, int]]:
    """Field number, where it begins, where its value begins, where it ends.

    Errors: ValueError (damaged).
    """
    position = start
    while position < end:
        begin = position
        tag, position = read_varint(message, position, end)
        value = position
        wire = tag & 7
        if wire == _VARINT:
            _, position = read_varint(message, position, end)
        elif wire == _LEN:
            length, value = read_varint(message, position, end)
            position = value + length
        elif wire in (_FIXED64, _FIXED32):
            position += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if position > end:
            raise ValueError("a field reaches beyond its message")
        yield tag >> 3 if wire == _LEN else -1, begin, value, position


def _take(
    message: bytes, start: int, end: int, number: int
) -> Tuple[bytes, Optional[Tuple[int, int]]]:
    """What is left of a message without field `number`, and where its last value lies."""
    rest: List[memoryview] = []
    found: Optional[Tuple[int, int]] = None
    view = memoryview(message)
    for field, begin, value, finish in _fields(message, start, end):
        if field == number:
            found = (value, finish)
        else:
            rest.append(view[begin:finish])
    return b"".join(rest), found


def decode_stored(message: bytes) -> Optional[StoredParts]:
    """Takes a serialised ReadContextResponse apart; None if it has no tokens.

    Errors: ValueError (it is damaged).
    """
    _, tokens = _take(message, 0, len(message), _RESPONSE_TOKENS)
    if tokens is None:
        return None
    stored, batch_at = _take(message, *tokens, _STORED_TOKENS)
    if batch_at is None:
        return StoredParts(stored, b"", memoryview(b""))
    batch, embeddings = _take(message, *batch_at, _EMBEDDINGS)
    first, last = embeddings or (0, 0)
    return StoredParts(stored, batch, memoryview(message)[first:last])
