"""Streams without their socket: what goes over them, and what came back.

The blocking and the asynchronous client drive the same. docs/formats/stream-protocol.md
"""

from __future__ import annotations

from functools import partial
import threading
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple
from typing import TypeVar, Union

from . import _stream
from ._buffers import Sink, Source
from ._breaker import BreakerOptions, CircuitBreaker
from ._payload import Dropping, Receiving, Sending
from ._retry import TimeLimit
from ._stream import Offered, Place, Scope, Slice, Type
from .blocks import Digest, Part, Plane
from .errors import (
    CancelledError,
    Code,
    DeadlineExceededError,
    FailedPreconditionError,
    MnemoError,
    UnavailableError,
    make_error,
)
from .memory import Memory, MemoryMap

CLIENT_NAME = "mnemod-python"

# How long an answer is waited for when its call was cancelled: until it is there,
# the server may write to the memory of the call.
CANCEL_GRACE = 1.0
# Bytes asked of the socket at once, but for payload.
READ_BYTES = 1 << 16
# How long a stream may take to open, where the call can go another way.
OPEN_SECONDS = 2.0
# Waited before a plane is tried again; longer each time.
_PAUSES = BreakerOptions(failures=1, initial_pause=0.5, max_pause=15.0)
# The same where the node has no such streams, or none that this client may use.
_LONG_PAUSE = 60.0
NAMES = {Plane.FAST: "the fast lane", Plane.BULK: "the stream of TCP"}


T = TypeVar("T")


class LaneDown(Exception):
    """A stream cannot carry a call now; the reason is its text."""


class LaneUnfit(LaneDown):
    """It never can carry this call."""


Payload = Union[Receiving, Sending]


class LaneRequest:
    """A request whose body names registered memory, or whose payload is in the stream."""

    def __init__(
        self,
        type_: Type,
        body: Callable[[Mapping[Memory, int]], bytes],
        memories: Sequence[Memory] = (),
        payload: Optional[Payload] = None,
    ) -> None:
        self.type = type_
        self.memories = tuple(dict.fromkeys(memories))
        """What must be registered before."""
        self.payload = payload
        """What travels in the stream."""
        self._body = body

    def body(self, regions: Mapping[Memory, int]) -> bytes:
        """The body; `regions` has the server's number of each memory.

        Errors: LaneUnfit (it is too long for a frame, or does not fit its fields),
        LaneDown (a memory is not registered any more).
        """
        try:
            body = self._body(regions)
        except _stream.Unfit as error:
            raise LaneUnfit(str(error)) from None
        except KeyError:
            raise LaneDown("the memory was unregistered meanwhile") from None
        if len(body) > _stream.MAX_BODY_BYTES:
            raise LaneUnfit(f"a request of {len(body)} bytes is too long for a frame")
        return body


class _Unary(NamedTuple):
    type: Type
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _scope(request: Any) -> Scope:
    return Scope(request.space.id, request.salt)


def _match(request: Any) -> bytes:
    return _stream.match(
        _scope(request),
        request.keys,
        request.stretches,
        bitmap=request.want_bitmap,
        peek=request.peek,
        lease_ms=request.lease_ms,
        groups=request.groups,
        tp_ranks=request.tp_ranks,
        pp_ranks=request.pp_ranks,
    )


def _offer(request: Any) -> bytes:
    return _stream.offer(
        _scope(request), [offered(part) for part in request.parts], request.reservation_ms
    )


def _touch(request: Any) -> bytes:
    return _stream.touch(_scope(request), request.keys.keys, request.keys.stretches)


def _prefetch(request: Any) -> bytes:
    return _stream.prefetch(
        _scope(request),
        request.keys.keys,
        request.keys.stretches,
        parts=[Part(part.group, part.tp_rank, part.pp_rank) for part in request.parts],
        cancel=request.cancel,
    )


# Unary calls that have a frame of their own: messages of the contract go in and
# come out, so that nobody above sees the difference.
_UNARY: Dict[str, _Unary] = {
    "BlockService.Match": _Unary(Type.MATCH, _match, _stream.matched),
    "BlockService.Offer": _Unary(Type.OFFER, _offer, _stream.offered),
    "BlockService.Touch": _Unary(Type.TOUCH, _touch, _stream.touched),
    "BlockService.Prefetch": _Unary(Type.PREFETCH, _prefetch, _stream.prefetched),
}


