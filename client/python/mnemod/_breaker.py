"""When to leave a server alone for a while."""

from __future__ import annotations

from dataclasses import dataclass
import threading
import time
from typing import Callable


@dataclass(frozen=True)
class BreakerOptions:
    """When to leave a server alone, and for how long."""

    failures: int = 3
    """So many failed calls in a row open the breaker; at least 1."""
    initial_pause: float = 0.5
    """Seconds until the first probe; doubles with each that fails."""
    max_pause: float = 15.0

    def __post_init__(self) -> None:
        if self.failures < 1:
            raise ValueError(f"failures is {self.failures}; at least 1")
        if not 0 < self.initial_pause <= self.max_pause:
            raise ValueError("pause: 0 < initial_pause <= max_pause")


class CircuitBreaker:
    """Decides whether a call may go out. Thread-safe.

    Closed: all may. After `failures` in a row it opens: none may. When the
    pause is over, one may (the probe): if it succeeds the breaker closes,
    otherwise the pause doubles.
    """

    def __init__(
        self,
        options: BreakerOptions = BreakerOptions(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0  # guarded by _lock, as all below
        self._pause = 0.0
        self._open_until = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether calls are held back, but for a probe."""
        with self._lock:
            return self._pause > 0

    def allow(self) -> bool:
        """Whether a call may go out; it must be followed by success, failure or nothing."""
        with self._lock:
            if self._pause == 0:
                return True
            if self._probing or self._clock() < self._open_until:
                return False
            self._probing = True
            return True

    def success(self) -> bool:
        """The server answered; returns whether this closed the breaker."""
        with self._lock:
            was_open = self._pause > 0
            self._failures = 0
            self._pause = 0.0
            self._probing = False
            return was_open

    def nothing(self) -> None:
        """The call told nothing of the server; a probe is still due."""
        with self._lock:
            self._probing = False

    def failure(self, least: float = 0.0) -> bool:
        """The server did not answer; returns whether this opened the breaker.

        If it is open, no probe comes before `least` seconds.
        """
        with self._lock:
            self._failures += 1
            if self._pause == 0:
                if self._failures < self._options.failures:
                    return False
                self._pause = self._options.initial_pause
            elif self._probing:
                self._pause = min(self._pause * 2, self._options.max_pause)
            else:
                # A call from before it opened; the pause is decided already.
                return False
            opened = not self._probing
            self._probing = False
            self._open_until = self._clock() + max(self._pause, least)
            return opened
