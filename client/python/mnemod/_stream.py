"""What the frames of the stream protocol say, without a socket.

docs/formats/stream-protocol.md is the specification, and tests/data/stream holds
golden frames that these functions write and read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
import struct
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

from ._contract import pb
from ._frames import (
    ANSWER as ANSWER,
    HEADER_BYTES as HEADER_BYTES,
    MAX_BODY_BYTES as MAX_BODY_BYTES,
    MAX_DATA_BYTES as MAX_DATA_BYTES,
    AnswerReader as AnswerReader,
    Header as Header,
    Malformed as Malformed,
    Type as Type,
    data as data,
    data_head as data_head,
    frame as frame,
    header as header,
)
from .blocks import Digest, Level, Part, PartFidelity, PutOutcome, Verdict
from .errors import Code, MnemoError, make_error

_U8 = struct.Struct("<B")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_PART = struct.Struct("<BHH")
_SLICE = struct.Struct("<QQQI")
_DIGEST = struct.Struct("<QQ")  # low, high
_RUN = struct.Struct("<IIB")
_REACH = struct.Struct("<II")
_PLACE = struct.Struct("<II")  # region, slices
_READ = struct.Struct("<IIQI")  # first layer, layers, lease, encodings
_GOT = struct.Struct("<QQQQBI")  # size, bytes, digest, level, depth
_FIDELITY = struct.Struct("<dd")  # bits of a value, error
IN_STREAM = 0
"""The region of places whose payload travels in the stream."""

T = TypeVar("T")


class Kind(IntEnum):
    """What memory is registered."""

    FILE = 1
    PROCESS = 2
    STAGING = 3


class Slice(NamedTuple):
    """`runs` runs of `length` bytes, each `stride` behind the one before."""

    offset: int
    length: int
    stride: int = 0
    runs: int = 1


class Place(NamedTuple):
    """Where a part lies: slices of a region, in the order of its bytes."""

    region: int
    slices: Sequence[Slice]


class Offered(NamedTuple):
    """A part to be stored, without its bytes."""

    key: bytes
    part: Part
    size: int
    depth: int
    parent: bytes
    stretch: bytes
    digest: Optional[Digest]


class Welcome(NamedTuple):
    """What the server says to HELLO."""

    max_requests: int
    max_regions: int
    max_region_bytes: int
    token: str
    token_seconds: float


@dataclass
class Got:
    """What came of one place of a GET."""

    error: Optional[MnemoError] = None
    size: int = 0
    written: int = 0
    digest: Optional[Digest] = None
    level: Level = Level.UNSPECIFIED
    depth: int = 0
    fidelity: Optional[PartFidelity] = None
    encoded: bool = False
    put_digest: Optional[Digest] = None  # with a fidelity, or encoded
    runs: Sequence[Tuple[int, int]] = ()  # of encoded; none: all sections


@dataclass
class Stored:
    """What came of one part of a PUT."""

    outcome: PutOutcome
    digest: Optional[Digest] = None
    error: Optional[MnemoError] = None


class Unfit(ValueError):
    """A number or a text that has no room in its field."""


# Bodies of requests


def _text(data: bytes) -> bytes:
    if len(data) > 0xFFFF:
        raise Unfit(f"a text of {len(data)} bytes")
    return _U16.pack(len(data)) + data


def _list(items: Sequence[bytes]) -> bytes:
    return b"".join((_U32.pack(len(items)), *items))


def _numbers(items: Sequence[int]) -> bytes:
    return struct.pack(f"<I{len(items)}I", len(items), *items)


def _keys(keys: Sequence[bytes], stretches: Sequence[bytes]) -> bytes:
    return _list([_text(key) for key in keys]) + _list([_text(each) for each in stretches])


def _part(part: Part) -> bytes:
    try:
        return _PART.pack(*part)
    except struct.error:
        raise Unfit(f"part {tuple(part)}") from None


def _place(place: Place) -> bytes:
    head = _PLACE.pack(place.region, len(place.slices))
    return b"".join((head, *[_SLICE.pack(*each) for each in place.slices]))


def _offered(part: Offered) -> bytes:
    digest = b"\x00"
    if part.digest is not None:
        digest = b"\x01" + _DIGEST.pack(part.digest.low, part.digest.high)
    size, depth = _U64.pack(part.size), _U32.pack(part.depth)
    chain = (_text(part.parent), _text(part.stretch))
    return b"".join((_text(part.key), _part(part.part), size, depth, *chain, digest))


class Scope(NamedTuple):
    """A space, by its name where `space` is 0, and a salt."""

    space: int
    salt: bytes = b""
    name: bytes = b""

    def encode(self) -> bytes:
        """As it lies in a body."""
        name = b"" if self.space else _text(self.name)
        return _U64.pack(self.space) + name + _text(self.salt)


def hello(ticket: bytes, want_token: bool, client: str) -> bytes:
    """The body of HELLO."""
    return _text(ticket) + _U8.pack(want_token) + _text(client.encode())


def register(kind: Kind, size: int, address: int = 0) -> bytes:
    """The body of REGISTER; `address` counts for PROCESS only."""
    return _U8.pack(kind) + _U64.pack(address) + _U64.pack(size)


def unregister(region: int) -> bytes:
    """The body of UNREGISTER."""
    return _U32.pack(region)


def match(
    scope: Scope,
    keys: Sequence[bytes],
    stretches: Sequence[bytes] = (),
    *,
    bitmap: bool = False,
    peek: bool = False,
    lease_ms: int = 0,
    groups: Sequence[int] = (),
    tp_ranks: Sequence[int] = (),
    pp_ranks: Sequence[int] = (),
) -> bytes:
    """The body of MATCH."""
    return b"".join(
        (
            scope.encode(),
            _U8.pack(bitmap | peek << 1),
            _U32.pack(lease_ms),
            _numbers(groups),
            _numbers(tp_ranks),
            _numbers(pp_ranks),
            _keys(keys, stretches),
        )
    )


def offer(scope: Scope, parts: Sequence[Offered], reservation_ms: int) -> bytes:
    """The body of OFFER."""
    return scope.encode() + _U32.pack(reservation_ms) + _list([_offered(part) for part in parts])


def get(
    scope: Scope,
    keys: Sequence[bytes],
    parts: Sequence[Part],
    places: Sequence[Place],
    stretches: Sequence[bytes] = (),
    *,
    layers: Tuple[int, int] = (0, 0),
    lease: int = 0,
    takes: int = 0,
) -> bytes:
    """The body of GET. `takes`: bit i for parts that lie encoded by Encoding i."""
    return b"".join(
        (
            scope.encode(),
            _READ.pack(*layers, lease, takes),
            _list([_part(part) for part in parts]),
            _keys(keys, stretches),
            _list([_place(place) for place in places]),
        )
    )


def put(
    scope: Scope,
    parts: Sequence[Offered],
    places: Sequence[Place],
    *,
    reservation: int = 0,
    durability: int = 0,
    time_to_live: int = 0,
) -> bytes:
    """The body of PUT."""
    return b"".join(
        (
            scope.encode(),
            _U64.pack(reservation),
            _U8.pack(durability),
            _U64.pack(time_to_live),
            _list([_offered(part) for part in parts]),
            _list([_place(place) for place in places]),
        )
    )


def touch(scope: Scope, keys: Sequence[bytes], stretches: Sequence[bytes] = ()) -> bytes:
    """The body of TOUCH."""
    return scope.encode() + _keys(keys, stretches)


def prefetch(
    scope: Scope,
    keys: Sequence[bytes],
    stretches: Sequence[bytes] = (),
    *,
    parts: Sequence[Part] = (),
    cancel: int = 0,
) -> bytes:
    """The body of PREFETCH."""
    return b"".join(
        (
            scope.encode(),
            _U64.pack(cancel),
            _list([_part(part) for part in parts]),
            _keys(keys, stretches),
        )
    )


def close(reason: int, message: str) -> bytes:
    """The body of CLOSE."""
    return _U8.pack(reason) + _text(message.encode())


# Bodies of answers


class _Reader:
    """Reads fields one behind the other. Errors of every method: Malformed."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, layout: struct.Struct) -> Tuple[int, ...]:
        try:
            values = layout.unpack_from(self._body, self._at)
        except struct.error:
            raise Malformed("the body is cut") from None
        self._at += layout.size
        return values

    def number(self, layout: struct.Struct) -> int:
        number: int
        (number,) = self.take(layout)
        return number

    def text(self) -> bytes:
        size = self.number(_U16)
        if self._at + size > len(self._body):
            raise Malformed("the body is cut")
        self._at += size
        return self._body[self._at - size : self._at]

    def list(self, item: "Callable[[], T]") -> "List[T]":
        # A count that lies ends with the body: every item takes a byte of it at least.
        return [item() for _ in range(self.number(_U32))]

    def digest(self) -> Digest:
        low, high = self.take(_DIGEST)
        return Digest(high, low)

    def status(self) -> Optional[MnemoError]:
        code = self.number(_U8)
        return make_error(code, self.text().decode(errors="replace")) if code else None

    def failure(self) -> MnemoError:
        error = self.status()
        if error is None:
            raise Malformed("an error with the code OK")
        return error

    def end(self) -> None:
        if self._at != len(self._body):
            raise Malformed("the body has bytes left over")


