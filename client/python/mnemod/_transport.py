"""Calls of the blocking client: deadlines, retries, errors, streams."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Union

import grpc

from ._channel import HEALTH_METHOD, Metadata, from_rpc_error
from ._contract import METHODS
from ._lane import LaneState, has_frame, unary_answer, unary_request
from ._excerpt import CalibrationCache
from ._meter import FetchMeter
from ._fast_lane import FastLane
from ._retry import Retrier, TimeLimit
from ._append import AppendSession
from ._sessions import DONE, WAIT, GetSession, PutSession
from ._socket import Reach, Way, open_request, way_of
from .blocks import GetResult, Plane, PutResult
from .contexts import AppendResult
from .errors import CancelledError, MnemoError, NotFoundError


def _identity(message: bytes) -> bytes:
    return message


def _start(method: Any, request: Any, timeout: Optional[float], **options: Any) -> Any:
    try:
        return method(request, timeout=timeout, **options)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
    except ValueError as error:
        # What gRPC raises for a channel that was closed.
        raise CancelledError(f"the client is closed: {error}") from None


class Transport:
    """Calls methods over one channel. Thread-safe."""

    def __init__(
        self,
        channel: Any,
        retrier: Retrier,
        deadline: float,
        metadata: Metadata,
        sleep: Callable[[float], None] = time.sleep,
        wait_for_ready: bool = False,
        lane: Union[FastLane, Plane] = Plane.AUTO,
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
        self._health = channel.unary_unary(HEALTH_METHOD)
        if isinstance(lane, Plane):
            lane = FastLane(LaneState(lane), self._open_stream)
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

    def without_retries(self, wait_for_ready: bool) -> "Transport":
        """The same channel and budget; every call is tried once."""
        return Transport(
            self._channel, self._retrier.without_retries(), self._deadline, self._metadata,
            self._sleep, wait_for_ready, self.lane, self.meter, self.calibrations, self._reach,
        )

    def limit(self, deadline: Optional[float]) -> TimeLimit:
        """When a method that begins now has to end."""
        return TimeLimit(self._deadline if deadline is None else deadline)

    def _try(
        self,
        attempt_once: Callable[[float], Any],
        deadline: Optional[float],
        idempotent: bool = True,
    ) -> Any:
        limit = self.limit(deadline)
        attempt = 1
        while True:
            try:
                answer = attempt_once(limit.left())
            except MnemoError as error:
                delay = self._retrier.delay(error, attempt, idempotent, limit.left())
                if delay is None:
                    raise
                self._wait(delay)
                attempt += 1
            else:
                self._retrier.budget.success()
                return answer

    def _wait(self, delay: float) -> None:
        # gRPC for Python connects only while a call waits for its channel. The
        # health check costs the server next to nothing, and ends at once when
        # the connection stands.
        limit = TimeLimit(delay)
        try:
            self._health(b"", timeout=delay, metadata=self._metadata, wait_for_ready=True)
        except (grpc.RpcError, ValueError):
            pass  # the call that is tried again will tell
        if limit.left() > 0:
            self._sleep(limit.left())

    def call(
        self, method: str, request: Any, deadline: Optional[float], idempotent: bool = True
    ) -> Any:
        """Calls a unary method. Errors: MnemoError."""

        def once(timeout: float) -> Any:
            limit = TimeLimit(timeout)
            if has_frame(method):
                body = self.lane.carry(
                    lambda *_: unary_request(method, request), timeout, payload=False
                )
                if body is not None:
                    return unary_answer(method, body)
            return _start(self._unary[method], request, limit.left(), **self._options)

        return self._try(once, deadline, idempotent)

    def _open_stream(self, plane: Plane, timeout: float) -> Way:
        request = open_request(plane)
        answer = _start(self._unary["StreamService.Open"], request, timeout, **self._options)
        return way_of(plane, answer, self._reach)

    def put(self, session: PutSession, deadline: Optional[float]) -> List[PutResult]:
        """Runs a Put to its end. Errors: MnemoError (no part ended)."""

        def once(timeout: float) -> None:
            limit = TimeLimit(timeout)
            body = self.lane.carry(session.lane_request, timeout)
            if body is not None:
                session.on_lane_answer(body)
            else:
                _SendDriver(session).run(self._put, limit.left(), self._options)

        results: List[PutResult] = self._session(session, once, deadline)
        return results

    def append(self, session: AppendSession, deadline: Optional[float]) -> AppendResult:
        """Runs an Append to its end. Errors: MnemoError; what the caller's tokens raise."""

        def once(timeout: float) -> None:
            _SendDriver(session).run(self._append, timeout, self._options)

        result: AppendResult = self._session(session, once, deadline)
        return result

    def get(self, session: GetSession, deadline: Optional[float]) -> List[GetResult]:
        """Runs a Get to its end. Errors: MnemoError (no part ended)."""

        def once(timeout: float) -> None:
            limit = TimeLimit(timeout)
            body = self.lane.carry(session.lane_request, timeout)
            if body is not None:
                session.on_lane_answer(body)
                self._learn(session, limit)
                return
            call = _start(self._get, session.request(), limit.left(), **self._options)
            try:
                for message in call:
                    session.on_message(message)
            except grpc.RpcError as error:
                raise from_rpc_error(error) from None
            finally:
                call.cancel()
            self._learn(session, limit)

        results: List[GetResult] = self._session(session, once, deadline)
        return results

    def _learn(self, session: GetSession, limit: TimeLimit) -> None:
        """Brings what parts that came encoded take to be decoded. Errors: MnemoError."""
        for number in session.missing_calibrations():
            request = session.calibration_request(number)
            method = self._unary["SpaceService.GetCalibration"]
            try:
                answer: Any = _start(method, request, limit.left(), **self._options)
            except NotFoundError as error:
                answer = error
            session.learn(number, answer)

    def _session(
        self, session: Any, once: Callable[[float], None], deadline: Optional[float]
    ) -> Any:
        tries = 0

        def attempt(timeout: float) -> None:
            nonlocal tries
            tries += 1
            if tries == 1 or session.retry():
                once(timeout)

        try:
            self._try(attempt, deadline)
        except MnemoError as error:
            return session.finish(error)
        return session.finish(None)

    def watch(self, request: Any, deadline: Optional[float]) -> "WatchStream":
        """Starts a watch; without a deadline it runs until it is closed."""
        return WatchStream(_start(self._watch, request, deadline, **self._options))

    def read(self, request: Any, deadline: Optional[float]) -> "WatchStream":
        """Starts a Read of a context; its messages are serialised."""
        limit = self.limit(deadline)
        return WatchStream(_start(self._read, request, limit.left(), **self._options))


