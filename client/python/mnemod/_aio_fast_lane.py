"""The streams of the asyncio client, within one event loop."""

from __future__ import annotations

import asyncio
from collections import deque
import socket
import ssl
from typing import Any, Awaitable, Callable, Deque, Dict, List, Optional, Sequence

from . import _stream
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
from ._retry import TimeLimit
from ._socket import StreamSocket, TlsStreamSocket, Way, new_socket, rest_of, start_tls
from ._stream import Type
from .blocks import Plane
from .errors import DeadlineExceededError, MnemoError
from .memory import Memory, MemoryMap

# Asks for the way of a plane, within seconds. Errors: MnemoError.
AsyncOpen = Callable[[Plane, float], Awaitable[Way]]
# Makes the request of a call for a plane, or says that it has none.
Make = Callable[[Plane, MemoryMap], Optional[LaneRequest]]

# Reads of a socket before others of the loop have their turn.
_READS_AT_ONCE = 64


async def _connect(way: Way, limit: TimeLimit) -> StreamSocket:
    """A socket that is connected. Errors: OSError, asyncio.TimeoutError."""
    loop = asyncio.get_running_loop()
    if isinstance(way.address, str):
        return StreamSocket(await _connected(socket.AF_UNIX, way.address, limit))
    host, port = way.address
    found = await asyncio.wait_for(
        loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), limit.left()
    )
    failure: OSError = OSError(f"{host} has no address")
    for family, _, _, _, address in found:
        try:
            made = await _connected(family, address, limit)
        except OSError as error:
            failure = error
            continue
        if way.tls is None:
            return StreamSocket(made)
        try:
            return await _handshake(start_tls(made, way), limit)
        except BaseException:
            made.close()
            raise
    raise failure


async def _connected(family: int, address: Any, limit: TimeLimit) -> socket.socket:
    made = new_socket(family, address)
    try:
        made.setblocking(False)
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_connect(made, address), max(limit.left(), 0))
        return made
    except BaseException:
        made.close()
        raise


async def _handshake(secured: ssl.SSLSocket, limit: TimeLimit) -> StreamSocket:
    loop = asyncio.get_running_loop()
    try:
        while True:
            event = loop.create_future()
            try:
                secured.do_handshake()
                return TlsStreamSocket(secured)
            except ssl.SSLWantReadError:
                loop.add_reader(secured.fileno(), _done, event)
            except ssl.SSLWantWriteError:
                loop.add_writer(secured.fileno(), _done, event)
            await asyncio.wait((event,), timeout=limit.left())
            loop.remove_reader(secured.fileno())
            loop.remove_writer(secured.fileno())
            if not event.done():
                raise TimeoutError("TLS: no handshake in time")
    except BaseException:
        if secured.fileno() >= 0:
            loop.remove_reader(secured.fileno())
            loop.remove_writer(secured.fileno())
        secured.close()
        raise


