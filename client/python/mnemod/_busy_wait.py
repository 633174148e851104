"""Waiting without sleep, where what is waited for mostly comes at once.

As storage/base/busy_wait.h does for the C++ client: docs/decisions/0120, 0150.
"""

import os
import time
from typing import Callable, Optional

# How long it looks again before it sleeps.
LONGEST = 200e-6
# A look and an offer of the core that took longer was taken by somebody who has much to do.
TAKEN = 500e-6
# How long it sleeps at once then.
PAUSE = 0.2


def _cores() -> int:
    """That this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


# Lets other threads have the core, and those of this process the interpreter.
_yield: Callable[[], None] = getattr(os, "sched_yield", lambda: time.sleep(0))


class BusyWait:
    """Of one reader at a time. Seconds."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        offer: Callable[[], None] = _yield,
        cores: Optional[int] = None,
    ) -> None:
        """`clock` and `offer`: what tells the time, and lets other threads have the core.

        On one core it never looks: what is waited for could not come meanwhile.
        """
        self._clock = clock
        self._offer = offer
        self._began = self._not_before = clock()
        self._may = (_cores() if cores is None else cores) > 1
        self._short = False  # the last wait that slept

    def comes(self, look: Callable[[], bool], left: float = LONGEST) -> bool:
        """Calls `look` until it answers true; false if it has not, for as long as is worth it.

        Then the caller sleeps, and says when it has woken up. `left`: seconds that it has.
        """
        self._began = now = self._clock()
        if not self._may or not self._short or now < self._not_before:
            return False
        longest = min(LONGEST, left)
        while now - self._began < longest:
            if look():
                return True
            before = now
            self._offer()
            now = self._clock()
            if now - before > TAKEN:
                self._not_before = now + PAUSE
                return look()
        return False

    def woke(self) -> None:
        """What was waited for has come. Sleeping may have made it late: hence twice the time."""
        self._short = self._clock() - self._began < 2 * LONGEST
