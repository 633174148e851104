"""When to try again: only what is idempotent, and only within a budget."""

from __future__ import annotations

from dataclasses import dataclass
import random
import threading
import time
from typing import Callable, Optional

from .errors import Code, MnemoError


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently. `attempts` counts the first try; 1: never again.

    By default some 2 to 3 seconds in all, longer than the connection takes to
    notice a daemon that was restarted.
    """

    attempts: int = 6
    initial_backoff: float = 0.1
    """Seconds before the second try, before jitter."""
    multiplier: float = 2.0
    max_backoff: float = 2.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}; at least 1")
        if self.initial_backoff < 0 or self.max_backoff < self.initial_backoff:
            raise ValueError("backoff: 0 <= initial_backoff <= max_backoff")

    def backoff(self, attempt: int, jitter: float) -> float:
        """Seconds to wait behind failed try number `attempt`; `jitter` in [0, 1)."""
        full = self.initial_backoff * self.multiplier ** (attempt - 1)
        return min(full, self.max_backoff) * (0.5 + jitter / 2)


NO_RETRIES = RetryPolicy(attempts=1)


class RetryBudget:
    """A token bucket over all calls of a client. Thread-safe.

    A failure takes a token, a success gives `ratio` of one back, and nothing
    is retried while the bucket is not more than half full: when most calls
    fail, retries are a small share of the load instead of a multiple.
    """

    def __init__(self, capacity: float = 20.0, ratio: float = 0.1) -> None:
        self._capacity = capacity
        self._ratio = ratio
        self._lock = threading.Lock()
        self._tokens = capacity  # guarded by _lock

    def success(self) -> None:
        """Counts a call that was answered."""
        with self._lock:
            self._tokens = min(self._capacity, self._tokens + self._ratio)

    def failure(self) -> bool:
        """Counts a call that was not; returns whether it may be retried."""
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1.0)
            return self._tokens > self._capacity / 2


class TimeLimit:
    """The end of a method's time, over all the calls that it makes."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left; 0 when none are."""
        left = self._end - time.monotonic()
        return left if left > 0 else 0.0


class Retrier:
    """Decides about one client's retries. Thread-safe."""

    def __init__(
        self,
        policy: RetryPolicy,
        budget: RetryBudget,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.policy = policy
        self.budget = budget
        self._jitter = jitter

    def without_retries(self) -> "Retrier":
        """One that never retries but fills and drains the same budget."""
        return Retrier(NO_RETRIES, self.budget, self._jitter)

    def delay(
        self, error: MnemoError, attempt: int, idempotent: bool, remaining: float
    ) -> Optional[float]:
        """Seconds to wait before the next try; None: give up.

        `attempt` is the number of the try that failed, from 1; `remaining` the
        seconds until the call's deadline.
        """
        if error.code is not Code.UNAVAILABLE:
            return None
        allowed = self.budget.failure()
        if not idempotent or attempt >= self.policy.attempts or not allowed:
            return None
        if error.retry_after is None:
            delay = self.policy.backoff(attempt, self._jitter())
        elif error.retry_after < 0:
            return None
        else:
            delay = error.retry_after
        return delay if delay < remaining else None
