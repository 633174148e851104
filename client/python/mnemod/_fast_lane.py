"""The streams of the blocking client, each shared by all threads."""

from __future__ import annotations

import queue
import select
import threading
from typing import Callable, Dict, List, Optional, Sequence

from . import _stream
from ._busy_wait import BusyWait
from ._lane import (
    CANCEL_GRACE,
    CLIENT_NAME,
    LaneDown,
    LaneRequest,
    LaneState,
    LinkState,
    Payload,
    Pending,
    closed_client,
    given_up,
    lost,
    read,
    refuse_memory,
    too_late,
    unfit,
)
from ._payload import Receiving
from ._retry import TimeLimit
from ._socket import StreamSocket, Way, connect, rest_of
from ._stream import Type
from .blocks import Plane
from .errors import DeadlineExceededError, MnemoError
from .memory import Memory, MemoryMap

# Asks for the way of a plane, within seconds. Errors: MnemoError.
Open = Callable[[Plane, float], Way]
# Makes the request of a call for a plane, or says that it has none.
Make = Callable[[Plane, MemoryMap], Optional[LaneRequest]]


class _Stream:
    """A stream that is open. Thread-safe.

    Whoever waits for an answer reads for all while nobody else does.
    """

    def __init__(self, way: Way, limit: TimeLimit, memories: MemoryMap) -> None:
        self._memories = memories
        # Threads read and write at once, each until a time of its own.
        self._socket: StreamSocket = connect(way, limit.left())
        # A signal's handler may close the client in the middle of a call of its own thread.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # told under _lock
        self._pending = Pending()  # guarded by _lock, but for payload of who reads
        self._reading = False  # guarded by _lock
        # Of who reads.
        self._wait_busily = BusyWait()
        self._came: Optional[int] = None
        self._sending = threading.Lock()
        self._registering = threading.Lock()
        self.regions: Dict[Memory, int] = {}  # changed under _registering
        self._settled: Optional[object] = None  # when nothing was to be unregistered
        try:
            body = _stream.hello(way.ticket, False, CLIENT_NAME)
            welcome = read(_stream.welcome, self.exchange(Type.HELLO, body, limit))
        except BaseException:
            self.close()
            raise
        # One for each request that may be under way: a semaphore without Python calls.
        self._slots: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(max(welcome.max_requests, 1)):
            self._slots.put(None)

    @property
    def broken(self) -> bool:
        with self._lock:
            return self._pending.error is not None

    def close(self, error: Optional[MnemoError] = None) -> None:
        """Ends it; calls that wait are told so. Idempotent."""
        with self._lock:
            self._pending.fail(error or closed_client())
            self._changed.notify_all()
        self._socket.close()  # wakes whoever reads

    def call(self, request: LaneRequest, limit: TimeLimit) -> bytes:
        """The body of the answer. Errors: MnemoError, LaneDown."""
        try:
            self._slots.get(timeout=limit.left())
        except queue.Empty:
            raise too_late() from None
        try:
            for memory in request.memories:
                self._register(memory, limit)
            body = request.body(self.regions)
            return self.exchange(request.type, body, limit, payload=request.payload)
        finally:
            self._slots.put(None)

    def _register(self, memory: Memory, limit: TimeLimit) -> None:
        state = self._memories.state()
        if state is self._settled and memory in self.regions:
            if not any(each.closed for each in list(self.regions)):
                return
        if not self._registering.acquire(timeout=max(limit.left(), 0)):
            raise too_late()
        try:
            for old in [each for each in self.regions if each not in self._memories]:
                number = self.regions.pop(old)
                read(_stream.done, self.exchange(Type.UNREGISTER, _stream.unregister(number), limit))
            self._settled = state
            if memory in self.regions:
                return
            if memory.closed:
                raise LaneDown("the memory was closed")
            body = _stream.register(memory.kind, *memory.region())
            try:
                answer = self.exchange(Type.REGISTER, body, limit, memory.fd)
                self.regions[memory], _ = read(_stream.registered, answer)
            except MnemoError as error:
                raise refuse_memory(error) from None
        finally:
            self._registering.release()

    def exchange(
        self,
        type_: Type,
        body: bytes,
        limit: TimeLimit,
        fd: int = -1,
        payload: Optional[Payload] = None,
    ) -> bytes:
        """Sends a request and waits for its answer. Errors: MnemoError."""
        with self._lock:
            id_, frame = self._pending.begin(type_, body, limit, payload)
        try:
            self._send([memoryview(frame)], limit, fd)
        except BaseException:
            with self._lock:
                self._pending.withdraw(id_)
            raise
        answer: Optional[bytes] = None
        try:
            answer = self._answer(id_, limit)
            if answer is None:
                answer = self._cancel(id_)
                raise too_late()
            return answer
        finally:
            if answer is None and isinstance(payload, Receiving):
                self._await_no_reader()
            with self._lock:
                self._pending.forget(id_)

    def _answer(self, id_: int, limit: TimeLimit) -> Optional[bytes]:
        """The answer, once the payload that it waits for was sent; None: it is too late."""
        while True:
            answer = self._wait(id_, limit)
            if answer is not None or limit.left() <= 0:
                return answer
            with self._lock:
                pieces = self._pending.to_send(id_) if self._pending.may_send(id_) else []
            if pieces:
                try:
                    self._send(pieces, limit)
                except DeadlineExceededError:
                    return None

    def _cancel(self, id_: int) -> Optional[bytes]:
        """Gives a request up. The answer that came; without one the stream is closed."""
        with self._lock:
            frame = self._pending.cancel(id_)
        limit = TimeLimit(CANCEL_GRACE)
        try:
            self._send([memoryview(frame)], limit)
        except DeadlineExceededError:
            pass  # then there is no time for an answer either
        answer = self._wait(id_, limit)
        if answer is None:
            # The server may write to the memory of the call for as long as
            # the stream is open.
            self.close(given_up())
        return answer

    def _await_no_reader(self) -> None:
        # Whoever reads may be in the middle of the memory of a call that ends.
        self.close(given_up())
        with self._lock:
            while self._reading:
                self._changed.wait()

    def _send(self, pieces: Sequence[memoryview], limit: TimeLimit, fd: int = -1) -> None:
        """Sends a frame. Errors: DeadlineExceededError (nothing of it has left), MnemoError."""
        if not self._sending.acquire(timeout=limit.left()):
            raise too_late()
        rest: List[memoryview] = list(pieces)
        begun = False
        try:
            while rest:
                sent = self._socket.send(rest, fd)
                if sent:
                    rest, fd, begun = rest_of(rest, sent), -1, True
                elif not self._ready(select.POLLOUT, limit.left()):
                    if not begun and not self._socket.holds:
                        raise too_late()
                    # Half a frame is there: nothing can follow it.
                    raise TimeoutError("the server does not read")
        except OSError as error:
            with self._lock:
                self._pending.fail(lost(error))
                self._changed.notify_all()
                self._pending.check()
        finally:
            self._sending.release()

    def _ready(self, event: int, timeout: float) -> bool:
        number = self._socket.fileno()
        if number < 0:
            raise OSError("the socket is closed")
        poll = select.poll()
        poll.register(number, event)
        return bool(poll.poll(max(timeout, 0) * 1000))

    def _wait(self, id_: int, limit: TimeLimit) -> Optional[bytes]:
        """The answer; None: the time is over, or payload may be sent."""
        while True:
            with self._lock:
                while True:
                    answer = self._pending.take(id_)
                    if answer is not None:
                        return answer
                    self._pending.check()
                    left = limit.left()
                    if left <= 0 or self._pending.may_send(id_):
                        return None
                    if not self._reading:
                        self._reading = True
                        break
                    self._changed.wait(left)
            self._read(limit)

    def _read(self, limit: TimeLimit) -> None:
        """With the turn of reading: waits for some of what comes, and takes it.

        Ends when somebody has an answer, or the time is over; while payload is to come
        it goes on.
        """
        error: Optional[MnemoError] = None
        try:
            while self._take(limit):
                pass
        except (OSError, ValueError) as failure:
            error = lost(failure)
        finally:
            with self._lock:
                self._reading = False
                if error is not None:
                    self._pending.fail(error)
                self._changed.notify_all()

    def _take(self, limit: TimeLimit) -> bool:
        """Takes what comes once. True: payload is to come, and there is time for it."""
        count = self._await_bytes(limit)
        if count is None:
            return self._pending.receiving and limit.left() > 0
        if count and self._pending.in_payload:
            self._pending.filled(count)  # which touches nothing that others do
            return limit.left() > 0
        with self._lock:
            if self._pending.filled(count) or self._pending.error is not None:
                return False
        return self._pending.receiving and limit.left() > 0

    def _await_bytes(self, limit: TimeLimit) -> Optional[int]:
        """Bytes that came, 0 at the end; None: none have, and some time has passed."""
        # Looks first: under TLS nothing tells of what was taken from the socket already.
        if not self._look() and not self._wait_busily.comes(self._look, limit.left()):
            if self._ready(select.POLLIN, limit.left()):
                self._wait_busily.woke()
            self._look()
        return self._came

    def _look(self) -> bool:
        self._came = self._socket.recv_into(self._pending.room())
        return self._came is not None


