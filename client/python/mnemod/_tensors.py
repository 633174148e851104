"""Tensor sections and calibrations, decoded with numpy.

The bytes are in docs/formats/tensor-section.md and docs/formats/calibration.md; the
server's own decoder is storage/codec. Sections come from another host: whatever
is wrong with one is Damaged.
"""

from __future__ import annotations

from functools import lru_cache
import math
from statistics import NormalDist
import struct
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

numpy: Any
try:
    import numpy
except ImportError:
    numpy = None

xxhash: Any
try:
    import xxhash
except ImportError:
    xxhash = None

KIVI, ROTATED, PROGRESSIVE = 2, 3, 4
_F32, _F16, _BF16, _E4M3, _E5M2 = 1, 2, 3, 4, 5
_WIDTHS = {_F32: 4, _F16: 2, _BF16: 2, _E4M3: 1, _E5M2: 1}
_ELEMENTS = {_F32: "<f4", _F16: "<f2", _BF16: "<u2", _E4M3: "u1", _E5M2: "u1"}
_GROUP = 32  # of KIVI
_MAX_BYTES = 1 << 30


class Damaged(ValueError):
    """Bytes that are not what they should be."""


class MissingCalibration(Exception):
    """A section names a calibration that is not here, or is of another geometry."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"calibration {number:08x} is {why}")
        self.number = number


def check_available() -> None:
    """Errors: ImportError (what decoding takes is not installed)."""
    if numpy is None:
        raise ImportError("decode_at_client takes numpy: install mnemod[numpy]")
    if xxhash is None:
        raise ImportError("decode_at_client takes xxhash: install mnemod[numpy]")


# Sections


class Tensor(NamedTuple):
    """The header of a section."""

    codec: int
    bits: int
    dtype: int
    values: bool  # otherwise keys
    token_major: bool
    layers: int
    tokens: int
    heads: int
    dimension: int
    tail: int
    exact: int
    first_layer: int
    first_head: int
    first_position: int
    calibration: int  # 0: none
    size: int  # of the header

    @property
    def padded(self) -> int:
        return (self.dimension + 7) // 8 * 8

    @property
    def encoded(self) -> int:
        """How many tokens are encoded."""
        return self.tokens - self.exact

    @property
    def row_bytes(self) -> int:
        return self.dimension * _WIDTHS[self.dtype]

    @property
    def bytes(self) -> int:
        """As they were put."""
        rows = self.layers * self.tokens * self.heads
        return rows * self.row_bytes + self.layers * self.tail


def _varint(data: memoryview, at: int) -> Tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(data):
            raise Damaged("tensor section: shorter than its header")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return min(value, 0xFFFFFFFF), at
    raise Damaged("tensor section: a number too large")


_BITS = {KIVI: (2, 4, 8), ROTATED: (1, 2, 3, 4, 5), PROGRESSIVE: (2, 3, 4, 5, 8)}


def read_header(data: memoryview) -> Tensor:
    """What a section says of itself. Errors: Damaged."""
    if len(data) < 4:
        raise Damaged("tensor section: shorter than its header")
    version, codec, bits, flags = data[:4]
    if version != 1 or flags & 0x80:
        raise Damaged(f"tensor section: version {version}, flags {flags:#x}")
    if bits not in _BITS.get(codec, ()):
        raise Damaged(f"tensor section: codec {codec} of {bits} bits is not known")
    at = 4
    fields: List[int] = []
    for _ in range(9):
        value, at = _varint(data, at)
        fields.append(value)
    calibration = 0
    if flags & 0x40:
        if at + 4 > len(data):
            raise Damaged("tensor section: shorter than its header")
        (calibration,) = struct.unpack_from("<I", data, at)
        at += 4
        if calibration == 0:
            raise Damaged("tensor section: calibration 0")
    kind = (codec, bits, flags & 0x0F, bool(flags & 0x10), bool(flags & 0x20))
    tensor = Tensor._make((*kind, *fields, calibration, at))
    good = (
        tensor.dtype in _WIDTHS
        and 1 <= tensor.layers <= 1024
        and 1 <= tensor.tokens <= 65535
        and 1 <= tensor.heads <= 1024
        and 1 <= tensor.dimension <= 16384
        and tensor.tail <= (0 if tensor.token_major else 16 << 20)
        and tensor.exact <= tensor.tokens
        and max(tensor.first_layer, tensor.first_head) < 1024
        and tensor.bytes <= _MAX_BYTES
    )
    if not good:
        raise Damaged("tensor section: a shape out of range")
    return tensor


def decode(data: memoryview, size: int, calibrations: Dict[int, "Calibration"]) -> Any:
    """The bytes of a section as they were put, `size` of them, as an array.

    Errors: Damaged, MissingCalibration.
    """
    tensor = read_header(data)
    if tensor.bytes != size:
        raise Damaged(f"tensor section: decodes to {tensor.bytes} bytes, not {size}")
    calibration = _calibration_of(tensor, calibrations)
    exact_bytes = tensor.layers * tensor.exact * tensor.heads * tensor.row_bytes
    tail_bytes = tensor.layers * tensor.tail
    body_at = tensor.size + exact_bytes + tail_bytes
    if len(data) != body_at + _body_bytes(tensor):
        raise Damaged("tensor section: another size than its header says")
    element = _ELEMENTS[tensor.dtype]
    raw = numpy.frombuffer(data, "u1")
    exact = raw[tensor.size : tensor.size + exact_bytes].view(element)
    shape = (tensor.layers, tensor.tokens, tensor.heads, tensor.dimension)
    whole = numpy.empty(shape, element)
    whole[:, : tensor.exact] = exact.reshape(
        tensor.layers, tensor.exact, tensor.heads, tensor.dimension
    )
    if tensor.encoded:
        form = _kivi if tensor.codec == KIVI else _rotated
        values = form(tensor, raw[body_at:], calibration)[..., : tensor.dimension]
        whole[:, tensor.exact :] = _stored(values, tensor.dtype)
    if tensor.token_major:
        return numpy.ascontiguousarray(whole.transpose(1, 0, 2, 3)).reshape(-1).view("u1")
    if not tensor.tail:
        return whole.reshape(-1).view("u1")
    tails = raw[tensor.size + exact_bytes : body_at].reshape(tensor.layers, tensor.tail)
    layers = whole.reshape(tensor.layers, -1).view("u1")
    return numpy.concatenate((layers, tails), axis=1).reshape(-1)


def _calibration_of(
    tensor: Tensor, calibrations: Dict[int, "Calibration"]
) -> "Optional[Calibration]":
    if tensor.calibration == 0:
        return None
    if tensor.codec == KIVI and (tensor.values or tensor.tokens >= _GROUP):
        raise Damaged("tensor section: a calibration without use")
    found = calibrations.get(tensor.calibration)
    if found is None:
        raise MissingCalibration(tensor.calibration, "not here")
    dimension = found.v_dimension if tensor.values else found.k_dimension
    if (
        dimension != tensor.dimension
        or tensor.first_layer + tensor.layers > found.layers
        or tensor.first_head + tensor.heads > found.heads
    ):
        raise MissingCalibration(tensor.calibration, "of another space")
    return found


def _body_bytes(tensor: Tensor) -> int:
    rows = tensor.layers * tensor.encoded * tensor.heads
    codes = tensor.padded // 8 * tensor.bits
    if tensor.codec != KIVI:
        return rows * (2 + codes)
    return tensor.layers * _step_count(tensor) * 4 + rows * codes


def _step_count(tensor: Tensor) -> int:
    """Of one layer of KIVI."""
    if tensor.calibration:
        return 0
    if tensor.values:
        return tensor.encoded * tensor.heads * _groups(tensor.dimension)
    return _groups(tensor.encoded) * tensor.heads * tensor.dimension


def _groups(count: int) -> int:
    return (count + _GROUP - 1) // _GROUP


# Codes


def _unpack(planes: Sequence[Tuple[Any, int]], padded: int) -> Any:
    """Codes of rows; planes are [rows, bytes] with their width, the highest bits first."""
    codes: Any = None
    for rows, width in planes:
        if width == 8:
            part = rows
        elif width == 1:
            part = numpy.unpackbits(rows, axis=1, bitorder="little")[:, :padded]
        else:
            mask = (1 << width) - 1
            part = numpy.concatenate(
                [rows >> shift & mask for shift in range(0, 8, width)], axis=1
            )
        codes = part if codes is None else (codes << width) | part
    return codes


def _finite_half(raw: Any) -> Any:
    """fp16 as fp32; what is not finite counts as 0."""
    values = raw.view("<f2").astype("f4")
    return numpy.where(numpy.isfinite(values), values, numpy.float32(0))


def _kivi(tensor: Tensor, body: Any, calibration: "Optional[Calibration]") -> Any:
    rows = (tensor.layers, tensor.encoded, tensor.heads)
    steps = tensor.layers * _step_count(tensor) * 4
    packed = body[steps:].reshape(-1, tensor.padded // 8 * tensor.bits)
    codes = _unpack([(packed, tensor.bits)], tensor.padded).reshape(*rows, tensor.padded)
    codes = codes[..., : tensor.dimension].astype("f4")
    if calibration is not None:
        scale, zero = calibration.steps(tensor)
        return zero[:, None] + scale[:, None] * codes
    halves = _finite_half(body[:steps])
    if tensor.values:
        groups = _groups(tensor.dimension)
        pairs = numpy.repeat(halves.reshape(*rows, 2, groups), _GROUP, axis=-1)
    else:
        groups = _groups(tensor.encoded)
        shape = (tensor.layers, groups, tensor.heads, 2, tensor.dimension)
        pairs = numpy.repeat(halves.reshape(shape), _GROUP, axis=1)[:, : tensor.encoded]
    pairs = pairs[..., : tensor.dimension]
    return pairs[..., 1, :] + pairs[..., 0, :] * codes


_ROTATED_PLANES = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1)}
_PROGRESSIVE_PLANES = {2: (2,), 3: (2, 1), 4: (2, 1, 1), 5: (2, 1, 1, 1), 8: (2, 1, 1, 1, 2, 1)}
_LLOYD_MAX = {
    1: (3268,),
    2: (1855, 6187),
    3: (1004, 3097, 5505, 8814),
    4: (526, 1589, 2690, 3860, 5146, 6628, 8475, 11193),
    5: (
        270, 811, 1357, 1912, 2478, 3060, 3664, 4296,
        4964, 5678, 6456, 7321, 8310, 9493, 11023, 13356,
    ),
}  # fmt: skip


@lru_cache(maxsize=None)
def levels(codec: int, bits: int) -> Any:
    """What each code stands for, in ascending order."""
    half = _LLOYD_MAX[bits] if codec == ROTATED else _centroids(bits)
    units = [-each for each in reversed(half)] + list(half)
    return numpy.array(units, "f4") / numpy.float32(4096)


def _centroids(bits: int) -> Sequence[int]:
    """The positive half of the progressive levels, in units of 1/4096."""
    normal = NormalDist()
    count = 1 << bits

    def begin(cell: int) -> float:
        return 1.5 * normal.inv_cdf(cell / 256) if cell else -math.inf

    def density(x: float) -> float:
        return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    def below(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    lower = []
    for code in range(count // 2):
        low, high = begin(code * 256 // count), begin((code + 1) * 256 // count)
        centroid = (density(low) - density(high)) / (below(high) - below(low))
        lower.append(-round(centroid * 4096))
    return lower[::-1]


def _rotated(tensor: Tensor, body: Any, calibration: "Optional[Calibration]") -> Any:
    count = tensor.layers * tensor.encoded * tensor.heads
    gains = _finite_half(body[: 2 * count])
    widths = (_ROTATED_PLANES if tensor.codec == ROTATED else _PROGRESSIVE_PLANES)[tensor.bits]
    planes = []
    at = 2 * count
    for width in widths:
        row = tensor.padded // 8 * width
        planes.append((body[at : at + count * row].reshape(count, row), width))
        at += count * row
    values = levels(tensor.codec, tensor.bits)[_unpack(planes, tensor.padded)]
    signs = _invert_rotation(values, tensor.padded)
    values *= gains[:, None]
    values = values.reshape(tensor.layers, tensor.encoded, tensor.heads, tensor.padded)
    values *= signs
    values = values[..., : tensor.dimension]
    if calibration is None:
        return values
    mean, inverse_weight = calibration.centre(tensor)
    values = values * inverse_weight[:, None] + mean[:, None]
    if not tensor.values:
        for layer in range(tensor.layers):
            calibration.put_positions_on(tensor, layer, values[layer])
    return values


_SEED = 0x6D6E656D6F726F74
_ROUNDS = 4


@lru_cache(maxsize=16)
def _signs(padded: int) -> Any:
    outputs = _mt19937_64(_SEED, _ROUNDS * padded)
    signs = [1.0 if output >> 63 else -1.0 for output in outputs]
    return numpy.array(signs, "f4").reshape(_ROUNDS, padded)


def _invert_rotation(values: Any, padded: int) -> Any:
    """Takes the rotation off rows, in place, but for the signs that it returns."""
    window = 1 << (padded.bit_length() - 1)
    signs = _signs(padded)
    for number in reversed(range(1 if window == padded else _ROUNDS)):
        _hadamard(values[:, :window] if number % 2 == 0 else values[:, padded - window :])
        if number:
            values *= signs[number]
    return signs[0]


def _hadamard(values: Any) -> None:
    """The Walsh-Hadamard transform of rows, in place, over the root of their size."""
    rows, size = values.shape
    # Channel by channel, so that each step runs over all rows at once.
    channels = numpy.ascontiguousarray(values.T)
    half = 1
    while half < size:
        pairs = channels.reshape(-1, 2, half, rows)
        sums = pairs[:, 0] + pairs[:, 1]
        numpy.subtract(pairs[:, 0], pairs[:, 1], out=pairs[:, 1])
        pairs[:, 0] = sums
        half *= 2
    values[...] = (channels * (numpy.float32(1) / numpy.sqrt(numpy.float32(size)))).T


def _mt19937_64(seed: int, count: int) -> List[int]:
    """The first outputs of the C++ standard's engine of that name."""
    mask = (1 << 64) - 1
    state = [seed]
    for i in range(1, 312):
        last = state[-1]
        state.append((6364136223846793005 * (last ^ last >> 62) + i) & mask)
    outputs: List[int] = []
    while len(outputs) < count:
        for i in range(312):
            x = (state[i] & 0xFFFFFFFF80000000) | (state[(i + 1) % 312] & 0x7FFFFFFF)
            twist = 0xB5026F5AA96619E9 if x & 1 else 0
            state[i] = state[(i + 156) % 312] ^ x >> 1 ^ twist
        for y in state:
            y ^= y >> 29 & 0x5555555555555555
            y ^= y << 17 & 0x71D67FFFEDA60000
            y ^= y << 37 & 0xFFF7EEE000000000
            outputs.append(y ^ y >> 43)
    return outputs[:count]