def _done(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class _Turns:
    """So many may do something at once; the others wait in turn, each as long as it may."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: "Deque[asyncio.Future[None]]" = deque()

    async def take(self, limit: TimeLimit) -> None:
        """Errors: DeadlineExceededError."""
        if self._free > 0:
            self._free -= 1
            return
        mine: "asyncio.Future[None]" = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            await asyncio.wait((mine,), timeout=limit.left())
        except asyncio.CancelledError:
            if mine.done():
                self.give()
            else:
                self._waiting.remove(mine)
            raise
        if not mine.done():
            self._waiting.remove(mine)
            raise too_late()

    def hold(self) -> None:
        """Takes one more than there may be, for what goes on behind its turn."""
        self._free -= 1

    def give(self) -> None:
        """Gives back what was taken, or held."""
        self._free += 1
        while self._free > 0 and self._waiting:
            self._free -= 1
            self._waiting.popleft().set_result(None)


class _AsyncStream:
    """A stream that is open."""

    def __init__(self, memories: MemoryMap) -> None:
        self._memories = memories
        self._loop = asyncio.get_running_loop()
        self._socket: Optional[StreamSocket] = None
        self._pending = Pending()
        self._waiting: Dict[int, "asyncio.Future[None]"] = {}
        self._room: Optional["asyncio.Future[None]"] = None  # what a sender waits for
        self._sending = _Turns(1)
        self._registering = _Turns(1)
        self._regions: Dict[Memory, int] = {}
        self._slots = _Turns(1)

    async def start(self, way: Way, limit: TimeLimit) -> None:
        """Connects, and says hello. Errors: MnemoError, OSError, asyncio.TimeoutError."""
        self._socket = await _connect(way, limit)
        self._loop.add_reader(self._socket.fileno(), self._on_readable)
        body = _stream.hello(way.ticket, False, CLIENT_NAME)
        welcome = read(_stream.welcome, await self._exchange(Type.HELLO, body, limit))
        self._slots = _Turns(max(welcome.max_requests, 1))

    @property
    def broken(self) -> bool:
        return self._pending.error is not None

    def close(self, error: Optional[MnemoError] = None) -> None:
        """Ends it; calls that wait are told so. Idempotent."""
        self._pending.fail(error or closed_client())
        if self._socket is not None and self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
        for waiting in self._waiting.values():
            _done(waiting)
        if self._room is not None:
            _done(self._room)

    async def call(self, request: LaneRequest, limit: TimeLimit) -> bytes:
        """The body of the answer. Errors: MnemoError, LaneDown."""
        await self._slots.take(limit)
        try:
            for memory in request.memories:
                await self._register(memory, limit)
            body = request.body(self._regions)
            return await self._exchange(request.type, body, limit, payload=request.payload)
        finally:
            self._slots.give()

    async def _register(self, memory: Memory, limit: TimeLimit) -> None:
        await self._registering.take(limit)
        try:
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
        finally:
            self._registering.give()

    async def _exchange(
        self,
        type_: Type,
        body: bytes,
        limit: TimeLimit,
        fd: int = -1,
        payload: Optional[Payload] = None,
    ) -> bytes:
        id_, frame = self._pending.begin(type_, body, limit, payload)
        try:
            rest = await self._begin([memoryview(frame)], limit, fd)
        except BaseException:
            self._pending.withdraw(id_)
            raise
        try:
            await self._finish(rest, limit)
            answer = await self._answer(id_, limit)
            if answer is None:
                await self._give_up(id_)
                raise too_late()
            return answer
        except asyncio.CancelledError:
            # The server counts the request until it has answered it.
            self._slots.hold()
            self._pending.forget(id_, self._slots.give)
            if not self.broken:
                asyncio.ensure_future(self._cancel(id_))
            raise
        except BaseException:
            self._pending.forget(id_)
            raise

    async def _answer(self, id_: int, limit: TimeLimit) -> Optional[bytes]:
        """The answer, once the payload that it waits for was sent; None: it is too late."""
        while True:
            answer = self._pending.take(id_)
            if answer is not None:
                return answer
            self._pending.check()
            if limit.left() <= 0:
                return None
            if self._pending.may_send(id_):
                try:
                    await self._send(self._pending.to_send(id_), limit)
                except DeadlineExceededError:
                    return None
                await asyncio.sleep(0)  # others have a turn between two frames
                continue
            waiting: "asyncio.Future[None]" = self._loop.create_future()
            self._waiting[id_] = waiting
            try:
                # Not wait_for, which would cancel what the reader is to complete.
                await asyncio.wait((waiting,), timeout=max(limit.left(), 0))
            finally:
                del self._waiting[id_]

    async def _cancel(self, id_: int) -> None:
        try:
            await self._send([memoryview(self._pending.cancel(id_))], TimeLimit(CANCEL_GRACE))
        except MnemoError:
            pass  # the stream has ended, or the request does with its time

    async def _give_up(self, id_: int) -> None:
        await self._cancel(id_)
        if not self.broken and await self._answer(id_, TimeLimit(CANCEL_GRACE)) is None:
            # The server may write to the memory of the call for as long as the
            # stream is open.
            self.close(given_up())

    async def _send(self, pieces: Sequence[memoryview], limit: TimeLimit) -> None:
        """Sends a frame. Errors: DeadlineExceededError (nothing of it has left), MnemoError."""
        await self._finish(await self._begin(pieces, limit), limit)

    async def _begin(
        self, pieces: Sequence[memoryview], limit: TimeLimit, fd: int = -1
    ) -> List[memoryview]:
        """What is left of a frame once some has left; then the turn to send is still held.

        Errors: DeadlineExceededError, MnemoError; with any, as when it is cancelled,
        nothing has left.
        """
        await self._sending.take(limit)
        rest, begun = list(pieces), False
        try:
            while not begun:
                self._pending.check()
                rest = self._send_some(rest, fd)
                begun = self._holds() or sum(map(len, rest)) < sum(map(len, pieces))
                if not begun and not await self._writable(limit):
                    raise too_late()
        finally:
            if not begun or not rest:
                self._sending.give()
        return rest

    async def _finish(self, rest: List[memoryview], limit: TimeLimit) -> None:
        """Sends what is left, whatever becomes of the task. Errors: MnemoError."""
        if rest:
            await asyncio.shield(asyncio.ensure_future(self._send_rest(rest, limit)))
            self._pending.check()

    def _holds(self) -> bool:
        return self._socket is not None and self._socket.holds

    def _send_some(self, pieces: List[memoryview], fd: int = -1) -> List[memoryview]:
        """What is left of them once the socket is full."""
        rest = pieces
        try:
            while rest and self._socket is not None:
                sent = self._socket.send(rest, fd)
                if not sent:
                    break
                rest, fd = rest_of(rest, sent), -1
        except OSError as error:
            self.close(lost(error))
            self._pending.check()
        return rest

    async def _send_rest(self, rest: List[memoryview], limit: TimeLimit) -> None:
        """Goes on in the turn to send, which it gives back."""
        try:
            while rest and not self.broken:
                if not await self._writable(limit):
                    # Half a frame is there: nothing can follow it.
                    self.close(lost(OSError("the server does not read")))
                    return
                rest = self._send_some(rest)
        except MnemoError:
            pass  # why, the stream knows
        finally:
            self._sending.give()

    async def _writable(self, limit: TimeLimit) -> bool:
        """Waits for room, or the end of the stream; False: neither came in time."""
        if self._socket is None or self._socket.fileno() < 0:
            return True
        self._room = room = self._loop.create_future()
        number = self._socket.fileno()
        self._loop.add_writer(number, _done, room)
        try:
            await asyncio.wait((room,), timeout=limit.left())
        finally:
            self._room = None
            if self._socket.fileno() >= 0:
                self._loop.remove_writer(number)
        return room.done()

    def _on_readable(self) -> None:
        for _ in range(_READS_AT_ONCE):
            if self.broken or self._socket is None:
                return
            try:
                count = self._socket.recv_into(self._pending.room())
            except (OSError, ValueError) as error:
                self.close(lost(error))
                return
            if count is None:
                return
            for id_ in self._pending.filled(count):
                if id_ in self._waiting:
                    _done(self._waiting[id_])
            if self.broken:
                self.close()
                return
            if not self._pending.in_payload and not self._socket.has_more():
                return
        if self._socket is not None and self._socket.has_more():
            # No event of the socket tells of it.
            self._loop.call_soon(self._on_readable)


class _AsyncLink:
    """One plane's stream, which is opened when it is needed and again when it broke."""

    def __init__(self, state: LinkState, memories: MemoryMap, open_: AsyncOpen) -> None:
        self._state = state
        self._memories = memories
        self._open = open_
        self._opening: Optional["asyncio.Future[None]"] = None  # done when that has ended
        self._stream: Optional[_AsyncStream] = None
        self._closed = False

    def close(self) -> None:
        self._closed = True
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    async def stream(self, limit: TimeLimit) -> _AsyncStream:
        """Errors: MnemoError, LaneDown."""
        while True:
            if self._closed:
                raise closed_client()
            if self._stream is not None and not self._stream.broken:
                return self._stream
            if self._opening is None:
                break
            self._state.busy()
            opening = self._opening
            await asyncio.wait((opening,), timeout=limit.left())
            if not opening.done():
                raise too_late()
        self._state.enter()
        self._stream = None
        self._opening = opening = asyncio.get_running_loop().create_future()
        try:
            self._stream = made = await self._made(self._state.limit(limit))
        finally:
            self._opening = None
            opening.set_result(None)
        return made

    async def _made(self, limit: TimeLimit) -> _AsyncStream:
        stream = _AsyncStream(self._memories)
        try:
            way = await self._open(self._state.plane, limit.left())
            await stream.start(way, limit)
        except (MnemoError, OSError, ValueError, asyncio.TimeoutError) as error:
            stream.close()
            raise self._state.failed(error) from None
        except BaseException:
            stream.close()
            self._state.unknown()
            raise
        self._state.opened()
        if self._closed:
            stream.close()
            raise closed_client()
        return stream


class AsyncFastLane:
    """Calls over the streams of a client."""

    def __init__(self, state: LaneState, open_: AsyncOpen) -> None:
        self.state = state
        self._links = {
            plane: _AsyncLink(link, state.memories, open_) for plane, link in state.links().items()
        }

    def close(self) -> None:
        """Ends the streams and their registrations."""
        for link in self._links.values():
            link.close()

    async def carry(self, make: Make, timeout: float, payload: bool = True) -> Optional[bytes]:
        """The body of the answer; None if the call is to go by gRPC.

        `payload`: it has some. Errors: MnemoError.
        """
        limit = TimeLimit(timeout)
        for plane in self.state.planes(payload):
            try:
                request = make(plane, self.state.memories)
                if request is None:
                    raise unfit(plane)
                stream = await self._links[plane].stream(limit)
                body = await stream.call(request, limit)
            except LaneDown as error:
                self.state.fall_back(error)
                continue
            self.state.count(plane)
            return body
        self.state.count(Plane.INLINE)
        return None
