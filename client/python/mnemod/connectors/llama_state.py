"""The bytes of a llama.cpp sequence state, taken apart and put together again.

`llama_state_seq_get_data` answers one opaque string. A store wants the rows of
keys and values apart from the bookkeeping around them, in groups of layers
that behave alike, so that a window group may be kept for its last blocks only.
This module turns one into the other, byte for byte, and never trusts a length.

The string, as written by llama.cpp with `LLAMA_STATE_SEQ_VERSION` 4 (all
integers little-endian):

    u32 magic 0xaf143cd8 | i32 sequence id
    for each cache (full attention first, then sliding window if there is one):
      u32 streams (1: the cache is unified) | u32 cells
      if cells > 0:
        cells x { i32 position | u32 sequences (1) | i32 sequence id }
        u32 values transposed (0: flash attention) | u32 layers
        u32 K rotation | u32 V rotation
        layers x { i32 ggml type | u64 row bytes | cells x row bytes of K }
        layers x { i32 ggml type | u64 row bytes | cells x row bytes of V }

The payload of a group, which is what a store keeps, is layer-major, K before V:

    layers x { K rows [tokens, row bytes] | V rows [tokens, row bytes] }

Positions and types are not in the payload: they follow from the block's index
and from the layout, which belongs to the space.

Limits, refused with a ValueError: more than one stream (`kv_unified = false`),
transposed values (flash attention off), cells of more than one sequence, and
the extended cells of M-RoPE models. A model without values in some layers (as
MLA) can be read only against a layout that says so.

Thread-safe: functions without state. Needs numpy.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Any, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
import numpy.typing as npt

STATE_FORMAT_VERSION = 4
MAGIC = 0xAF143CD8

# Far above any model, far below what a corrupt count could make us allocate.
MAX_LAYERS = 4096
MAX_TOKENS = 1 << 24

_CELL = np.dtype([("position", "<i4"), ("sequences", "<u4"), ("sequence", "<i4")])
_HEADER = struct.Struct("<Ii")
_CACHE = struct.Struct("<II")
_LAYERS = struct.Struct("<IIII")
_ROWS = struct.Struct("<iQ")

Bytes = npt.NDArray[np.uint8]
Buffer = Union[bytes, bytearray, memoryview, Bytes]


@dataclasses.dataclass(frozen=True)
class LayerRows:
    """How one layer's rows are stored: ggml types, and bytes a token.

    `v_row_bytes` is 0 where a layer keeps no values.
    """

    k_type: int
    k_row_bytes: int
    v_type: int
    v_row_bytes: int


@dataclasses.dataclass(frozen=True)
class Section:
    """One layer's K or V within a group's payload: offset and length in bytes."""

    layer: int
    is_value: bool
    offset: int
    length: int


@dataclasses.dataclass(frozen=True)
class GroupLayout:
    """The layers of one cache, in the order in which llama.cpp writes them."""

    layers: Tuple[LayerRows, ...]
    k_rotation: int = 0
    v_rotation: int = 0

    def token_bytes(self) -> int:
        """Payload bytes of one token."""
        return sum(layer.k_row_bytes + layer.v_row_bytes for layer in self.layers)

    def sections(self, tokens: int) -> Iterator[Section]:
        """The sections of a payload of `tokens` tokens, in the order of the payload."""
        offset = 0
        for index, layer in enumerate(self.layers):
            for is_value, row_bytes in ((False, layer.k_row_bytes), (True, layer.v_row_bytes)):
                if row_bytes:
                    yield Section(index, is_value, offset, tokens * row_bytes)
                    offset += tokens * row_bytes


@dataclasses.dataclass(frozen=True)
class CacheRows:
    """The cells of one cache that belong to a sequence.

    `positions` is int32 [tokens]. `payload` is uint8 [tokens * token_bytes] in
    the group's order, or None for zeros: cells that a window has left behind
    and that attention masks, but whose places must be taken (see `build_state`).
    """

    positions: npt.NDArray[np.int32]
    payload: Optional[Bytes]


@dataclasses.dataclass(frozen=True)
class SequenceState:
    """A parsed state: one layout and one set of rows for each cache."""

    sequence: int
    layouts: Tuple[GroupLayout, ...]
    caches: Tuple[CacheRows, ...]


class _Reader:
    """Takes bytes from the front of a buffer; a ValueError instead of an over-read."""

    def __init__(self, data: Buffer) -> None:
        self.data = np.frombuffer(data, dtype=np.uint8)
        self.offset = 0

    def take(self, count: int, what: str) -> Bytes:
        left = self.data.size - self.offset
        if count > left:
            raise ValueError(
                f"state: {what} at byte {self.offset} needs {count} bytes, {left} are left"
            )
        start, self.offset = self.offset, self.offset + count
        return self.data[start : self.offset]

    def unpack(self, form: struct.Struct, what: str) -> Tuple[Any, ...]:
        return form.unpack(self.take(form.size, what).tobytes())

    def done(self) -> bool:
        return self.offset == self.data.size


def parse_state(data: Buffer, layouts: Optional[Sequence[GroupLayout]] = None) -> SequenceState:
    """Takes a sequence state apart.

    Args:
      data: what `llama_state_seq_get_data` wrote; any buffer of bytes.
      layouts: what the caches must look like. Without it, each layer is taken
        to have values, and a cache without cells gets a layout without layers.

    Returns: the state; payloads are copies, so `data` may be reused.

    Raises:
      ValueError: truncated, corrupt or trailing bytes; a state of another form
        (see the module's limits); caches that contradict `layouts`.
    """
    reader = _Reader(data)
    magic, sequence = reader.unpack(_HEADER, "header")
    if magic != MAGIC:
        raise ValueError(f"state: magic is {magic:#010x}, not {MAGIC:#010x}")
    found: List[GroupLayout] = []
    caches: List[CacheRows] = []
    while not reader.done():
        if layouts is not None and len(caches) == len(layouts):
            left = reader.data.size - reader.offset
            raise ValueError(f"state: {left} bytes after {len(layouts)} caches")
        expected = layouts[len(caches)] if layouts is not None else None
        layout, rows = _parse_cache(reader, sequence, expected)
        found.append(layout)
        caches.append(rows)
    wanted = len(layouts) if layouts is not None else max(len(caches), 1)
    if len(caches) != wanted:
        raise ValueError(f"state: {len(caches)} caches, expected {wanted}")
    return SequenceState(sequence, tuple(found), tuple(caches))


def _parse_cache(
    reader: _Reader, sequence: int, expected: Optional[GroupLayout]
) -> Tuple[GroupLayout, CacheRows]:
    streams, tokens = reader.unpack(_CACHE, "cache header")
    if streams != 1:
        raise ValueError(f"state: {streams} streams, expected 1 (kv_unified)")
    if tokens > MAX_TOKENS:
        raise ValueError(f"state: {tokens} cells, at most {MAX_TOKENS}")
    if tokens == 0:
        return expected or GroupLayout(()), CacheRows(np.empty(0, np.int32), np.empty(0, np.uint8))
    cells = reader.take(tokens * _CELL.itemsize, "cells").view(_CELL)
    if (cells["sequences"] != 1).any() or (cells["sequence"] != sequence).any():
        raise ValueError(f"state: cells of other sequences than {sequence}, or extended cells")
    if (cells["position"] < 0).any():
        raise ValueError("state: a negative position")
    transposed, layers, k_rotation, v_rotation = reader.unpack(_LAYERS, "layer header")
    if transposed:
        raise ValueError("state: values are transposed; flash attention must be on")
    if not 1 <= layers <= MAX_LAYERS:
        raise ValueError(f"state: {layers} layers, expected 1 to {MAX_LAYERS}")
    if expected is not None and layers != len(expected.layers):
        raise ValueError(f"state: {layers} layers, the layout has {len(expected.layers)}")
    keys = [_take_rows(reader, tokens, f"K of layer {i}") for i in range(layers)]
    values = [
        _take_rows(reader, tokens, f"V of layer {i}")
        if expected is None or expected.layers[i].v_row_bytes
        else (0, 0, np.empty(0, np.uint8))
        for i in range(layers)
    ]
    layout = GroupLayout(
        tuple(LayerRows(k[0], k[1], v[0], v[1]) for k, v in zip(keys, values)),
        k_rotation,
        v_rotation,
    )
    if expected is not None and layout != expected:
        raise ValueError("state: types, row sizes or rotations differ from the layout")
    payload = np.concatenate([rows for pair in zip(keys, values) for *_, rows in pair])
    return layout, CacheRows(cells["position"].copy(), payload)


def _take_rows(reader: _Reader, tokens: int, what: str) -> Tuple[int, int, Bytes]:
    ggml_type, row_bytes = reader.unpack(_ROWS, what)
    if row_bytes == 0:
        raise ValueError(f"state: {what} has rows of 0 bytes")
    return ggml_type, row_bytes, reader.take(tokens * row_bytes, what)


def state_bytes(layouts: Sequence[GroupLayout], tokens: Sequence[int]) -> int:
    """The size of the state of `tokens[i]` cells in cache i."""
    total = _HEADER.size
    for layout, count in zip(layouts, tokens):
        total += _CACHE.size
        if count:
            headers = sum(1 + (layer.v_row_bytes > 0) for layer in layout.layers)
            total += _LAYERS.size + headers * _ROWS.size
            total += count * (_CELL.itemsize + layout.token_bytes())
    return total


def build_state(
    layouts: Sequence[GroupLayout], sequence: int, caches: Sequence[CacheRows]
) -> Bytes:
    """Puts a sequence state together: the inverse of `parse_state`, byte for byte.

    A cache whose payload is None gets zeros. That is how blocks that a window
    has passed are restored: attention never reads them, but they must take the
    same cells as when they were computed, because llama.cpp's flash attention
    splits the sum over cells by their number, and floating-point sums depend
    on the split.

    Returns: uint8 [state_bytes(layouts, [len(c.positions) for c in caches])].

    Raises:
      ValueError: not as many layouts as caches; a payload that is not exactly
        tokens * token_bytes; cells in a cache whose layout has no layers.
    """
    if len(layouts) != len(caches):
        raise ValueError(f"state: {len(layouts)} layouts for {len(caches)} caches")
    out = np.empty(state_bytes(layouts, [len(c.positions) for c in caches]), np.uint8)
    _HEADER.pack_into(out.data, 0, MAGIC, sequence)
    offset = _HEADER.size
    for layout, rows in zip(layouts, caches):
        offset = _build_cache(out, offset, sequence, layout, rows)
    assert offset == out.size
    return out


def _build_cache(
    out: Bytes, offset: int, sequence: int, layout: GroupLayout, rows: CacheRows
) -> int:
    tokens = len(rows.positions)
    _CACHE.pack_into(out.data, offset, 1, tokens)
    offset += _CACHE.size
    if tokens == 0:
        return offset
    if not layout.layers:
        raise ValueError(f"state: {tokens} cells for a cache without layers")
    size = tokens * layout.token_bytes()
    if rows.payload is not None and rows.payload.nbytes != size:
        raise ValueError(f"state: payload of {rows.payload.nbytes} bytes, expected {size}")
    cells = out[offset : offset + tokens * _CELL.itemsize].view(_CELL)
    cells["position"], cells["sequences"], cells["sequence"] = rows.positions, 1, sequence
    offset += tokens * _CELL.itemsize
    _LAYERS.pack_into(out.data, offset, 0, len(layout.layers), layout.k_rotation, layout.v_rotation)
    offset += _LAYERS.size
    sections = list(layout.sections(tokens))
    # The state has all keys before all values; the sort keeps the layers' order.
    for section in sorted(sections, key=lambda s: s.is_value):
        layer = layout.layers[section.layer]
        if section.is_value:
            _ROWS.pack_into(out.data, offset, layer.v_type, layer.v_row_bytes)
        else:
            _ROWS.pack_into(out.data, offset, layer.k_type, layer.k_row_bytes)
        offset += _ROWS.size
        target = out[offset : offset + section.length]
        if rows.payload is None:
            target[:] = 0
        else:
            target[:] = rows.payload[section.offset : section.offset + section.length]
        offset += section.length
    return offset
