"""Flips one byte of a stored block where it lies on disk."""

from __future__ import annotations

import dataclasses
import mmap
import pathlib
from collections.abc import Iterator, Sequence


@dataclasses.dataclass(frozen=True)
class Flip:
    """One flipped byte: the file, relative to the data directory, and the offset."""

    file: str
    offset: int


def flip_payload(data_dir: pathlib.Path, pieces: Sequence[Sequence]) -> list[Flip]:
    """Flips a byte of a payload in every copy that lies in `data_dir`.

    A copy may lie in a write-ahead log and in a table or blob file at once; the
    store may read either, so all are damaged alike. Must not run while a daemon
    has the directory open.

    Args:
      pieces: [offset, hex] of pieces of the payload; the first that is found
        anywhere is damaged.

    Returns: the flips; empty if no piece lies on disk as it is.
    """
    for _, text in pieces:
        piece = bytes.fromhex(text)
        if len(set(piece)) < len(piece) // 4:
            continue  # could lie in another block as well
        places = [
            (path, offset)
            for path in sorted(p for p in data_dir.rglob("*") if p.is_file())
            for offset in _find(path, piece)
        ]
        for path, offset in places:
            with open(path, "r+b") as file:
                file.seek(offset)
                byte = file.read(1)[0]
                file.seek(offset)
                file.write(bytes([byte ^ 0x01]))
        if places:
            return [Flip(str(path.relative_to(data_dir)), offset) for path, offset in places]
    return []


def _find(path: pathlib.Path, piece: bytes) -> Iterator[int]:
    with open(path, "rb") as file:
        if file.seek(0, 2) == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = data.find(piece)
            while at >= 0:
                yield at
                at = data.find(piece, at + 1)
