"""Frames of the stream protocol: their headers, and bytes put together to them.

docs/formats/stream-protocol.md
"""

from __future__ import annotations

from enum import IntEnum
import struct
from typing import NamedTuple, Optional, Tuple, Union
import zlib

MAGIC = b"MNSP"
VERSION = 1
ANSWER = 128
MAX_BODY_BYTES = 8 << 20
MAX_DATA_BYTES = 1 << 20

_HEADER = struct.Struct("<4sBBHIIQII")
HEADER_BYTES = _HEADER.size
_CHECKED = 28  # header bytes before their own checksum
_U32 = struct.Struct("<I")
_DATA = struct.Struct("<IQ")  # index of the part, offset


class Type(IntEnum):
    """What a request asks for; its answer has the number plus 128."""

    HELLO = 1
    REGISTER = 2
    UNREGISTER = 3
    MATCH = 4
    OFFER = 5
    GET = 6
    PUT = 7
    TOUCH = 8
    PREFETCH = 9
    CANCEL = 16
    CLOSE = 17
    CREDIT = 18
    DATA = 19


class Header(NamedTuple):
    """The header of an answer."""

    type: int
    length: int
    id: int
    checksum: int


class Malformed(ValueError):
    """Bytes that are not what the protocol says: the stream is of no use any more."""


def frame(type_: int, id_: int, body: bytes, timeout_ms: int = 0, payload: int = 0) -> bytes:
    """A whole frame, but for so many bytes of payload that follow."""
    size, checksum = len(body) + payload, zlib.crc32(body)
    head = _HEADER.pack(MAGIC, VERSION, type_, 0, size, timeout_ms, id_, checksum, 0)
    head = head[:_CHECKED]
    return b"".join((head, _U32.pack(zlib.crc32(head)), body))


def header(data: bytes) -> Header:
    """Reads HEADER_BYTES bytes of an answer. Errors: Malformed."""
    magic, version, type_, flags, length, _, id_, body_sum, own_sum = _HEADER.unpack(data)
    if magic != MAGIC or version != VERSION or flags:
        raise Malformed("not a frame of this protocol and version")
    if zlib.crc32(memoryview(data)[:_CHECKED]) != own_sum:
        raise Malformed("the header is damaged")
    if type_ == Type.DATA + ANSWER:
        if not _DATA.size < length <= _DATA.size + MAX_DATA_BYTES:
            raise Malformed(f"payload of {length - _DATA.size} bytes was announced")
    elif length > MAX_BODY_BYTES:
        raise Malformed(f"a body of {length} bytes was announced")
    return Header(type_, length, id_, body_sum)


def data_head(id_: int, index: int, offset: int, size: int) -> bytes:
    """A DATA frame of a PUT up to its payload of `size` bytes, which follows."""
    return frame(Type.DATA, id_, _DATA.pack(index, offset), payload=size)


class AnswerReader:
    """Puts the server's frames together from bytes that come in pieces.

    Of a DATA frame it gives what stands before the payload; that is the caller's to take:
    from here by `take` first, then from where the bytes come from.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._header: Optional[Header] = None
        self.payload_left = 0
        """Bytes of payload that were not taken yet."""

    def feed(self, data: Union[bytes, memoryview]) -> None:
        """Takes the next bytes."""
        self._bytes += data

    def next(self) -> Optional[Tuple[Header, bytes]]:
        """The next whole frame and its body; None: more is needed. Errors: Malformed."""
        if self.payload_left:
            return None
        if self._header is None:
            if len(self._bytes) < HEADER_BYTES:
                return None
            self._header = header(bytes(self._bytes[:HEADER_BYTES]))
        found = self._header
        is_data = found.type == Type.DATA + ANSWER
        end = HEADER_BYTES + (_DATA.size if is_data else found.length)
        if len(self._bytes) < end:
            return None
        body = bytes(self._bytes[HEADER_BYTES:end])
        del self._bytes[:end]
        self._header = None
        if zlib.crc32(body) != found.checksum:
            raise Malformed("the body is damaged")
        if is_data:
            self.payload_left = found.length - _DATA.size
        return found, body

    def missing(self) -> int:
        """Bytes that may be read without reading into a payload; at least 1."""
        end = HEADER_BYTES + _DATA.size
        if self._header is not None and self._header.type != Type.DATA + ANSWER:
            end = HEADER_BYTES + self._header.length
        return max(end - len(self._bytes), 1)

    def take(self, view: memoryview) -> int:
        """Moves payload that is here already to `view`, as much as there is."""
        count = min(len(view), len(self._bytes))
        view[:count] = self._bytes[:count]
        del self._bytes[:count]
        self.payload_left -= count
        return count

    def took(self, count: int) -> None:
        """So much of the payload was taken from where the bytes come from."""
        self.payload_left -= count


def data(body: bytes) -> Tuple[int, int]:
    """Of what stands before a payload: the index of the part, the offset in it."""
    index, offset = _DATA.unpack(body)
    return index, offset
