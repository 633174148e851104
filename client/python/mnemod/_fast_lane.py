"""The fast lane of the blocking client: one stream, shared by all threads."""

from __future__ import annotations

import array
import select
import socket
import threading
from typing import Callable, Dict, Optional, Tuple

from . import _stream
from ._lane import (
    CANCEL_GRACE,
    CLIENT_NAME,
    READ_BYTES,
    LaneDown,
    LaneRequest,
    LaneState,
    LaneUnfit,
    Pending,
    closed_client,
    given_up,
    lost,
    read,
    refuse_memory,
    too_late,
)
from ._retry import TimeLimit
from ._stream import Type
from .blocks import Plane
from .errors import MnemoError
from .memory import Memory, MemoryMap

# Asks for the way: the path of the socket and a ticket. Errors: MnemoError.
Open = Callable[[float], Tuple[str, bytes]]


class _Stream:
    """A stream that is open. Thread-safe.

    Whoever waits for an answer reads for all while nobody else does.
    """

    def __init__(self, path: str, ticket: bytes, limit: TimeLimit, memories: MemoryMap) -> None:
        self._memories = memories
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Threads read and write at once, each until a time of its own.
        self._socket.setblocking(False)
        self._changed = threading.Condition()
        self._pending = Pending()  # guarded by _changed
        self._reading = False  # guarded by _changed
        self._sending = threading.Lock()
        self._registering = threading.Lock()
        self.regions: Dict[Memory, int] = {}  # changed under _registering
        try:
            self._socket.connect(path)
            body = _stream.hello(ticket, False, CLIENT_NAME)
            welcome = read(_stream.welcome, self.exchange(Type.HELLO, body, limit))
        except BaseException:
            self.close()
            raise
        self._slots = threading.BoundedSemaphore(max(welcome.max_requests, 1))

    @property
    def broken(self) -> bool:
        with self._changed:
            return self._pending.error is not None

    def close(self, error: Optional[MnemoError] = None) -> None:
        """Ends it; calls that wait are told so. Idempotent."""
        with self._changed:
            self._pending.fail(error or closed_client())
            self._changed.notify_all()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever reads
        except OSError:
            pass  # it was not connected
        self._socket.close()

    def call(self, request: LaneRequest, limit: TimeLimit) -> bytes:
        """The body of the answer. Errors: MnemoError, LaneDown."""
        if not self._slots.acquire(timeout=max(limit.left(), 0)):
            raise too_late()
        try:
            for memory in request.memories:
                self._register(memory, limit)
            return self.exchange(request.type, request.body(self.regions), limit)
        finally:
            self._slots.release()

    def _register(self, memory: Memory, limit: TimeLimit) -> None:
        if not self._registering.acquire(timeout=max(limit.left(), 0)):
            raise too_late()
        try:
            for old in [each for each in self.regions if each not in self._memories]:
                number = self.regions.pop(old)
                read(_stream.done, self.exchange(Type.UNREGISTER, _stream.unregister(number), limit))
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

    def exchange(self, type_: Type, body: bytes, limit: TimeLimit, fd: int = -1) -> bytes:
        """Sends a request and waits for its answer. Errors: MnemoError."""
        with self._changed:
            id_, frame = self._pending.begin(type_, body, limit)
        try:
            self._send(frame, limit, fd)
            answer = self._wait(id_, limit)
            if answer is None:
                self._send(self._pending.cancel(id_), TimeLimit(CANCEL_GRACE))
                if self._wait(id_, TimeLimit(CANCEL_GRACE)) is None:
                    # The server may write to the memory of the call for as long as
                    # the stream is open.
                    self.close(given_up())
                raise too_late()
            return answer
        finally:
            with self._changed:
                self._pending.forget(id_)

    def _send(self, frame: bytes, limit: TimeLimit, fd: int = -1) -> None:
        # With a descriptor the first byte goes together with it.
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
        rest = memoryview(frame)
        try:
            with self._sending:
                while rest:
                    try:
                        rest = rest[self._socket.sendmsg([rest], extra) :]
                        extra = []
                    except BlockingIOError:
                        if not self._ready(select.POLLOUT, limit.left()):
                            # Half a frame is there: nothing can follow it.
                            raise TimeoutError("the server does not read") from None
        except OSError as error:
            with self._changed:
                self._pending.fail(lost(error))
                self._changed.notify_all()
                self._pending.check()

    def _ready(self, event: int, timeout: float) -> bool:
        number = self._socket.fileno()
        if number < 0:
            raise OSError("the socket is closed")
        poll = select.poll()
        poll.register(number, event)
        return bool(poll.poll(max(timeout, 0) * 1000))

    def _wait(self, id_: int, limit: TimeLimit) -> Optional[bytes]:
        while True:
            with self._changed:
                while True:
                    answer = self._pending.take(id_)
                    if answer is not None:
                        return answer
                    self._pending.check()
                    left = limit.left()
                    if left <= 0:
                        return None
                    if not self._reading:
                        self._reading = True
                        break
                    self._changed.wait(left)
            self._read(left)

    def _read(self, timeout: float) -> None:
        data: Optional[bytes] = None
        error: Optional[MnemoError] = None
        try:
            if self._ready(select.POLLIN, timeout):
                data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            pass
        except OSError as failure:
            error = lost(failure)
        finally:
            with self._changed:
                self._reading = False
                if error is not None:
                    self._pending.fail(error)
                elif data is not None:
                    self._pending.feed(data)
                self._changed.notify_all()


class FastLane:
    """Calls over one stream, which is opened when it is needed and again when it broke.

    Thread-safe.
    """

    def __init__(self, state: LaneState, open_: Open) -> None:
        self.state = state
        self._open = open_
        self._lock = threading.Lock()
        self._stream: Optional[_Stream] = None  # guarded by _lock, as _closed
        self._closed = False

    def close(self) -> None:
        """Ends the stream and its registrations."""
        with self._lock:
            self._closed = True
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def carry(
        self, make: Callable[[MemoryMap], Optional[LaneRequest]], timeout: float
    ) -> Optional[bytes]:
        """The body of the answer; None if the call is to go by gRPC.

        `make` makes the request, or says that it has none. Errors: MnemoError.
        """
        if not self.state.wanted():
            self.state.count(Plane.INLINE)
            return None
        limit = TimeLimit(timeout)
        try:
            request = make(self.state.memories)
            if request is None:
                raise LaneUnfit("a buffer does not lie in registered memory")
            body = self._opened(limit).call(request, limit)
        except LaneDown as error:
            self.state.fall_back(error)
            self.state.count(Plane.INLINE)
            return None
        self.state.count(Plane.FAST)
        return body

    def _opened(self, limit: TimeLimit) -> _Stream:
        if not self._lock.acquire(timeout=max(limit.left(), 0)):
            raise too_late()
        try:
            if self._closed:
                raise closed_client()
            if self._stream is not None and not self._stream.broken:
                return self._stream
            if self._stream is not None:
                self._stream.close()
                self._stream = None
            self.state.enter()
            failure: Optional[Exception] = None
            try:
                path, ticket = self._open(limit.left())
                self._stream = _Stream(path, ticket, limit, self.state.memories)
            except (MnemoError, OSError) as error:
                failure = error
            self.state.opened(failure)
            if failure is not None or self._stream is None:
                raise LaneDown(f"the fast lane is down: {failure}")
            return self._stream
        finally:
            self._lock.release()
