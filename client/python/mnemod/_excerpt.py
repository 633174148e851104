"""Parts that come encoded: excerpts of envelopes, and the calibrations that they take.

docs/formats/envelope.md
"""

from __future__ import annotations

import struct
from typing import Any, Dict, List, NamedTuple, Sequence, Set, Tuple

from . import _tensors
from ._tensors import Calibration, Damaged, MissingCalibration
from .blocks import Digest

# Encodings of the contract that are decoded here. Lossless sections take zstd, which
# Python does not have: the server decodes those.
TAKES = (_tensors.KIVI, _tensors.ROTATED, _tensors.PROGRESSIVE)
TAKES_MASK = sum(1 << each for each in TAKES)

_HEADER = struct.Struct("<IHHIfQQQQQQ")
_ENTRY = struct.Struct("<QIIQBBBBf")
_MAGIC = 0x56454E4D
_HEADER_SEED = 0x6D6E656D6F686472
_MAX_SECTIONS = 8192


class Section(NamedTuple):
    """A section that is here."""

    number: int
    offset: int  # in the part as it was put
    size: int  # likewise
    codec: int
    stored: memoryview


class Excerpt:
    """An excerpt that came from a server, which is not believed. Errors: Damaged."""

    def __init__(self, data: memoryview, runs: Sequence[Tuple[int, int]]) -> None:
        if len(data) < _HEADER.size:
            raise Damaged("excerpt: shorter than its header")
        (
            magic, version, reserved, count, _, seed, low, high, self.payload_bytes, _, checksum
        ) = _HEADER.unpack_from(data)  # fmt: skip
        if magic != _MAGIC or version not in (1, 2) or reserved:
            raise Damaged("excerpt: not an envelope, or of another version")
        end = _HEADER.size + count * _ENTRY.size
        if not 1 <= count <= _MAX_SECTIONS or end > len(data):
            raise Damaged(f"excerpt: {count} sections")
        xxh3 = _tensors.xxhash.xxh3_64_intdigest
        if xxh3(data[:56], xxh3(data[_HEADER.size : end], _HEADER_SEED)) != checksum:
            raise Damaged("excerpt: header checksum")
        self.digest = Digest(high, low)
        self.lossy = version == 2
        entries = [_ENTRY.unpack_from(data, _HEADER.size + i * _ENTRY.size) for i in range(count)]
        offsets = [0]
        for entry in entries:
            offsets.append(offsets[-1] + entry[2])
        if offsets[-1] != self.payload_bytes:
            raise Damaged("excerpt: sections of another size")
        self.sections: List[Section] = []
        for number in _numbers(runs, count):
            _, stored_bytes, exact_bytes, said, codec, _, _, _, _ = entries[number]
            stored = data[end : end + stored_bytes]
            end += stored_bytes
            if len(stored) != stored_bytes:
                raise Damaged("excerpt: cut short")
            if xxh3(stored, seed) != said:
                raise Damaged(f"excerpt: checksum of section {number}")
            self.sections.append(Section(number, offsets[number], exact_bytes, codec, stored))
        if end != len(data):
            raise Damaged("excerpt: bytes behind its end")
        self.whole = len(self.sections) == count

    def calibrations(self) -> Set[int]:
        """What its sections name. Errors: Damaged."""
        named = {
            _tensors.read_header(section.stored).calibration
            for section in self.sections
            if section.codec in TAKES
        }
        return named - {0}


def _numbers(runs: Sequence[Tuple[int, int]], count: int) -> List[int]:
    numbers: List[int] = []
    for first, length in runs or [(0, count)]:
        behind = numbers[-1] + 1 if numbers else 0
        if first < behind or length < 1 or first + length > count:
            raise Damaged(f"excerpt: sections {first} to {first + length} of {count}")
        numbers.extend(range(first, first + length))
    return numbers


def decode(section: Section, calibrations: Dict[int, Calibration]) -> Any:
    """The bytes of a section as they were put: a buffer. Errors: Damaged, MissingCalibration."""
    if section.codec == 0:
        if len(section.stored) != section.size:
            raise Damaged("excerpt: a raw section of another size")
        return section.stored
    if section.codec not in TAKES or len(section.stored) < 2 or section.stored[1] != section.codec:
        raise Damaged(f"excerpt: a section of codec {section.codec}")
    return memoryview(_tensors.decode(section.stored, section.size, calibrations))


class CalibrationCache:
    """What a client was handed out, by space and id. Thread-safe.

    Calibrations never change: an id is that of their bytes. Memory: 64 MiB as they
    came; past that all are forgotten and asked for anew.
    """

    MOST_BYTES = 64 << 20

    def __init__(self) -> None:
        self._known: Dict[Tuple[int, int], Calibration] = {}
        self._bytes = 0

    def find(self, space: int, numbers: Set[int]) -> Dict[int, Calibration]:
        """Those of `numbers` that are here."""
        found = {number: self._known.get((space, number)) for number in numbers}
        return {number: each for number, each in found.items() if each is not None}

    def add(self, space: int, number: int, data: bytes) -> None:
        """What the server answered. Errors: Damaged (not this one)."""
        calibration = Calibration(data)
        if calibration.number != number:
            raise Damaged(f"the answer is not calibration {number:08x}")
        if self._bytes + len(data) > self.MOST_BYTES:
            self._known = {}
            self._bytes = 0
        self._known[space, number] = calibration
        self._bytes += len(data)


__all__ = [
    "CalibrationCache",
    "Damaged",
    "Excerpt",
    "MissingCalibration",
    "Section",
    "TAKES",
    "TAKES_MASK",
    "decode",
]
