"""The two messages that carry payload, encoded and decoded without copies.

protobuf would copy a payload into its arena and again into a `bytes`; these
functions build a PutRequest with one copy and find the payload inside a
GetResponse with none. A test holds them against protobuf itself.
"""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

# Largest payload of one message, by the contract.
MAX_PAYLOAD = 1 << 20

_VARINT = 0
_LEN = 2
_DATA_FIELD = 2  # of PutRequest and of GetResponse
_MAX_VARINT_BYTES = 10


# A piece of one part's payload: index, offset, data.
DataPiece = Tuple[int, int, memoryview]


def append_varint(out: bytearray, value: int) -> None:
    """Appends a number as protobuf writes it."""
    while value >= 0x80:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)


def encode_put_data(index: int, offset: int, pieces: Sequence[memoryview]) -> bytes:
    """Returns a serialised `PutRequest{data: {index, offset, data}}`.

    `data` is the concatenation of `pieces`, which are contiguous bytes.
    """
    size = sum(len(piece) for piece in pieces)
    inner = bytearray()
    inner.append(1 << 3 | _VARINT)
    append_varint(inner, index)
    inner.append(2 << 3 | _VARINT)
    append_varint(inner, offset)
    inner.append(3 << 3 | _LEN)
    append_varint(inner, size)
    outer = bytearray((_DATA_FIELD << 3 | _LEN,))
    append_varint(outer, len(inner) + size)
    return b"".join((outer, inner, *pieces))


def read_varint(buffer: bytes, position: int, end: int) -> "tuple[int, int]":
    """The number at `position`, and where it ends. Errors: ValueError."""
    value = 0
    for shift in range(0, 7 * _MAX_VARINT_BYTES, 7):
        if position >= end:
            raise ValueError("message ends inside a number")
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("number of more than 10 bytes")


def decode_get_data(message: bytes) -> Optional[DataPiece]:
    """Returns the piece in a serialised `GetResponse{data}`, as a view of it.

    None if the message is not such a one in its plain form: then protobuf has
    to read it. Errors: ValueError (a length points outside of the message).
    """
    end = len(message)
    if end == 0 or message[0] != (_DATA_FIELD << 3 | _LEN):
        return None
    length, position = read_varint(message, 1, end)
    if position + length != end:
        return None
    index = offset = 0
    data = memoryview(b"")
    while position < end:
        tag = message[position]
        position += 1
        if tag == 1 << 3 | _VARINT:
            index, position = read_varint(message, position, end)
        elif tag == 2 << 3 | _VARINT:
            offset, position = read_varint(message, position, end)
        elif tag == 3 << 3 | _LEN:
            length, position = read_varint(message, position, end)
            if length > end - position:
                raise ValueError(f"data of {length} bytes, {end - position} are left")
            data = memoryview(message)[position : position + length]
            position += length
        else:
            return None
    return index, offset, data


def as_bytes_view(buffer: object) -> memoryview:
    """Returns a C-contiguous buffer as a flat view of bytes.

    Errors: TypeError (not a buffer), ValueError (not contiguous).
    """
    view = memoryview(buffer)  # type: ignore[arg-type]
    if not view.c_contiguous:
        raise ValueError("buffer is not C-contiguous; pass its contiguous runs as a sequence")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def as_segments(data: object) -> List[memoryview]:
    """Returns a buffer, or a sequence of them, as flat views in order.

    An array with gaps (a strided row of an engine's pool) is given as its
    contiguous runs. Empty buffers are left out.
    """
    if type(data) is memoryview:
        return [as_bytes_view(data)] if data.nbytes else []
    if isinstance(data, (list, tuple)):
        return [view for item in data for view in as_segments(item)]
    runs = _contiguous_runs(data)
    return [view for view in (as_bytes_view(run) for run in runs) if len(view)]


def _contiguous_runs(data: object) -> Sequence[object]:
    flags = getattr(data, "flags", None)
    if flags is None or not hasattr(data, "dtype"):
        return (data,)
    # A numpy array; known by its look, so that numpy is not needed.
    if flags["C_CONTIGUOUS"]:
        # Types that the buffer protocol does not know, bfloat16 for one.
        return (data.reshape(-1).view("u1"),) if data.size else ()  # type: ignore[attr-defined]
    if data.ndim == 1:  # type: ignore[attr-defined]
        raise ValueError("the elements of an array's last axis must lie side by side")
    return [run for row in data for run in _contiguous_runs(row)]  # type: ignore[attr-defined]