# Values as engines keep them


def _stored(values: Any, dtype: int) -> Any:
    if dtype == _F32:
        largest = numpy.finfo("f4").max
        return numpy.clip(values, -largest, largest)
    if dtype == _F16:
        return numpy.clip(values, -65504, 65504).astype("<f2")
    if dtype == _BF16:
        largest = numpy.float32(3.3895313892515355e38)
        bits = numpy.ascontiguousarray(numpy.clip(values, -largest, largest), "<f4").view("<u4")
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")
    magnitudes = _fp8_magnitudes(dtype)
    middles = (magnitudes[1:] + magnitudes[:-1]) / 2
    absolute = numpy.abs(values)
    codes = numpy.searchsorted(middles, absolute)  # of a tie: the lower one
    tie = (codes < len(middles)) & (absolute == middles[numpy.minimum(codes, len(middles) - 1)])
    codes += tie & (codes % 2 == 1)
    return (codes | numpy.where(numpy.signbit(values), 0x80, 0)).astype("u1")


@lru_cache(maxsize=None)
def _fp8_magnitudes(dtype: int) -> Any:
    """Of the finite codes from 0 up."""
    mantissa, bias, count = (3, 7, 0x7F) if dtype == _E4M3 else (2, 15, 0x7C)
    made = []
    for code in range(count):
        exponent, fraction = code >> mantissa, code & (1 << mantissa) - 1
        if exponent:
            made.append((1 + fraction / (1 << mantissa)) * 2.0 ** (exponent - bias))
        else:
            made.append(fraction / (1 << mantissa) * 2.0 ** (1 - bias))
    return numpy.array(made, "f4")


