"""The fast lane without its socket: what goes over it, and what came back.

The blocking and the asynchronous client drive the same. docs/formats/stream-protocol.md
"""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple
from typing import TypeVar

from . import _stream
from ._breaker import BreakerOptions, CircuitBreaker
from ._contract import pb
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
# Bytes asked of the socket at once; answers are small.
READ_BYTES = 1 << 16
# Waited before the lane is tried again; longer each time.
_PAUSES = BreakerOptions(failures=1, initial_pause=0.5, max_pause=15.0)


T = TypeVar("T")


class LaneDown(Exception):
    """The fast lane cannot carry a call now; the reason is its text."""


class LaneUnfit(LaneDown):
    """It never can carry this call."""


class LaneRequest:
    """A request whose body names registered memory."""

    def __init__(
        self,
        type_: Type,
        body: Callable[[Mapping[Memory, int]], bytes],
        memories: Sequence[Memory] = (),
    ) -> None:
        self.type = type_
        self.memories = tuple(dict.fromkeys(memories))
        """What must be registered before."""
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
    """Where a part lies: memory, and slices of its region."""

    memory: Memory
    slices: List[Slice]


def places(spots: Sequence[Spot], regions: Mapping[Memory, int]) -> List[Place]:
    """The spots as the server names them."""
    return [Place(regions[spot.memory], spot.slices) for spot in spots]


class LaneState:
    """What a client knows of its fast lane, whichever way it is driven. Thread-safe."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.memories = MemoryMap()
        self._breaker = CircuitBreaker(_PAUSES)
        self._lock = threading.Lock()
        self._reason = ""  # why it is down; guarded by _lock, as all below
        self._calls = {Plane.INLINE: 0, Plane.FAST: 0}

    def wanted(self) -> bool:
        """Whether calls go over the lane if they can."""
        if self.plane is Plane.AUTO:
            return len(self.memories) > 0
        return self.plane is Plane.FAST

    def enter(self) -> None:
        """Before the lane is opened. Errors: LaneDown (it was tried in vain just now)."""
        if not self._breaker.allow():
            with self._lock:
                raise LaneDown(self._reason)

    def opened(self, error: Optional[BaseException]) -> None:
        """What came of opening it."""
        if error is None:
            self._breaker.success()
            return
        with self._lock:
            self._reason = f"the fast lane is down: {error}"
        self._breaker.failure()

    def fall_back(self, error: LaneDown) -> None:
        """Lets the call go by gRPC, unless it must not.

        Errors: UnavailableError, FailedPreconditionError (in vain at any time).
        """
        if self.plane is Plane.FAST:
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


class Pending:
    """Frames of a stream that wait for their answers, and what has come. Not thread-safe."""

    def __init__(self) -> None:
        self._reader = _stream.AnswerReader()
        self._last = 0
        self._asked: Dict[int, int] = {}  # the type of the answer that is to come, by id
        self._answers: Dict[int, bytes] = {}
        self._forgotten: Set[int] = set()
        self.error: Optional[MnemoError] = None  # why the stream is of no use any more

    def begin(self, type_: Type, body: bytes, limit: TimeLimit) -> Tuple[int, bytes]:
        """A new request: its id and its frame. Errors: MnemoError (the stream ended)."""
        self.check()
        self._last += 1
        self._asked[self._last] = type_ + _stream.ANSWER
        timeout_ms = min(max(int(limit.left() * 1000), 1), (1 << 32) - 1)
        return self._last, _stream.frame(type_, self._last, body, timeout_ms)

    def cancel(self, id_: int) -> bytes:
        """The frame that cancels a request."""
        return _stream.frame(Type.CANCEL, id_, b"")

    def take(self, id_: int) -> Optional[bytes]:
        """The body of an answer that is here, once."""
        return self._answers.pop(id_, None)

    def forget(self, id_: int) -> None:
        """Nobody waits for an answer any more: if it is still to come, it is let go."""
        self._answers.pop(id_, None)
        if id_ in self._asked:
            self._forgotten.add(id_)

    def feed(self, data: bytes) -> List[int]:
        """Takes what the socket gave, and returns whose answers are here now.

        No data means that the server has ended the stream. Sets `error` where it is
        of no use any more.
        """
        if not data:
            self.fail(UnavailableError("the server ended the stream"))
            return []
        self._reader.feed(data)
        answered: List[int] = []
        try:
            while True:
                found = self._reader.next()
                if found is None:
                    return answered
                head, body = found
                if head.type == Type.CLOSE:
                    self.fail(_stream.closed(body))
                    return answered
                if self._asked.pop(head.id, None) != head.type:
                    raise _stream.Malformed("an answer to nothing that was asked")
                if head.id in self._forgotten:
                    self._forgotten.remove(head.id)
                else:
                    self._answers[head.id] = body
                    answered.append(head.id)
        except _stream.Malformed as error:
            self.fail(UnavailableError(f"the stream is broken: {error}"))
            return answered

    def fail(self, error: MnemoError) -> None:
        """The stream has ended; the first reason counts."""
        if self.error is None:
            self.error = error

    def check(self) -> None:
        """Errors: MnemoError (why the stream has ended), a new one for each caller."""
        if self.error is not None:
            raise make_error(self.error.code, self.error.message)


def lost(error: OSError) -> MnemoError:
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


