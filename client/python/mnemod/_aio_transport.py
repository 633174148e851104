"""Calls of the asyncio client: deadlines, retries, errors, streams."""

from __future__ import annotations

import asyncio
from typing import Any, AsyncIterator, Awaitable, Callable, List, Optional, Union

import grpc
import grpc.aio

from ._channel import Metadata, from_rpc_error
from ._contract import METHODS
from ._lane import LaneState, has_frame, unary_answer, unary_request
from ._excerpt import CalibrationCache
from ._meter import FetchMeter
from ._aio_fast_lane import AsyncFastLane
from ._retry import Retrier, TimeLimit
from ._append import AppendSession
from ._sessions import WAIT, GetSession, PutSession
from ._socket import Reach, Way, open_request, way_of
from .blocks import GetResult, Plane, PutResult
from .contexts import AppendResult
from .errors import CancelledError, Code, MnemoError, NotFoundError, UnavailableError

# What gRPC says of a write to a stream that the server has ended.
_WRITE_FAILED = "Internal error from Core"


def _identity(message: bytes) -> bytes:
    return message


def _start(method: Any, *requests: Any, timeout: Optional[float], **options: Any) -> Any:
    try:
        return method(*requests, timeout=timeout, **options)
    except grpc.aio.UsageError as error:
        raise CancelledError(f"the client is closed: {error}") from None


class AsyncTransport:
    """Calls methods over one channel, within one event loop."""

    def __init__(
        self,
        channel: Any,
        retrier: Retrier,
        deadline: float,
        metadata: Metadata,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        wait_for_ready: bool = False,
        lane: Union[AsyncFastLane, Plane] = Plane.AUTO,
        meter: Optional[FetchMeter] = None,
        calibrations: Optional[CalibrationCache] = None,
        reach: Reach = Reach(""),
    ) -> None:
        self._channel = channel
        self._retrier = retrier
        self._deadline = deadline
        self._metadata = tuple(metadata)
        self._options = {"metadata": self._metadata, "wait_for_ready": wait_for_ready}
        self._sleep = sleep
        self._unary = {
            name: channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            for name, method in METHODS.items()
            if not method.client_streaming and not method.server_streaming
        }
        if isinstance(lane, Plane):
            lane = AsyncFastLane(LaneState(lane), self._open_stream)
        self.lane = lane
        """The streams; transports of one client share them."""
        self._reach = reach
        self.calibrations = calibrations or CalibrationCache()
        """What decoding takes; transports of one client share it, and the meter."""
        self.meter = meter or FetchMeter()
        """What reads took; likewise."""
        get, put, watch = (METHODS[f"BlockService.{name}"] for name in ("Get", "Put", "Watch"))
        # Payload passes as bytes: _wire reads and writes it without protobuf.
        self._get = channel.unary_stream(
            get.path, request_serializer=get.request.SerializeToString,
            response_deserializer=_identity,
        )
        self._put = channel.stream_stream(
            put.path, request_serializer=_identity, response_deserializer=put.response.FromString
        )
        append, read = (METHODS[f"ContextService.{name}"] for name in ("Append", "Read"))
        self._append = channel.stream_stream(
            append.path, request_serializer=_identity,
            response_deserializer=append.response.FromString,
        )
        self._read = channel.unary_stream(
            read.path, request_serializer=read.request.SerializeToString,
            response_deserializer=_identity,
        )
        self._watch = channel.unary_stream(
            watch.path, request_serializer=watch.request.SerializeToString,
            response_deserializer=watch.response.FromString,
        )

    def without_retries(self, wait_for_ready: bool) -> "AsyncTransport":
        """The same channel and budget; every call is tried once."""
        return AsyncTransport(
            self._channel, self._retrier.without_retries(), self._deadline, self._metadata,
            self._sleep, wait_for_ready, self.lane, self.meter, self.calibrations, self._reach,
        )

    def limit(self, deadline: Optional[float]) -> TimeLimit:
        """When a method that begins now has to end."""
        return TimeLimit(self._deadline if deadline is None else deadline)

    async def _try(
        self,
        attempt_once: Callable[[float], Awaitable[Any]],
        deadline: Optional[float],
        idempotent: bool = True,
    ) -> Any:
        limit = self.limit(deadline)
        attempt = 1
        while True:
            try:
                answer = await attempt_once(limit.left())
            except MnemoError as error:
                delay = self._retrier.delay(error, attempt, idempotent, limit.left())
                if delay is None:
                    raise
                await self._sleep(delay)
                attempt += 1
            else:
                self._retrier.budget.success()
                return answer

    async def call(
        self, method: str, request: Any, deadline: Optional[float], idempotent: bool = True
    ) -> Any:
        """Calls a unary method. Errors: MnemoError."""

        async def once(timeout: float) -> Any:
            limit = TimeLimit(timeout)
            if has_frame(method):
                body = await self.lane.carry(
                    lambda *_: unary_request(method, request), timeout, payload=False
                )
                if body is not None:
                    return unary_answer(method, body)
            call = _start(
                self._unary[method], request, timeout=limit.left(), **self._options
            )
            try:
                return await call
            except grpc.RpcError as error:
                raise from_rpc_error(error) from None

        return await self._try(once, deadline, idempotent)

    async def _open_stream(self, plane: Plane, timeout: float) -> Way:
        request = open_request(plane)
        call = _start(self._unary["StreamService.Open"], request, timeout=timeout, **self._options)
        try:
            answer = await call
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
        return way_of(plane, answer, self._reach)

    async def put(self, session: PutSession, deadline: Optional[float]) -> List[PutResult]:
        """Runs a Put to its end. Errors: MnemoError (no part ended)."""

        async def once(timeout: float) -> None:
            limit = TimeLimit(timeout)
            body = await self.lane.carry(session.lane_request, timeout)
            if body is not None:
                session.on_lane_answer(body)
                return
            call = _start(self._put, timeout=limit.left(), **self._options)
            await _send(call, session)

        results: List[PutResult] = await self._session(session, once, deadline)
        return results

    async def append(self, session: AppendSession, deadline: Optional[float]) -> AppendResult:
        """Runs an Append to its end. Errors: MnemoError; what the caller's tokens raise."""

        async def once(timeout: float) -> None:
            call = _start(self._append, timeout=timeout, **self._options)
            await _send(call, session)

        result: AppendResult = await self._session(session, once, deadline)
        return result

    async def get(self, session: GetSession, deadline: Optional[float]) -> List[GetResult]:
        """Runs a Get to its end. Errors: MnemoError (no part ended)."""

        async def once(timeout: float) -> None:
            limit = TimeLimit(timeout)
            body = await self.lane.carry(session.lane_request, timeout)
            if body is not None:
                session.on_lane_answer(body)
                await self._learn(session, limit)
                return
            call = _start(
                self._get, session.request(), timeout=limit.left(), **self._options
            )
            try:
                async for message in call:
                    session.on_message(message)
            except grpc.RpcError as error:
                raise from_rpc_error(error) from None
            finally:
                call.cancel()
            await self._learn(session, limit)

        results: List[GetResult] = await self._session(session, once, deadline)
        return results

    async def _learn(self, session: GetSession, limit: TimeLimit) -> None:
        """Brings what parts that came encoded take to be decoded. Errors: MnemoError."""
        for number in session.missing_calibrations():
            request = session.calibration_request(number)
            method = self._unary["SpaceService.GetCalibration"]
            call = _start(method, request, timeout=limit.left(), **self._options)
            try:
                answer = await call
            except grpc.RpcError as error:
                answer = from_rpc_error(error)
                if not isinstance(answer, NotFoundError):
                    raise answer from None
            session.learn(number, answer)

    async def _session(
        self, session: Any, once: Callable[[float], Awaitable[None]], deadline: Optional[float]
    ) -> Any:
        tries = 0

        async def attempt(timeout: float) -> None:
            nonlocal tries
            tries += 1
            if tries == 1 or session.retry():
                await once(timeout)

        try:
            await self._try(attempt, deadline)
        except MnemoError as error:
            return session.finish(error)
        return session.finish(None)

    def watch(self, request: Any, deadline: Optional[float]) -> "AsyncWatchStream":
        """Starts a watch; without a deadline it runs until it is closed."""
        return AsyncWatchStream(
            _start(self._watch, request, timeout=deadline, **self._options)
        )

    def read(self, request: Any, deadline: Optional[float]) -> "AsyncWatchStream":
        """Starts a Read of a context; its messages are serialised."""
        limit = self.limit(deadline)
        return AsyncWatchStream(
            _start(self._read, request, timeout=limit.left(), **self._options)
        )