def _answer(body: bytes) -> _Reader:
    reader = _Reader(body)
    error = reader.status()
    if error is not None:
        reader.end()
        raise error
    return reader


# Each raises the error that the answer is, or Malformed.


def welcome(body: bytes) -> Welcome:
    """The answer to HELLO."""
    reader = _answer(body)
    requests, regions = reader.number(_U32), reader.number(_U32)
    size = reader.number(_U64)
    token = reader.text().decode("ascii", errors="replace")
    lifetime = reader.number(_U64)
    reader.end()
    return Welcome(requests, regions, size, token, lifetime / 1000)


def registered(body: bytes) -> Tuple[int, int]:
    """The answer to REGISTER: the region and its form."""
    reader = _answer(body)
    region, form = reader.number(_U32), reader.number(_U8)
    reader.end()
    return region, form


def done(body: bytes) -> None:
    """The answer to UNREGISTER."""
    _answer(body).end()


def matched(body: bytes) -> Any:
    """The answer to MATCH, as a MatchResponse."""
    reader = _answer(body)
    answer = pb.MatchResponse(blocks=reader.number(_U32))
    answer.tokens, answer.lease = reader.number(_U64), reader.number(_U64)
    answer.lease_ms = reader.number(_U32)
    answer.fetch_bytes = reader.number(_U64)

    def run() -> None:
        first, count, level = reader.take(_RUN)
        answer.runs.add(first=first, count=count, level=_level(level))

    def reach() -> None:
        group, blocks = reader.take(_REACH)
        answer.groups.add(group=group, blocks=blocks)

    reader.list(run)
    answer.pending.extend(reader.list(lambda: reader.number(_U32)))
    answer.present = reader.text()
    reader.list(reach)
    reader.end()
    return answer


