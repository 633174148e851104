"""Where the bytes of a part come from and go to, in the caller's memory."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, List, Optional, Sequence, Tuple

from ._wire import as_segments
from .blocks import Digest
from .spaces import Group, GroupKind, Layout

xxhash: Any
try:
    import xxhash
except ImportError:  # a platform without a wheel of it
    xxhash = None


def new_digest() -> Any:
    """What takes bytes by `update`, for to_digest; None without xxhash."""
    return None if xxhash is None else xxhash.xxh3_128()


def to_digest(state: Any) -> Digest:
    """The digest of what `state` was given."""
    value: int = state.intdigest()
    return Digest(value >> 64, value & (1 << 64) - 1)


def digest_of(segments: Sequence[memoryview]) -> Optional[Digest]:
    """128-bit XXH3 of the segments in order; None without xxhash."""
    state = new_digest()
    if state is None:
        return None
    for segment in segments:
        state.update(segment)
    return to_digest(state)


class Source:
    """The bytes of a part to be sent: one or more buffers, read in order."""

    def __init__(self, data: object) -> None:
        self.segments = as_segments(data)
        self.size = sum(len(segment) for segment in self.segments)
        self._segment = 0
        self._offset = 0

    def digest(self) -> Optional[Digest]:
        """The digest of all of it; None without xxhash."""
        return digest_of(self.segments)

    def rewind(self) -> None:
        """Starts again at the first byte."""
        self._segment = self._offset = 0

    def take(self, count: int) -> List[memoryview]:
        """Returns views of the next `count` bytes; there must be as many."""
        views = []
        while count:
            segment = self.segments[self._segment]
            view = segment[self._offset : self._offset + count]
            views.append(view)
            count -= len(view)
            self._offset += len(view)
            if self._offset == len(segment):
                self._segment += 1
                self._offset = 0
        return views


class Sink:
    """The memory that a part is read into: one or more writable buffers."""

    def __init__(self, target: object) -> None:
        self.segments = as_segments(target)
        if any(segment.readonly for segment in self.segments):
            raise TypeError("into: a buffer is read-only")
        self._starts: List[int] = []
        self.size = 0
        for segment in self.segments:
            self._starts.append(self.size)
            self.size += len(segment)

    def view(self, size: int) -> "memoryview | None":
        """The first `size` bytes, if they lie in one buffer."""
        return self.segments[0][:size] if len(self.segments) == 1 else None

    def room(self, position: int, most: int) -> memoryview:
        """Memory from `position` on that lies in one piece, at most `most` bytes."""
        index = bisect_right(self._starts, position) - 1
        offset = position - self._starts[index]
        return self.segments[index][offset : offset + most]

    def digest(self, size: int) -> Optional[Digest]:
        """The digest of the first `size` bytes; None without xxhash."""
        return digest_of(self._front(size))

    def read(self, size: int) -> bytes:
        """A copy of the first `size` bytes."""
        return b"".join(self._front(size))

    def _front(self, size: int) -> List[memoryview]:
        return [
            segment[: size - start]
            for start, segment in zip(self._starts, self.segments)
            if start < size
        ]

    def write(self, position: int, data: memoryview) -> None:
        """Copies `data` to `position`; it must lie within `size`."""
        if len(self.segments) == 1:
            self.segments[0][position : position + len(data)] = data
            return
        index = bisect_right(self._starts, position) - 1
        while data:
            segment = self.segments[index]
            offset = position - self._starts[index]
            count = min(len(data), len(segment) - offset)
            segment[offset : offset + count] = data[:count]
            data = data[count:]
            position += count
            index += 1


Run = Tuple[int, int]  # (offset in the part, length)


def layer_runs(group: Group, tokens: int, pp_rank: int, first: int, count: int) -> List[Run]:
    """Which bytes of a part a layer range reads, in order of offset.

    Empty where a range cannot be read (the server refuses it): TOKEN_MAJOR,
    STATE, OPAQUE, or layers that the part does not have.
    """
    layers = group.layers_of(pp_rank)
    if count == 0:
        count = layers - first
    if group.kind in (GroupKind.STATE, GroupKind.OPAQUE) or group.layout is Layout.TOKEN_MAJOR:
        return []
    if not 0 <= first < first + count <= layers:
        return []
    k_run, v_run = group.run_bytes(tokens)
    if group.layout is Layout.KV_MAJOR and v_run:
        v_start = layers * k_run + first * v_run
        if (first + count) * k_run != v_start:
            return [(first * k_run, count * k_run), (v_start, count * v_run)]
    width = k_run + v_run
    return [(first * width, count * width)]


def packed_position(runs: Sequence[Run], offset: int, length: int) -> int:
    """Where a piece of the part lies when `runs` stand side by side.

    Errors: ValueError (the piece is not within one of them).
    """
    before = 0
    for start, size in runs:
        if start <= offset and offset + length <= start + size:
            return before + offset - start
        before += size
    raise ValueError(f"bytes {offset} to {offset + length} are outside of the layers asked for")
