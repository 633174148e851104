"""The fast lane of the asyncio client: one stream, within one event loop."""

from __future__ import annotations

import array
import asyncio
import socket
from typing import Awaitable, Callable, Dict, Optional, Tuple

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
AsyncOpen = Callable[[float], Awaitable[Tuple[str, bytes]]]


class _AsyncStream:
    """A stream that is open."""

    def __init__(self, memories: MemoryMap) -> None:
        self._memories = memories
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._pending = Pending()
        self._waiting: Dict[int, "asyncio.Future[None]"] = {}
        self._sending = asyncio.Lock()
        self._registering = asyncio.Lock()
        self._regions: Dict[Memory, int] = {}
        self._slots = asyncio.Semaphore(1)
        self._open = False

    async def start(self, path: str, ticket: bytes, limit: TimeLimit) -> None:
        """Connects, and says hello. Errors: MnemoError, OSError."""
        await asyncio.wait_for(self._loop.sock_connect(self._socket, path), max(limit.left(), 0))
        self._open = True
        self._loop.add_reader(self._socket.fileno(), self._on_readable)
        body = _stream.hello(ticket, False, CLIENT_NAME)
        welcome = read(_stream.welcome, await self._exchange(Type.HELLO, body, limit))
        self._slots = asyncio.Semaphore(max(welcome.max_requests, 1))

    @property
    def broken(self) -> bool:
        return self._pending.error is not None

    def close(self, error: Optional[MnemoError] = None) -> None:
        """Ends it; calls that wait are told so. Idempotent."""
        self._pending.fail(error or closed_client())
        if self._open:
            self._open = False
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)

    async def call(self, request: LaneRequest, limit: TimeLimit) -> bytes:
        """The body of the answer. Errors: MnemoError, LaneDown."""
        try:
            await asyncio.wait_for(self._slots.acquire(), max(limit.left(), 0))
        except asyncio.TimeoutError:
            raise too_late() from None
        try:
            for memory in request.memories:
                await self._register(memory, limit)
            return await self._exchange(request.type, request.body(self._regions), limit)
        finally:
            self._slots.release()

    async def _register(self, memory: Memory, limit: TimeLimit) -> None:
        async with self._registering:
            for old in [each for each in self._regions if each not in self._memories]:
                body = _stream.unregister(self._regions.pop(old))
                read(_stream.done, await self._exchange(Type.UNREGISTER, body, limit))
            if memory in self._regions:
                return
            if memory.closed:
                raise LaneDown("the memory was closed")
            body = _stream.register(memory.kind, *memory.region())
            try:
                answer = await self._exchange(Type.REGISTER, body, limit, memory.fd)
                self._regions[memory], _ = read(_stream.registered, answer)
            except MnemoError as error:
                raise refuse_memory(error) from None

    async def _exchange(self, type_: Type, body: bytes, limit: TimeLimit, fd: int = -1) -> bytes:
        id_, frame = self._pending.begin(type_, body, limit)
        waiting: "asyncio.Future[None]" = self._loop.create_future()
        self._waiting[id_] = waiting
        try:
            await self._send(frame, limit, fd)
            # Not wait_for, which would cancel what the reader is to complete.
            await asyncio.wait((waiting,), timeout=max(limit.left(), 0))
            if not waiting.done():
                await self._give_up(id_, waiting)
                raise too_late()
            answer = self._pending.take(id_)
            if answer is None:
                self._pending.check()
                raise lost(OSError("no answer"))
            return answer
        except asyncio.CancelledError:
            if not self.broken:
                asyncio.ensure_future(self._cancel(id_))
            raise
        finally:
            del self._waiting[id_]
            self._pending.forget(id_)

    async def _cancel(self, id_: int) -> None:
        try:
            await self._send(self._pending.cancel(id_), TimeLimit(CANCEL_GRACE))
        except MnemoError:
            pass  # the stream has ended, and the request with it

    async def _give_up(self, id_: int, waiting: "asyncio.Future[None]") -> None:
        await self._cancel(id_)
        await asyncio.wait((waiting,), timeout=CANCEL_GRACE)
        if not waiting.done():
            # The server may write to the memory of the call for as long as the
            # stream is open.
            self.close(given_up())

    async def _send(self, frame: bytes, limit: TimeLimit, fd: int = -1) -> None:
        # With a descriptor the first byte goes together with it.
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
        rest = memoryview(frame)
        async with self._sending:
            while rest:
                self._pending.check()
                try:
                    rest = rest[self._socket.sendmsg([rest], extra) :]
                    extra = []
                except BlockingIOError:
                    await self._writable(limit)
                except OSError as error:
                    self.close(lost(error))

    async def _writable(self, limit: TimeLimit) -> None:
        writable: "asyncio.Future[None]" = self._loop.create_future()
        number = self._socket.fileno()

        def on_writable() -> None:
            if not writable.done():
                writable.set_result(None)

        self._loop.add_writer(number, on_writable)
        try:
            await asyncio.wait((writable,), timeout=max(limit.left(), 0))
        finally:
            if self._open:
                self._loop.remove_writer(number)
        if not writable.done():
            # Half a frame is there: nothing can follow it.
            self.close(lost(OSError("the server does not read")))

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(lost(error))
            return
        for id_ in self._pending.feed(data):
            waiting = self._waiting.get(id_)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
        if self.broken:
            self.close()


class AsyncFastLane:
    """Calls over one stream, which is opened when it is needed and again when it broke."""

    def __init__(self, state: LaneState, open_: AsyncOpen) -> None:
        self.state = state
        self._open = open_
        self._opening = asyncio.Lock()
        self._stream: Optional[_AsyncStream] = None
        self._closed = False

    def close(self) -> None:
        """Ends the stream and its registrations."""
        self._closed = True
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    async def carry(
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
            body = await (await self._opened(limit)).call(request, limit)
        except LaneDown as error:
            self.state.fall_back(error)
            self.state.count(Plane.INLINE)
            return None
        self.state.count(Plane.FAST)
        return body

    async def _opened(self, limit: TimeLimit) -> _AsyncStream:
        async with self._opening:
            if self._closed:
                raise closed_client()
            if self._stream is not None and not self._stream.broken:
                return self._stream
            self._stream = None
            self.state.enter()
            stream = _AsyncStream(self.state.memories)
            try:
                path, ticket = await self._open(limit.left())
                await stream.start(path, ticket, limit)
            except BaseException as error:
                stream.close()
                self.state.opened(error)
                if not isinstance(error, (MnemoError, OSError, asyncio.TimeoutError)):
                    raise
                raise LaneDown(f"the fast lane is down: {error}") from None
            self.state.opened(None)
            self._stream = stream
            return stream
