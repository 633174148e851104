"""The tensors of a GGUF file as float32.

For files from pinned packages: sizes are checked against the file, and nothing
more. Block formats are ggml's (ggml-common.h, ggml-quants.c), little-endian.
"""

from __future__ import annotations

import dataclasses
import math
import mmap
import pathlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mnemod import gguf

Array = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def _half(data: Bytes) -> Array:
    """[n, 2k] bytes -> [n, k] of fp16."""
    return np.ascontiguousarray(data).view(np.float16).astype(np.float32)


def _nibbles(data: Bytes) -> Bytes:
    """Low halves, then high halves."""
    return np.concatenate([data & 15, data >> 4], axis=1)


def _q4_0(b: Bytes) -> Array:
    return (_nibbles(b[:, 2:]).astype(np.float32) - 8) * _half(b[:, :2])


def _q4_1(b: Bytes) -> Array:
    return _nibbles(b[:, 4:]) * _half(b[:, :2]) + _half(b[:, 2:4])


def _fifth_bits(b: Bytes) -> Bytes:
    return np.unpackbits(b, axis=1, bitorder="little") << 4


def _q5_0(b: Bytes) -> Array:
    q = _nibbles(b[:, 6:]) | _fifth_bits(b[:, 2:6])
    return (q.astype(np.float32) - 16) * _half(b[:, :2])


def _q5_1(b: Bytes) -> Array:
    q = _nibbles(b[:, 8:]) | _fifth_bits(b[:, 4:8])
    return q * _half(b[:, :2]) + _half(b[:, 2:4])


def _q8_0(b: Bytes) -> Array:
    return np.ascontiguousarray(b[:, 2:]).view(np.int8) * _half(b[:, :2])


def _k_scales(b: Bytes) -> tuple[Bytes, Bytes]:
    """12 bytes -> 8 scales and 8 minima of 6 bits (get_scale_min_k4)."""
    low, mid, high = b[:, :4], b[:, 4:8], b[:, 8:12]
    scales = np.concatenate([low & 63, (high & 15) | (low >> 6) << 4], axis=1)
    minima = np.concatenate([mid & 63, (high >> 4) | (mid >> 6) << 4], axis=1)
    return scales, minima


def _k_blocks(b: Bytes, q: npt.NDArray[np.uint8]) -> Array:
    """q [n, 8, 32] with the super-block's fp16 scale and minimum."""
    scales, minima = _k_scales(b[:, 4:16])
    d, least = _half(b[:, :2]) * scales, _half(b[:, 2:4]) * minima
    return (q * d[..., None] - least[..., None]).reshape(len(b), 256)


def _low_high(data: Bytes) -> Bytes:
    """128 bytes -> [8, 32]: each 32 bytes give 32 low halves, then 32 high ones."""
    q = data.reshape(-1, 4, 32)
    return np.stack([q & 15, q >> 4], axis=2).reshape(-1, 8, 32)


def _q4_k(b: Bytes) -> Array:
    return _k_blocks(b, _low_high(b[:, 16:]))


def _q5_k(b: Bytes) -> Array:
    high = (b[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[None, :, None]) & 1
    return _k_blocks(b, _low_high(b[:, 48:]) | high << 4)


def _q6_k(b: Bytes) -> Array:
    low = b[:, :128].reshape(-1, 2, 64)
    low = np.concatenate([low & 15, low >> 4], axis=2).reshape(-1, 2, 4, 32)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[None, None, :, None]
    high = (b[:, 128:192].reshape(-1, 2, 1, 32) >> shifts) & 3
    q = (low | high << 4).astype(np.float32).reshape(-1, 16, 16) - 32
    scales = np.ascontiguousarray(b[:, 192:208]).view(np.int8) * _half(b[:, 208:210])
    return (q * scales[..., None]).reshape(len(b), 256)


@dataclasses.dataclass(frozen=True)
class _Format:
    values: int
    size: int
    decode: Callable[[Bytes], Array]


# By ggml_type.
_FORMATS = {
    0: _Format(1, 4, lambda b: np.ascontiguousarray(b).view(np.float32)),
    1: _Format(1, 2, _half),
    2: _Format(32, 18, _q4_0),
    3: _Format(32, 20, _q4_1),
    6: _Format(32, 22, _q5_0),
    7: _Format(32, 24, _q5_1),
    8: _Format(32, 34, _q8_0),
    12: _Format(256, 144, _q4_k),
    13: _Format(256, 176, _q5_k),
    14: _Format(256, 210, _q6_k),
}


class Weights:
    """All tensors of a file, each dequantised when it is asked for."""

    def __init__(self, path: pathlib.Path) -> None:
        self.metadata = gguf.read_metadata(path)
        with open(path, "rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._tensors = {tensor.name: tensor for tensor in gguf.parse_tensors(self._data)}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def get(self, name: str) -> Array:
        """float32, the outermost dimension first: [rows, columns] of a matrix.

        Raises: KeyError; ValueError (a type that is not known, a tensor that
        does not fit the file).
        """
        tensor = self._tensors[name]
        form = _FORMATS.get(tensor.kind)
        count = math.prod(tensor.shape)
        if form is None or count % form.values:
            raise ValueError(f"{name}: type {tensor.kind} with {count} values is not known")
        size = count // form.values * form.size
        if tensor.offset + size > len(self._data):
            raise ValueError(f"{name}: ends beyond the file")
        raw = np.frombuffer(self._data, np.uint8, size, tensor.offset).reshape(-1, form.size)
        return form.decode(raw).reshape(tensor.shape)
