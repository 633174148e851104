"""Reads the metadata of a GGUF file, and where its tensors lie.

The file is hostile until it was checked: every length is compared with what is
left of the file before it is believed. Format: GGUF versions 2 and 3, as
llama.cpp's gguf.h describes them, little-endian.
"""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
import os
import struct
from typing import Any, Callable, Dict, List, Tuple, Union

MAX_ENTRIES = 65_536
MAX_KEY_BYTES = 65_535
# Longer arrays (vocabularies) are passed over.
MAX_ARRAY_KEPT = 65_536
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 4
# Arrays of arrays are legal and unused; this deep they are an attack.
MAX_ARRAY_DEPTH = 4

_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32 = _SCALARS[4]
_U64 = _SCALARS[10]

Path = Union[str, "os.PathLike[str]"]


class GgufError(ValueError):
    """The file is not GGUF, is cut off, or contradicts itself."""


class _Reader:
    def __init__(self, data: Any) -> None:
        self._data = data
        self._position = 0

    @property
    def position(self) -> int:
        return self._position

    def _advance(self, size: int, what: str) -> int:
        start = self._position
        if size > len(self._data) - start:
            left = len(self._data) - start
            raise GgufError(f"{what} at byte {start}: {size} bytes, {left} are left in the file")
        self._position = start + size
        return start

    def bytes(self, size: int, what: str) -> bytes:
        start = self._advance(size, what)
        return bytes(self._data[start : start + size])

    def number(self, form: struct.Struct, what: str) -> Any:
        return form.unpack_from(self._data, self._advance(form.size, what))[0]

    def string(self, what: str, limit: int = 1 << 62) -> str:
        size = self.number(_U64, what)
        if size > limit:
            raise GgufError(f"{what}: {size} bytes; at most {limit}")
        return self.bytes(size, what).decode("utf-8", "replace")

    def skip_string(self, what: str) -> None:
        self._advance(self.number(_U64, what), what)

    def value(self, kind: int, what: str) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind], what)
        if kind == _STRING:
            return self.string(what)
        if kind == _ARRAY:
            return self.array(what, 1)
        raise GgufError(f"{what}: type {kind}; 0 to 12 are known")

    def array(self, what: str, depth: int) -> Any:
        kind = self.number(_U32, what)
        count = self.number(_U64, what)
        if depth > MAX_ARRAY_DEPTH:
            raise GgufError(f"{what}: arrays {depth} deep; at most {MAX_ARRAY_DEPTH}")
        kept = count <= MAX_ARRAY_KEPT
        if kind in _SCALARS:
            form = _SCALARS[kind]
            data = self._advance(count * form.size, what)
            return struct.unpack_from(f"<{count}{form.format[1:]}", self._data, data) if kept else None
        read: Callable[[str], Any]
        if kind == _ARRAY:
            read = lambda name: self.array(name, depth + 1)
        elif kind == _STRING:
            read = self.string if kept else self.skip_string
        else:
            raise GgufError(f"{what}: an array of type {kind}; 0 to 12 are known")
        # Each element takes 8 bytes at least.
        if count > len(self._data) // 8:
            raise GgufError(f"{what}: {count} elements in a file of {len(self._data)} bytes")
        values: List[Any] = []
        for _ in range(count):
            value = read(what)
            if kept:
                values.append(value)
        return tuple(values) if kept else None


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where a tensor lies.

    Attributes:
      shape: the outermost dimension first.
      kind: ggml's type number.
      offset: bytes from the start of the file; may lie beyond its end.
    """

    name: str
    shape: Tuple[int, ...]
    kind: int
    offset: int


def parse_metadata(data: Any) -> Dict[str, Any]:
    """Returns the metadata in `data`, the bytes of a file.

    Arrays are tuples; those of more than 65,536 elements are None. Errors:
    GgufError.
    """
    return _read_header(_Reader(data))[1]


def parse_tensors(data: Any) -> List[Tensor]:
    """Returns the table of tensors in `data`, the bytes of a file. Errors: GgufError."""
    reader = _Reader(data)
    count, metadata = _read_header(reader)
    if count > MAX_TENSORS:
        raise GgufError(f"tensor count is {count}; at most {MAX_TENSORS}")
    tensors = []
    for _ in range(count):
        name = reader.string("tensor name", MAX_KEY_BYTES)
        dimensions = reader.number(_U32, name)
        if dimensions > MAX_DIMENSIONS:
            raise GgufError(f"{name}: {dimensions} dimensions; at most {MAX_DIMENSIONS}")
        shape = [reader.number(_U64, name) for _ in range(dimensions)]
        kind = reader.number(_U32, name)
        offset = reader.number(_U64, name)
        tensors.append(Tensor(name, tuple(reversed(shape)), kind, offset))
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
        raise GgufError(f"general.alignment is {alignment}; 1 to {1 << 20}")
    base = -(-reader.position // alignment) * alignment
    return [dataclasses.replace(tensor, offset=base + tensor.offset) for tensor in tensors]


def _read_header(reader: _Reader) -> Tuple[int, Dict[str, Any]]:
    if reader.bytes(4, "magic") != b"GGUF":
        raise GgufError("not a GGUF file")
    version = reader.number(_U32, "version")
    if version not in (2, 3):
        raise GgufError(f"version {version}; 2 and 3 are known")
    tensors = reader.number(_U64, "tensor count")
    entries = reader.number(_U64, "metadata count")
    if entries > MAX_ENTRIES:
        raise GgufError(f"metadata count is {entries}; at most {MAX_ENTRIES}")
    metadata: Dict[str, Any] = {}
    for _ in range(entries):
        key = reader.string("metadata key", MAX_KEY_BYTES)
        metadata[key] = reader.value(reader.number(_U32, key), key)
    return tensors, metadata


def read_metadata(path: Path) -> Dict[str, Any]:
    """Returns the metadata of the file. Errors: OSError, GgufError."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise GgufError("not a GGUF file: it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return parse_metadata(data)


def file_digest(path: Path) -> str:
    """Returns "sha256:" and the hexadecimal digest of the whole file."""
    state = hashlib.sha256()
    buffer = bytearray(1 << 20)
    with open(path, "rb", buffering=0) as file:
        while True:
            size = file.readinto(buffer)
            if not size:
                return f"sha256:{state.hexdigest()}"
            state.update(memoryview(buffer)[:size])
