"""The asyncio client: the calls of the blocking one as coroutines.

Written by scripts/generate_aio.py from block_keeping.py; change that one.
"""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

from . import _convert
from ._contract import pb
from ._requests import MAX_DESCRIBE_KEYS, MAX_KEYS, Requests, Stretches, split
from ._aio_transport import AsyncTransport
from .blocks import Part, PartInfo, PinResult, PrefetchResult


class AsyncKeepsBlocks:
    """The calls of a space that name keys, and carry no bytes of blocks."""

    _transport: AsyncTransport
    _requests: Requests
    salt: bytes

    # Keeping and deleting

    async def _keyed(
        self, name: str, keys: Sequence[bytes], stretches: Stretches, deadline: Optional[float],
        limit: int = MAX_KEYS,
    ) -> List[Tuple[int, Any]]:
        time_limit = self._transport.limit(deadline)
        answers = []
        for piece in split(len(keys), limit):
            request = self._requests.keyed(
                name, keys[piece], stretches[piece] if stretches else None
            )
            answer = await self._transport.call(f"BlockService.{name}", request, time_limit.left())
            answers.append((piece.start, answer))
        return answers

    async def delete(
        self, keys: Sequence[bytes], *, stretches: Stretches = None,
        deadline: Optional[float] = None,
    ) -> int:
        """Deletes blocks with all their parts; returns how many parts. Idempotent."""
        answers = await self._keyed("Delete", keys, stretches, deadline)
        return sum(int(answer.parts_deleted) for _, answer in answers)

    async def delete_all(self, *, every_salt: bool = False, deadline: Optional[float] = None) -> int:
        """Deletes all blocks of this salt, or of the whole space."""
        request = pb.DeleteRequest(space=self._requests.ref())
        if every_salt:
            request.all_of_space = True
        else:
            request.salt = self.salt
            request.all_of_salt = True
        answer = await self._transport.call("BlockService.Delete", request, deadline)
        return int(answer.parts_deleted)

    async def touch(
        self, keys: Sequence[bytes], *, stretches: Stretches = None,
        deadline: Optional[float] = None,
    ) -> int:
        """Counts as a use; returns how many keys are here."""
        answers = await self._keyed("Touch", keys, stretches, deadline)
        return sum(int(answer.found) for _, answer in answers)

    async def prefetch(
        self, keys: Sequence[bytes] = (), *, parts: Sequence[Part] = (), cancel: int = 0,
        stretches: Stretches = None, deadline: Optional[float] = None,
    ) -> PrefetchResult:
        """Brings parts (all that the space has by default) of at most 65,536 keys into RAM
        ahead of use, in the background and where there is room. What still waits of the
        earlier prefetch `cancel` is given up first; then there may be no keys.
        """
        request = self._requests.prefetch(keys, parts, cancel, stretches)
        answer = await self._transport.call("BlockService.Prefetch", request, deadline)
        return _convert.from_prefetch(answer)

    async def pin(
        self, keys: Sequence[bytes], *, stretches: Stretches = None,
        deadline: Optional[float] = None,
    ) -> PinResult:
        """Keeps blocks until unpin, on stable storage. Errors: ResourceExhaustedError."""
        answers = await self._keyed("Pin", keys, stretches, deadline)
        missing = tuple(start + index for start, answer in answers for index in answer.missing)
        return PinResult(sum(int(answer.parts_pinned) for _, answer in answers), missing)

    async def unpin(
        self, keys: Sequence[bytes], *, stretches: Stretches = None,
        deadline: Optional[float] = None,
    ) -> int:
        """Ends pins; returns how many parts. Idempotent."""
        answers = await self._keyed("Unpin", keys, stretches, deadline)
        return sum(int(answer.parts_unpinned) for _, answer in answers)

    # Looking

    async def describe(
        self, keys: Sequence[bytes], *, stretches: Stretches = None,
        deadline: Optional[float] = None,
    ) -> List[PartInfo]:
        """What is known of the parts of these keys; no use is counted."""
        answers = await self._keyed("Describe", keys, stretches, deadline, MAX_DESCRIBE_KEYS)
        return [_convert.from_part_info(part) for _, answer in answers for part in answer.parts]