def has_frame(method: str) -> bool:
    """Whether a unary call may go by the lane."""
    return method in _UNARY


def unary_request(method: str, request: Any) -> Optional[LaneRequest]:
    """The frame of a unary call; None if it has none."""
    unary = _UNARY.get(method)
    if unary is None:
        return None
    return LaneRequest(unary.type, lambda _: unary.encode(request))


def unary_answer(method: str, body: bytes) -> Any:
    """The answer of a unary call. Errors: MnemoError."""
    return read(_UNARY[method].decode, body)


def read(decode: Callable[[bytes], T], body: bytes) -> T:
    """What a body says. Errors: MnemoError (what it says, or that it is malformed)."""
    try:
        return decode(body)
    except _stream.Malformed as error:
        raise make_error(Code.INTERNAL, f"an answer of the stream: {error}") from None


def offered(part: Any) -> Offered:
    """A PartOffer of the contract."""
    digest = part.digest if part.HasField("digest") else None
    return Offered(
        part.key,
        Part(part.part.group, part.part.tp_rank, part.part.pp_rank),
        part.size,
        part.depth,
        part.parent,
        part.stretch,
        None if digest is None else Digest(digest.high, digest.low),
    )


class Spot(NamedTuple):
    """Where a part lies: memory, or none if it is in the stream, and slices of its region."""

    memory: Optional[Memory]
    slices: List[Slice]


def spots_of(
    plane: Plane, memories: MemoryMap, buffers: Sequence[Union[Source, Sink]]
) -> Optional[List[Spot]]:
    """Where the bytes of each part lie for a plane; None: one of them is not registered."""
    if plane is Plane.BULK:
        if not all(each.size for each in buffers):
            return None  # no frame carries nothing
        return [Spot(None, [Slice(0, each.size)]) for each in buffers]
    spots = []
    for each in buffers:
        found = memories.find(each.segments)
        if found is None:
            return None
        spots.append(Spot(*found))
    return spots


def registered(spots: Sequence[Spot]) -> List[Memory]:
    """The memories of spots."""
    return [spot.memory for spot in spots if spot.memory is not None]


def places(spots: Sequence[Spot], regions: Mapping[Memory, int]) -> List[Place]:
    """The spots as the server names them."""
    return [
        Place(_stream.IN_STREAM if spot.memory is None else regions[spot.memory], spot.slices)
        for spot in spots
    ]


class LinkState:
    """Whether the stream of a plane can be had, and why not. Thread-safe."""

    def __init__(self, plane: Plane, must: bool) -> None:
        self.plane = plane
        self._must = must
        self._breaker = CircuitBreaker(_PAUSES)
        self._lock = threading.Lock()
        # Why it is down; guarded by _lock. No exception: it would keep what its frames do.
        self._down: Callable[[], LaneDown] = LaneDown

    def limit(self, limit: TimeLimit) -> TimeLimit:
        """How long opening it may take. A call that can go another way keeps some time."""
        return limit if self._must else TimeLimit(min(limit.left() / 2, OPEN_SECONDS))

    def enter(self) -> None:
        """Before it is opened. Errors: LaneDown (it was tried in vain just now)."""
        if not self._breaker.allow():
            with self._lock:
                raise self._down()

    def busy(self) -> None:
        """Somebody opens it now. Errors: LaneDown (the call does not wait for that)."""
        if not self._must:
            raise LaneDown(f"{NAMES[self.plane]} is not open yet")

    def opened(self) -> None:
        """It is."""
        self._breaker.success()

    def unknown(self) -> None:
        """Opening it was given up, which tells nothing of the server."""
        self._breaker.nothing()

    def failed(self, error: BaseException) -> LaneDown:
        """It could not be opened. Returns what that means for a call."""
        never = isinstance(error, FailedPreconditionError)
        down = partial(LaneUnfit if never else LaneDown, f"{NAMES[self.plane]} is down: {error}")
        with self._lock:
            self._down = down
        self._breaker.failure(_LONG_PAUSE if never else 0.0)
        return down()