class _Link:
    """One plane's stream, which is opened when it is needed and again when it broke."""

    def __init__(self, state: LinkState, memories: MemoryMap, open_: Open) -> None:
        self._state = state
        self._memories = memories
        self._open = open_
        self._changed = threading.Condition()
        # Guarded by _changed.
        self._stream: Optional[_Stream] = None
        self._opening = False
        self._closed = False

    def close(self) -> None:
        with self._changed:
            self._closed = True
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def stream(self, limit: TimeLimit) -> _Stream:
        """Errors: MnemoError, LaneDown."""
        with self._changed:
            while True:
                if self._closed:
                    raise closed_client()
                if self._stream is not None and not self._stream.broken:
                    return self._stream
                if not self._opening:
                    break
                self._state.busy()
                if not self._changed.wait(limit.left()) and limit.left() <= 0:
                    raise too_late()
            self._state.enter()
            self._opening = True
            broken, self._stream = self._stream, None
        made: Optional[_Stream] = None
        try:
            if broken is not None:
                broken.close()
            made = self._made(self._state.limit(limit))
        finally:
            with self._changed:
                self._opening = False
                self._changed.notify_all()
                closed = self._closed
                if not closed:
                    self._stream = made
        if closed:
            made.close()
            raise closed_client()
        return made

    def _made(self, limit: TimeLimit) -> _Stream:
        try:
            way = self._open(self._state.plane, limit.left())
            made = _Stream(way, limit, self._memories)
        except (MnemoError, OSError, ValueError) as error:
            raise self._state.failed(error) from None
        except BaseException:
            self._state.unknown()
            raise
        self._state.opened()
        return made


class FastLane:
    """Calls over the streams of a client. Thread-safe."""

    def __init__(self, state: LaneState, open_: Open) -> None:
        self.state = state
        self._links = {
            plane: _Link(link, state.memories, open_) for plane, link in state.links().items()
        }

    def close(self) -> None:
        """Ends the streams and their registrations."""
        for link in self._links.values():
            link.close()

    def carry(self, make: Make, timeout: float, payload: bool = True) -> Optional[bytes]:
        """The body of the answer; None if the call is to go by gRPC.

        `payload`: it has some. Errors: MnemoError.
        """
        limit = TimeLimit(timeout)
        for plane in self.state.planes(payload):
            try:
                request = make(plane, self.state.memories)
                if request is None:
                    raise unfit(plane)
                body = self._links[plane].stream(limit).call(request, limit)
            except LaneDown as error:
                self.state.fall_back(error)
                continue
            self.state.count(plane)
            return body
        self.state.count(Plane.INLINE)
        return None
