"""How long fetching takes, from what reads took before."""

from __future__ import annotations

import threading
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

from .blocks import Level, Plane

# What an older read still counts when another is added: 50 reads, some.
_DECAY = 0.98


class Share(NamedTuple):
    """Blocks of a read that lie at one level."""

    level: Level
    blocks: int
    bytes: int


def together(shares: Iterable[Share]) -> List[Share]:
    """One share of each level, of all that lies there."""
    levels: Dict[Level, Share] = {}
    for share in shares:
        before = levels.get(share.level, Share(share.level, 0, 0))
        levels[share.level] = Share(
            share.level, before.blocks + share.blocks, before.bytes + share.bytes
        )
    return list(levels.values())


class _Line:
    """Seconds as a line over bytes, by least squares over decaying weights."""

    __slots__ = ("_n", "_x", "_y", "_xx", "_xy")

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    def add(self, size: float, seconds: float) -> None:
        self._n = self._n * _DECAY + 1
        self._x = self._x * _DECAY + size
        self._y = self._y * _DECAY + seconds
        self._xx = self._xx * _DECAY + size * size
        self._xy = self._xy * _DECAY + size * seconds

    def fit(self) -> Tuple[float, float]:
        """Seconds of a read of nothing, and seconds of a byte; neither below 0."""
        mean_x, mean_y = self._x / self._n, self._y / self._n
        ratio = mean_y / mean_x
        spread = self._xx / self._n - mean_x * mean_x
        # Sizes that hardly differ tell nothing of what a call costs by itself.
        if spread <= (0.05 * mean_x) ** 2:
            return 0.0, ratio
        slope = (self._xy / self._n - mean_x * mean_y) / spread
        slope = min(max(slope, 0.0), ratio)
        return mean_y - slope * mean_x, slope


class FetchMeter:
    """Learns from reads, by plane, level and size of a block. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: Dict[Tuple[Plane, Level, int], _Line] = {}  # guarded by _lock
        self._plane: Optional[Plane] = None  # of the last read; guarded by _lock

    def record(self, plane: Plane, shares: Iterable[Share], seconds: float) -> None:
        """A read of these took so long, from the call to its return."""
        known = [share for share in shares if share.bytes > 0]
        if not known or seconds <= 0:
            return
        with self._lock:
            self._plane = plane
            if len(known) == 1:
                self._line(plane, known[0]).add(known[0].bytes, seconds)
                return
            # Of several levels: what each is thought to take, stretched to what it was.
            thought = self._seconds(plane, known)
            if thought is None:
                return
            fixed, parts = thought
            stretch = max(seconds - fixed, 0.0) / sum(parts) if sum(parts) > 0 else 0.0
            for share, part in zip(known, parts):
                self._line(plane, share).add(share.bytes, fixed + part * stretch)

    def estimate(self, shares: Iterable[Share]) -> Optional[float]:
        """Seconds that a read of these would take, by the plane of the last one.

        None while nothing was read from one of their levels.
        """
        wanted = [share for share in shares if share.bytes > 0]
        with self._lock:
            if self._plane is None:
                return None
            thought = self._seconds(self._plane, wanted)
        return None if thought is None else thought[0] + sum(thought[1])

    def _line(self, plane: Plane, share: Share) -> _Line:
        key = (plane, share.level, _size_class(share))
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        return line

    def _seconds(self, plane: Plane, shares: List[Share]) -> Optional[Tuple[float, List[float]]]:
        """What the call costs by itself, and the bytes of each share."""
        fixed = 0.0
        parts: List[float] = []
        for share in shares:
            line = self._nearest(plane, share)
            if line is None:
                return None
            call, byte = line.fit()
            fixed = max(fixed, call)
            parts.append(byte * share.bytes)
        return fixed, parts

    def _nearest(self, plane: Plane, share: Share) -> Optional[_Line]:
        """The line of the size of block that is most like this one's."""
        wanted = _size_class(share)
        found = [
            (abs(size - wanted), size)
            for known, level, size in self._lines
            if known is plane and level is share.level
        ]
        return self._lines[plane, share.level, min(found)[1]] if found else None


def _size_class(share: Share) -> int:
    """The power of two below the bytes of a block."""
    return max((share.bytes // max(share.blocks, 1)).bit_length() - 1, 0)
