"""Payload that travels in a stream: where it goes to, and where it comes from.

Of one request, and without a socket. docs/formats/stream-protocol.md
"""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional, Sequence

from ._buffers import Sink, Source, new_digest, to_digest
from ._stream import MAX_DATA_BYTES, Malformed
from .blocks import Digest


class Receiving:
    """Of a GET: each part's bytes go straight into the caller's memory."""

    def __init__(self, sinks: Sequence[Sink], digests: bool) -> None:
        self._sinks = sinks
        self._got = [0] * len(sinks)
        # Made while it comes: then the processor's cache has it.
        self._digests: List[Any] = [new_digest() if digests else None for _ in sinks]
        self._part = 0

    def begin(self, index: int, offset: int, size: int) -> None:
        """So much comes of a part. Errors: Malformed (it does not come in order, or fit)."""
        if index >= len(self._sinks) or offset != self._got[index]:
            raise Malformed("payload of another part or offset than comes next")
        if size > self._sinks[index].size - offset:
            raise Malformed(f"part {index}: more payload than there is room for")
        self._part = index

    def room(self, most: int) -> memoryview:
        """Where the next bytes go, at most so many."""
        return self._sinks[self._part].room(self._got[self._part], most)

    def took(self, view: memoryview) -> None:
        """These are there."""
        self._got[self._part] += len(view)
        digest = self._digests[self._part]
        if digest is not None:
            digest.update(view)

    def received(self, index: int) -> int:
        """Bytes of a part that have come."""
        return self._got[index]

    def digest(self, index: int) -> Optional[Digest]:
        """Of what has come of a part; None if it was not made."""
        digest = self._digests[index]
        return None if digest is None else to_digest(digest)


class Dropping(Receiving):
    """Of a GET that nobody waits for any more."""

    def __init__(self) -> None:
        super().__init__((), False)
        self._scratch = memoryview(bytearray(1 << 16))

    def begin(self, index: int, offset: int, size: int) -> None:
        pass

    def room(self, most: int) -> memoryview:
        return self._scratch[:most]

    def took(self, view: memoryview) -> None:
        pass


class Piece(NamedTuple):
    """What one DATA frame carries."""

    part: int
    offset: int
    size: int
    views: List[memoryview]


class Sending:
    """Of a PUT: what the server wants, as far as it has credited it."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._wanted: Optional[List[int]] = None
        self._credit = 0
        self._sent = 0
        self._part = 0  # of _wanted
        self._offset = 0

    def credit(self, size: int, wanted: List[int]) -> None:
        """Takes a CREDIT. Errors: Malformed."""
        if self._wanted is None:
            if any(index >= len(self._sources) for index in wanted):
                raise Malformed("credit for a part that was not offered")
            self._wanted = wanted
        self._credit = max(self._credit, size)

    def may_send(self) -> bool:
        """Whether there is a next piece now."""
        return self._wanted is not None and self._sent < self._credit

    def next(self) -> Piece:
        """What is to be sent next; only if it may be. Errors: Malformed."""
        if self._wanted is None or self._part == len(self._wanted):
            raise Malformed("the server credits more than it wants")
        index = self._wanted[self._part]
        source, offset = self._sources[index], self._offset
        size = min(MAX_DATA_BYTES, source.size - offset, self._credit - self._sent)
        self._sent += size
        self._offset += size
        if self._offset == source.size:
            self._part += 1
            self._offset = 0
        return Piece(index, offset, size, source.take(size))