class LaneState:
    """What a client knows of its streams, whichever way they are driven. Thread-safe."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.memories = MemoryMap()
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._calls = {Plane.INLINE: 0, Plane.FAST: 0, Plane.BULK: 0}

    def links(self) -> Dict[Plane, LinkState]:
        """The state of each stream that this client may have."""
        must = self.plane is not Plane.AUTO
        return {plane: LinkState(plane, must) for plane in (Plane.FAST, Plane.BULK)}

    def planes(self, payload: bool) -> List[Plane]:
        """By which streams a call goes if it can, the best first."""
        if self.plane is not Plane.AUTO:
            return [] if self.plane is Plane.INLINE else [self.plane]
        fast = [Plane.FAST] if len(self.memories) else []
        return fast + ([Plane.BULK] if payload else [])

    def fall_back(self, error: LaneDown) -> None:
        """Lets the call go another way, unless it must not.

        Errors: UnavailableError, FailedPreconditionError (in vain at any time).
        """
        if self.plane is not Plane.AUTO:
            kind = FailedPreconditionError if isinstance(error, LaneUnfit) else UnavailableError
            raise kind(str(error)) from None

    def count(self, plane: Plane) -> None:
        """A call went by this plane."""
        with self._lock:
            self._calls[plane] += 1

    def calls(self) -> Dict[Plane, int]:
        """How many tries of calls that have a frame went by each plane."""
        with self._lock:
            return dict(self._calls)


def _nothing() -> None:
    pass


class _Asked:
    """A request that is under way."""

    __slots__ = ("answer", "payload", "forgotten", "cancelled", "ended")

    def __init__(self, answer: int, payload: Optional[Payload]) -> None:
        self.answer = answer  # the type of the answer that is to come
        self.payload = payload
        self.forgotten = False
        self.cancelled = False
        self.ended: Callable[[], None] = _nothing


class Pending:
    """Frames of a stream that wait for their answers, and what has come. Not thread-safe.

    Who reads gives bytes to `room` and says so by `filled`. While `in_payload`, neither
    touches anything but that payload, so it needs no lock of those who wait.
    """

    def __init__(self) -> None:
        self._reader = _stream.AnswerReader()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._room = self._buffer
        self._last = 0
        self._asked: Dict[int, _Asked] = {}
        self._answers: Dict[int, bytes] = {}
        self._receiving = 0  # requests whose payload comes
        self._payload: Receiving = Dropping()  # that the DATA frame under way belongs to
        self._dropping = Dropping()
        self.error: Optional[MnemoError] = None  # why the stream is of no use any more

    def begin(
        self, type_: Type, body: bytes, limit: TimeLimit, payload: Optional[Payload] = None
    ) -> Tuple[int, bytes]:
        """A new request: its id and its frame. Errors: MnemoError (the stream ended)."""
        self.check()
        self._last += 1
        self._asked[self._last] = _Asked(type_ + _stream.ANSWER, payload)
        self._receiving += isinstance(payload, Receiving)
        timeout_ms = min(max(int(limit.left() * 1000), 1), (1 << 32) - 1)
        return self._last, _stream.frame(type_, self._last, body, timeout_ms)

    def withdraw(self, id_: int) -> None:
        """Nothing of the frame of a request has left: no answer to it is to come."""
        asked = self._asked.pop(id_, None)
        if asked is not None:
            self._receiving -= isinstance(asked.payload, Receiving)

    def cancel(self, id_: int) -> bytes:
        """The frame that cancels a request; no payload of it is sent any more."""
        if id_ in self._asked:
            self._asked[id_].cancelled = True
        return _stream.frame(Type.CANCEL, id_, b"")

    def may_send(self, id_: int) -> bool:
        """Whether payload of a request may be sent now."""
        asked = self._asked.get(id_)
        if asked is None or asked.cancelled or not isinstance(asked.payload, Sending):
            return False
        return asked.payload.may_send()

    def to_send(self, id_: int) -> List[memoryview]:
        """The next DATA frame of a request that may send. Errors: MnemoError."""
        sending = self._asked[id_].payload
        assert isinstance(sending, Sending)
        try:
            piece = sending.next()
        except _stream.Malformed as error:
            raise make_error(Code.INTERNAL, f"the stream: {error}") from None
        head = _stream.data_head(id_, piece.part, piece.offset, piece.size)
        return [memoryview(head), *piece.views]

    def take(self, id_: int) -> Optional[bytes]:
        """The body of an answer that is here, once."""
        return self._answers.pop(id_, None)

    def forget(self, id_: int, ended: Callable[[], None] = _nothing) -> None:
        """Nobody waits for an answer any more: what is still to come is let go.

        `ended` is called once when the answer has come, or the stream is gone.
        """
        self._answers.pop(id_, None)
        asked = self._asked.get(id_)
        if asked is not None:
            if self._payload is asked.payload:
                self._payload = self._dropping
            asked.forgotten = True
        if asked is None or self.error is not None:
            ended()
        else:
            asked.ended = ended

    @property
    def in_payload(self) -> bool:
        """Whether what comes next is payload."""
        return self._reader.payload_left > 0

    @property
    def receiving(self) -> bool:
        """Whether payload is to come."""
        return self._receiving > 0 or self.in_payload

    def room(self) -> memoryview:
        """Where the next bytes go."""
        if self.in_payload:
            self._room = self._payload.room(self._reader.payload_left)
        elif self._receiving:
            # No payload, which would have to be moved.
            self._room = self._buffer[: self._reader.missing()]
        else:
            self._room = self._buffer
        return self._room

    def filled(self, count: int) -> List[int]:
        """So many bytes came, 0 at the end; returns whose answer or credit is here now.

        Sets `error` where the stream is of no use any more.
        """
        if not count:
            self.fail(UnavailableError("the server ended the stream"))
            return []
        if self.in_payload:
            self._payload.took(self._room[:count])
            self._reader.took(count)
            return []
        self._reader.feed(self._room[:count])
        changed: List[int] = []
        try:
            while self.error is None:
                found = self._reader.next()
                if found is None:
                    break
                self._on_frame(*found, changed)
        except _stream.Malformed as error:
            self.fail(UnavailableError(f"the stream is broken: {error}"))
        return changed

    def _on_frame(self, head: _stream.Header, body: bytes, changed: List[int]) -> None:
        if head.type == Type.CLOSE:
            self.fail(_stream.closed(body))
            return
        asked = self._asked.get(head.id)
        payload = None if asked is None else asked.payload
        if asked is not None and head.type == asked.answer:
            del self._asked[head.id]
            self._receiving -= isinstance(payload, Receiving)
            if asked.forgotten:
                asked.ended()
            else:
                self._answers[head.id] = body
                changed.append(head.id)
        elif head.type == Type.DATA + _stream.ANSWER and isinstance(payload, Receiving):
            forgotten = asked is not None and asked.forgotten
            self._payload = self._dropping if forgotten else payload
            self._payload.begin(*_stream.data(body), self._reader.payload_left)
            self._take_payload()
        elif head.type == Type.CREDIT + _stream.ANSWER and isinstance(payload, Sending):
            payload.credit(*_stream.credit(body))
            changed.append(head.id)
        else:
            raise _stream.Malformed("an answer to nothing that was asked")

    def _take_payload(self) -> None:
        while self.in_payload:
            view = self._payload.room(self._reader.payload_left)
            count = self._reader.take(view)
            if not count:
                return
            self._payload.took(view[:count])

    def fail(self, error: MnemoError) -> None:
        """The stream has ended; the first reason counts."""
        if self.error is not None:
            return
        self.error = error
        for asked in self._asked.values():
            asked.ended()

    def check(self) -> None:
        """Errors: MnemoError (why the stream has ended), a new one for each caller."""
        if self.error is not None:
            raise make_error(self.error.code, self.error.message)


def unfit(plane: Plane) -> LaneUnfit:
    """A call that a plane can never carry."""
    if plane is Plane.FAST:
        return LaneUnfit("a buffer does not lie in registered memory")
    return LaneUnfit("only whole parts, into buffers of the caller, travel in a stream of TCP")


def lost(error: Exception) -> MnemoError:
    """What a broken socket means for a call."""
    return UnavailableError(f"the stream broke: {error}")


def too_late() -> MnemoError:
    """A call whose time is over."""
    return DeadlineExceededError("the answer did not come in time")


def given_up() -> MnemoError:
    """A stream whose server does not even answer what was cancelled."""
    return UnavailableError("the stream was given up: a cancelled request was not answered")


def closed_client() -> MnemoError:
    """A call of a client that was closed."""
    return CancelledError("the client is closed")


def refuse_memory(error: MnemoError) -> Exception:
    """What a REGISTER that was refused means for the calls that need it."""
    if isinstance(error, (UnavailableError, DeadlineExceededError)):
        return error
    return LaneDown(f"the memory was not registered: {error}")