class AsyncWatchStream:
    """The messages of a watch, or of a read."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for message in self._call:
                yield message
        except grpc.RpcError as error:
            if not self._closed:
                raise from_rpc_error(error) from None
        except asyncio.CancelledError:
            # gRPC raises this in the reader of a call that close() cancelled.
            if not self._closed:
                raise
        finally:
            # A reader that stops half-way ends the call.
            self._call.cancel()

    def close(self) -> None:
        """Ends the watch; the iteration ends."""
        self._closed = True
        self._call.cancel()


def _stream_error(error: Any) -> MnemoError:
    """Returns our error for one that a Put or an Append ended with.

    When a write meets the end of its stream, gRPC for asyncio puts an INTERNAL
    of its own in the place of the server's status, which is lost. Both are safe
    to repeat, and the next try asks again (docs/decisions/0011).
    """
    found = from_rpc_error(error)
    if found.code is Code.INTERNAL and found.message == _WRITE_FAILED:
        return UnavailableError("the server ended the stream while it was written to")
    return found


async def _send(call: Any, session: Union[PutSession, AppendSession]) -> None:
    changed = asyncio.Event()
    failed: Optional[Exception] = None  # what making a message raised

    async def send() -> None:
        nonlocal failed
        while True:
            try:
                message = session.next_message()
            except Exception as error:
                failed = error
                await call.done_writing()
                return
            if message is WAIT:
                changed.clear()
                await changed.wait()
            elif isinstance(message, bytes):
                await call.write(message)
            else:
                await call.done_writing()
                return

    sender = asyncio.ensure_future(send())
    try:
        async for response in call:
            session.on_response(response)
            changed.set()
    except grpc.RpcError as error:
        raise failed or _stream_error(error) from None
    finally:
        call.cancel()
        sender.cancel()
        # The call's own end tells what went wrong; the sender only felt it.
        await asyncio.gather(sender, return_exceptions=True)
    if failed is not None:
        raise failed
