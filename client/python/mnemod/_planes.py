"""What both clients let their caller say and ask of planes."""

from __future__ import annotations

from typing import Any, Dict

from .blocks import Plane
from .memory import Memory


class SharesMemory:
    """A client whose daemon may reach memory of its process."""

    _transport: Any

    def register(self, memory: Memory) -> None:
        """Lets the daemon of this host read and write `memory` itself.

        From now on put and get whose buffers lie in it, and match, offer and touch,
        go by the fast lane, and by gRPC where that cannot be: results say which in
        `plane`. The memory is registered with the daemon when a call needs it first.
        Errors: ValueError (closed, or it overlaps memory that is registered).
        """
        self._transport.lane.state.memories.add(memory)

    def unregister(self, memory: Memory) -> None:
        """Uses `memory` no more; calls that run with it end as they would. Idempotent."""
        self._transport.lane.state.memories.remove(memory)

    def calls_by_plane(self) -> Dict[Plane, int]:
        """How often each plane was tried for the calls that have both."""
        calls: Dict[Plane, int] = self._transport.lane.state.calls()
        return calls