class WatchStream:
    """The messages of a watch, or of a read."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._closed = False

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._call
        except grpc.RpcError as error:
            if not self._closed:
                raise from_rpc_error(error) from None
        finally:
            # A reader that stops half-way ends the call.
            self._call.cancel()

    def close(self) -> None:
        """Ends the watch, from whatever thread; the iteration ends."""
        self._closed = True
        self._call.cancel()


class _SendDriver:
    """One try of a Put or an Append: gRPC's thread asks for messages, ours reads answers."""

    def __init__(self, session: Union[PutSession, AppendSession]) -> None:
        self._changed = threading.Condition()
        self._session = session  # guarded by _changed
        self._ended = False  # guarded by _changed
        self._error: Optional[Exception] = None  # what making a message raised

    def run(self, method: Any, timeout: float, options: Dict[str, Any]) -> None:
        call = _start(method, self._messages(), timeout, **options)
        try:
            for response in call:
                with self._changed:
                    self._session.on_response(response)
                    self._changed.notify_all()
        except grpc.RpcError as error:
            raise self._error or from_rpc_error(error) from None
        finally:
            # Frees gRPC's thread from its wait in _messages.
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            call.cancel()
        if self._error is not None:
            raise self._error

    def _messages(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                if self._ended:
                    return  # the session is the next try's now
                try:
                    message = self._session.next_message()
                    while message is WAIT and not self._ended:
                        self._changed.wait()
                        message = self._session.next_message()
                except Exception as error:  # of the caller's tokens; gRPC would only log it
                    self._error = error
                    return
                if self._ended or not isinstance(message, bytes):
                    return
            yield message
