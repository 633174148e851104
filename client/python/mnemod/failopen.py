"""Calls for engines: whatever fails or is slow is a miss, and nothing raises."""

from __future__ import annotations

from dataclasses import dataclass, field
import logging
import threading
import time
from typing import Any, Awaitable, Callable, Dict, List, Optional, Sequence, Tuple

from ._breaker import BreakerOptions, CircuitBreaker
from .aio import AsyncSpaceHandle
from .blocks import Block, GetResult, MatchResult, Part, PutOutcome, PutResult
from .client import WHOLE_BLOCK, SpaceHandle
from .errors import Code, InvalidArgumentError, MnemoError, UnavailableError, detached

_LOG = logging.getLogger("mnemod")

# What says that the server is gone or drowning, rather than that a call was wrong.
_SERVER_FAULTS = frozenset((Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED))


@dataclass
class FailOpenStats:
    """What happened, in calls since the start."""

    calls: int = 0
    failed: Dict[str, int] = field(default_factory=dict)
    """By method and code: "get:DEADLINE_EXCEEDED"."""
    skipped: int = 0
    """Not sent, since the breaker was open."""
    breaker_opened: int = 0
    breaker_open: bool = False


class _Guard:
    """Counters and breaker, shared by both kinds. Thread-safe."""

    def __init__(self, deadline_ms: float, breaker: BreakerOptions, clock: Any) -> None:
        if not deadline_ms > 0:
            raise ValueError(f"deadline_ms is {deadline_ms}; above 0")
        self.deadline = deadline_ms / 1000
        self.breaker = CircuitBreaker(breaker, clock)
        self._lock = threading.Lock()
        self._stats = FailOpenStats()  # guarded by _lock

    def stats(self) -> FailOpenStats:
        with self._lock:
            copy = FailOpenStats(**vars(self._stats))
            copy.failed = dict(self._stats.failed)
        copy.breaker_open = self.breaker.is_open
        return copy

    def enter(self) -> bool:
        allowed = self.breaker.allow()
        with self._lock:
            self._stats.calls += 1
            self._stats.skipped += not allowed
        return allowed

    def answered(self, method: str, answer: Any) -> None:
        # A read or a write may have broken off in the middle.
        if isinstance(answer, list):
            for item in answer:
                if item.error is not None and item.error.code in _SERVER_FAULTS:
                    self.failed(method, item.error)
                    return
        if self.breaker.success():
            _LOG.warning("mnemo answers again")

    def failed(self, method: str, error: Exception) -> MnemoError:
        is_ours = not isinstance(error, MnemoError)
        if not isinstance(error, MnemoError):
            # Not the server's doing: a key or a buffer of the wrong kind.
            error = InvalidArgumentError(f"{type(error).__name__}: {error}")
        opened = False
        if error.code in _SERVER_FAULTS:
            opened = self.breaker.failure()
        elif is_ours:
            self.breaker.nothing()
        else:
            self.breaker.success()
        name = f"{method}:{error.code.name}"
        with self._lock:
            first = name not in self._stats.failed
            self._stats.failed[name] = self._stats.failed.get(name, 0) + 1
            self._stats.breaker_opened += opened
        if opened:
            _LOG.warning("mnemo does not answer, calls are held back: %s", error)
        elif first:
            _LOG.warning("mnemo: %s failed, taken for a miss: %s", method, error)
        return detached(error)


SKIPPED = "not asked: the server did not answer lately"


def _missed_gets(
    keys: Sequence[bytes], parts: Sequence[Tuple[int, int, int]], error: MnemoError
) -> List[GetResult]:
    return [GetResult(key, Part(*part), error=error) for key in keys for part in parts]


def _failed_puts(blocks: Sequence[Block], error: MnemoError) -> List[PutResult]:
    return [PutResult(b.key, b.part, PutOutcome.FAILED, error=error) for b in blocks]