def offered(body: bytes) -> Any:
    """The answer to OFFER, as an OfferResponse."""
    reader = _answer(body)
    answer = pb.OfferResponse(reservation=reader.number(_U64))

    def verdict() -> None:
        number = reader.number(_U8)
        if not 1 <= number <= 4:
            raise Malformed(f"verdict {number}")
        said = answer.verdicts.add(verdict=number)
        if number == Verdict.PRESENT:
            said.digest.high, said.digest.low = reader.digest()
        if number == Verdict.REFUSED:
            error = reader.failure()
            said.reason.code, said.reason.message = int(error.code), error.message

    reader.list(verdict)
    reader.end()
    return answer


def got(body: bytes) -> List[Got]:
    """The answer to GET, in the order of the places."""
    reader = _answer(body)

    def part() -> Got:
        error = reader.status()
        if error is not None:
            return Got(error)
        size, written, low, high, level, depth = reader.take(_GOT)
        got = Got(None, size, written, Digest(high, low), _level(level), depth)
        form = reader.number(_U8)
        return _with_form(got, form, reader) if form else got

    parts = reader.list(part)
    reader.end()
    return parts


def _with_form(part: Got, form: int, reader: _Reader) -> Got:
    """The part with the form, not 0, in which its bytes are answered."""
    if form > 3:
        raise Malformed(f"a form of {form}")
    part.put_digest = reader.digest()
    if form & 1:
        codec = reader.text().decode(errors="replace")
        part.fidelity = PartFidelity(codec, *reader.take(_FIDELITY))
    part.encoded = form > 1
    if part.encoded:
        part.runs = reader.list(lambda: (reader.number(_U32), reader.number(_U32)))
    return part


def stored(body: bytes) -> List[Stored]:
    """The answer to PUT, in the order of the parts."""
    reader = _answer(body)

    def part() -> Stored:
        number = reader.number(_U8)
        if number > 3:
            raise Malformed(f"outcome {number}")
        outcome = PutOutcome(number)
        if outcome is PutOutcome.FAILED:
            return Stored(outcome, error=reader.failure())
        return Stored(outcome, reader.digest())

    parts = reader.list(part)
    reader.end()
    return parts


def credit(body: bytes) -> Tuple[int, List[int]]:
    """A CREDIT: the bytes that may be sent in all, the parts that are wanted."""
    reader = _Reader(body)
    size = reader.number(_U64)
    wanted = reader.list(lambda: reader.number(_U32))
    reader.end()
    return size, wanted


def touched(body: bytes) -> Any:
    """The answer to TOUCH, as a TouchResponse."""
    reader = _answer(body)
    answer = pb.TouchResponse(found=reader.number(_U32))
    reader.end()
    return answer


def prefetched(body: bytes) -> Any:
    """The answer to PREFETCH, as a PrefetchResponse."""
    reader = _answer(body)
    answer = pb.PrefetchResponse(
        prefetch=reader.number(_U64),
        queued=reader.number(_U32),
        in_ram=reader.number(_U32),
        absent=reader.number(_U32),
        dropped=reader.number(_U32),
    )
    reader.end()
    return answer


def closed(body: bytes) -> MnemoError:
    """What a CLOSE of the server says. Errors: Malformed."""
    reader = _Reader(body)
    reason = reader.number(_U8)
    message = reader.text().decode(errors="replace")
    reader.end()
    return make_error(Code.UNAVAILABLE, f"the server closed the stream ({reason}): {message}")


_LEVELS = {level.value: level for level in Level if level is not Level.UNSPECIFIED}


def _level(number: int) -> Level:
    level = _LEVELS.get(number)
    if level is None:
        raise Malformed(f"level {number}")
    return level