# Calibrations

_CALIBRATION = struct.Struct("<IIIIII")
_MAGIC = 0x434E454D
_EVENING = 0.75
_LARGEST = 65504


class Calibration:
    """The statistics of a group that its sections lean on. Immutable."""

    def __init__(self, data: bytes) -> None:
        """Errors: Damaged."""
        if len(data) < _CALIBRATION.size + 8:
            raise Damaged("calibration: cut short")
        body, said = data[:-8], int.from_bytes(data[-8:], "little")
        magic, version, self.layers, self.heads, self.k_dimension, self.v_dimension = (
            _CALIBRATION.unpack_from(body)
        )
        if magic != _MAGIC or version != 1:
            raise Damaged("calibration: not one, or of another version")
        if xxhash.xxh3_64_intdigest(body) != said:
            raise Damaged("calibration: fails its checksum")
        self.number = (said & 0xFFFFFFFF) or 1
        ropes = self.layers * 16
        k, v = (self.layers * self.heads * each for each in (self.k_dimension, self.v_dimension))
        at = _CALIBRATION.size + ropes
        good = 1 <= self.layers <= 1024 and 1 <= self.heads <= 1024
        if not good or not 1 <= self.k_dimension <= 16384 or self.v_dimension > 16384:
            raise Damaged("calibration: a geometry out of range")
        if len(body) != at + 16 * (k + v):
            raise Damaged("calibration: another size than its geometry says")
        self._ropes = [struct.unpack_from("<dQ", body, at - ropes + 16 * i) for i in range(self.layers)]
        for theta, style in self._ropes:
            if style > 2 or (style and (not 1 <= theta <= 1e12 or self.k_dimension % 2)):
                raise Damaged("calibration: positions that make no sense")
        self._keys = self._statistics(body, at, self.k_dimension)
        self._values = self._statistics(body, at + 16 * k, self.v_dimension)
        deviation = self._keys[1].astype("f8")
        logs = numpy.log(deviation)
        logs -= logs.mean(axis=-1, keepdims=True)
        self._inverse_weight = numpy.exp(_EVENING * logs).astype("f4")

    def _statistics(self, body: bytes, at: int, dimension: int) -> Any:
        """Mean, deviation, low, high: [layer, head, dimension] each."""
        count = self.layers * self.heads * dimension
        all_ = numpy.frombuffer(body, "<f4", 4 * count, at)
        all_ = all_.reshape(4, self.layers, self.heads, dimension)
        # NaN is not within anything.
        if not (numpy.abs(all_) <= _LARGEST).all() or not (all_[1] >= 1e-6 * 0.999).all():
            raise Damaged("calibration: statistics that make no sense")
        return all_

    def _box(self, tensor: Tensor) -> Tuple[slice, slice]:
        return (
            slice(tensor.first_layer, tensor.first_layer + tensor.layers),
            slice(tensor.first_head, tensor.first_head + tensor.heads),
        )

    def centre(self, tensor: Tensor) -> Tuple[Any, Any]:
        """Mean, and 1 over the weight: [layer, head, dimension]."""
        box = self._box(tensor)
        if tensor.values:
            return self._values[0][box], numpy.ones((1, 1, 1), "f4")
        return self._keys[0][box], self._inverse_weight[box]

    def steps(self, tensor: Tensor) -> Tuple[Any, Any]:
        """Scale and zero of KIVI's keys: [layer, head, dimension]."""
        box = self._box(tensor)
        low, high = self._keys[2][box], self._keys[3][box]
        zero = low.astype("<f2").astype("f4")
        most = numpy.float32((1 << tensor.bits) - 1)
        scale = numpy.maximum(numpy.float32(0), (high - zero) / most)
        return _finite_half(scale.astype("<f2")), zero

    def put_positions_on(self, tensor: Tensor, layer: int, keys: Any) -> None:
        """Turns keys [token, head, dimension] by their positions, in place."""
        theta, style = self._ropes[tensor.first_layer + layer]
        if style == 0:
            return
        pairs = tensor.dimension // 2
        frequency = theta ** (-2 * numpy.arange(pairs) / tensor.dimension)
        first = tensor.first_position + tensor.exact
        angles = numpy.arange(first, first + tensor.encoded)[:, None] * frequency
        cosine = numpy.cos(angles).astype("f4")[:, None]
        sine = numpy.sin(angles).astype("f4")[:, None]
        interleaved = style == 2
        a = keys[..., 0::2] if interleaved else keys[..., :pairs]
        b = keys[..., 1::2] if interleaved else keys[..., pairs:]
        turned = a * cosine - b * sine
        b[...] = b * cosine + a * sine
        a[...] = turned