class FailOpen:
    """A space's match, get, put and so on, for an engine's own path. Thread-safe.

    No call raises an Exception or takes much longer than `deadline_ms` (which
    each call may override, in ms), nothing is retried, and a server that does
    not answer is left alone for a while. What failed is a match of 0 blocks, a
    result with an error, or 0. A read that broke off may have written into
    its buffers: only those of results that are `ok` count.
    """

    def __init__(
        self,
        handle: SpaceHandle,
        *,
        deadline_ms: float = 50.0,
        breaker: BreakerOptions = BreakerOptions(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Waiting is what brings a lost connection back: gRPC for Python connects
        # only while a call waits for it.
        self._handle = handle.without_retries(wait_for_ready=True)
        self._guard = _Guard(deadline_ms, breaker, clock)

    @property
    def handle(self) -> SpaceHandle:
        """The space, whose calls do raise."""
        return self._handle

    def stats(self) -> FailOpenStats:
        """The counters, as of now."""
        return self._guard.stats()

    def _run(
        self,
        method: str,
        call: Callable[..., Any],
        missed: Callable[[MnemoError], Any],
        deadline_ms: Optional[float],
        options: Dict[str, Any],
    ) -> Any:
        if not self._guard.enter():
            return missed(UnavailableError(SKIPPED))
        deadline = self._guard.deadline if deadline_ms is None else deadline_ms / 1000
        try:
            answer = call(deadline=deadline, **options)
        except Exception as error:  # the promise of this class
            return missed(self._guard.failed(method, error))
        except BaseException:
            # Interrupted or cancelled; the next call may probe.
            self._guard.breaker.nothing()
            raise
        self._guard.answered(method, answer)
        return answer

    def match(
        self, keys: Sequence[bytes], *, deadline_ms: Optional[float] = None, **options: Any
    ) -> MatchResult:
        """`SpaceHandle.match`; a failure matches nothing."""
        answer: MatchResult = self._run(
            "match",
            lambda **more: self._handle.match(keys, **more),
            lambda error: MatchResult(present=b"" if options.get("bitmap") else None),
            deadline_ms,
            options,
        )
        return answer

    def get(
        self,
        keys: Sequence[bytes],
        *,
        parts: Sequence[Tuple[int, int, int]] = WHOLE_BLOCK,
        deadline_ms: Optional[float] = None,
        **options: Any,
    ) -> List[GetResult]:
        """`SpaceHandle.get`; a failure is a miss of the parts that did not come."""
        answer: List[GetResult] = self._run(
            "get",
            lambda **more: self._handle.get(keys, parts=parts, **more),
            lambda error: _missed_gets(keys, parts, error),
            deadline_ms,
            options,
        )
        return answer

    def put(
        self, blocks: Sequence[Block], *, deadline_ms: Optional[float] = None, **options: Any
    ) -> List[PutResult]:
        """`SpaceHandle.put_many`; parts that failed say so."""
        answer: List[PutResult] = self._run(
            "put",
            lambda **more: self._handle.put_many(blocks, **more),
            lambda error: _failed_puts(blocks, error),
            deadline_ms,
            options,
        )
        return answer

    def touch(
        self, keys: Sequence[bytes], *, deadline_ms: Optional[float] = None, **options: Any
    ) -> int:
        """`SpaceHandle.touch`; a failure finds none."""
        return int(
            self._run(
                "touch",
                lambda **more: self._handle.touch(keys, **more),
                lambda error: 0,
                deadline_ms,
                options,
            )
        )

    def delete(
        self, keys: Sequence[bytes], *, deadline_ms: Optional[float] = None, **options: Any
    ) -> int:
        """`SpaceHandle.delete`; a failure deletes none."""
        return int(
            self._run(
                "delete",
                lambda **more: self._handle.delete(keys, **more),
                lambda error: 0,
                deadline_ms,
                options,
            )
        )

    def release(self, lease: int, *, deadline_ms: Optional[float] = None) -> bool:
        """Ends a lease; whether it was there. One that is not released runs out."""

        def call(**more: Any) -> bool:
            self._handle.release(lease, **more)
            return True

        return bool(self._run("release", call, lambda error: False, deadline_ms, {}))


class AsyncFailOpen:
    """The same for asyncio; within one event loop."""

    def __init__(
        self,
        handle: AsyncSpaceHandle,
        *,
        deadline_ms: float = 50.0,
        breaker: BreakerOptions = BreakerOptions(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Waiting is what brings a lost connection back: gRPC for Python connects
        # only while a call waits for it.
        self._handle = handle.without_retries(wait_for_ready=True)
        self._guard = _Guard(deadline_ms, breaker, clock)

    @property
    def handle(self) -> AsyncSpaceHandle:
        """The space, whose calls do raise."""
        return self._handle

    def stats(self) -> FailOpenStats:
        """The counters, as of now."""
        return self._guard.stats()

    async def _run(
        self,
        method: str,
        call: Callable[..., Awaitable[Any]],
        missed: Callable[[MnemoError], Any],
        deadline_ms: Optional[float],
        options: Dict[str, Any],
    ) -> Any:
        if not self._guard.enter():
            return missed(UnavailableError(SKIPPED))
        deadline = self._guard.deadline if deadline_ms is None else deadline_ms / 1000
        try:
            answer = await call(deadline=deadline, **options)
        except Exception as error:  # the promise of this class
            return missed(self._guard.failed(method, error))
        except BaseException:
            # Interrupted or cancelled; the next call may probe.
            self._guard.breaker.nothing()
            raise
        self._guard.answered(method, answer)
        return answer

    async def match(
        self, keys: Sequence[bytes], *, deadline_ms: Optional[float] = None, **options: Any
    ) -> MatchResult:
        """`AsyncSpaceHandle.match`; a failure matches nothing."""
        answer: MatchResult = await self._run(
            "match",
            lambda **more: self._handle.match(keys, **more),
            lambda error: MatchResult(present=b"" if options.get("bitmap") else None),
            deadline_ms,
            options,
        )
        return answer

    async def get(
        self,
        keys: Sequence[bytes],
        *,
        parts: Sequence[Tuple[int, int, int]] = WHOLE_BLOCK,
        deadline_ms: Optional[float] = None,
        **options: Any,
    ) -> List[GetResult]:
        """`AsyncSpaceHandle.get`; a failure is a miss of the parts that did not come."""
        answer: List[GetResult] = await self._run(
            "get",
            lambda **more: self._handle.get(keys, parts=parts, **more),
            lambda error: _missed_gets(keys, parts, error),
            deadline_ms,
            options,
        )
        return answer

    async def put(
        self, blocks: Sequence[Block], *, deadline_ms: Optional[float] = None, **options: Any
    ) -> List[PutResult]:
        """`AsyncSpaceHandle.put_many`; parts that failed say so."""
        answer: List[PutResult] = await self._run(
            "put",
            lambda **more: self._handle.put_many(blocks, **more),
            lambda error: _failed_puts(blocks, error),
            deadline_ms,
            options,
        )
        return answer
