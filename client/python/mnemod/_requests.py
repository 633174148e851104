"""Requests of a space, built the same way for both clients."""

from __future__ import annotations

from typing import Any, Iterable, List, Optional, Sequence, Tuple

from . import _convert
from ._buffers import Source
from ._contract import pb
from .blocks import Block, Part, ReadOrder
from .spaces import Durability

# Bounds of the contract.
MAX_GET_KEYS = 4096
MAX_GET_ITEMS = 16384
MAX_KEYS = 65536
MAX_DESCRIBE_KEYS = 4096
MAX_OFFERS = 4096
MAX_PUT_PARTS = 1024
MAX_PUT_BYTES = 1 << 30

Stretches = Optional[Sequence[bytes]]


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, rounded up so that a short time is not none at all."""
    return -int(-seconds * 1000 // 1)


class Requests:
    """Builds the requests of one space and salt."""

    def __init__(self, space_id: int, salt: bytes) -> None:
        self.space_id = space_id
        self.salt = salt

    def ref(self) -> Any:
        """The space."""
        return pb.SpaceRef(id=self.space_id)

    def match(
        self,
        keys: Sequence[bytes],
        *,
        lease: float,
        bitmap: bool,
        groups: Iterable[int],
        tp_ranks: Iterable[int],
        pp_ranks: Iterable[int],
        stretches: Stretches,
        peek: bool,
    ) -> Any:
        """For BlockService.Match."""
        return pb.MatchRequest(
            space=self.ref(),
            salt=self.salt,
            keys=keys,
            stretches=stretches or (),
            groups=groups,
            tp_ranks=tp_ranks,
            pp_ranks=pp_ranks,
            lease_ms=milliseconds(lease),
            want_bitmap=bitmap,
            peek=peek,
        )

    def get(
        self,
        parts: Sequence[Part],
        *,
        layers: Optional[Tuple[int, int]],
        order: ReadOrder,
        lease: int,
        stretches: Stretches,
    ) -> Any:
        """For BlockService.Get, without the keys."""
        first, count = layers or (0, 0)
        return pb.GetRequest(
            space=self.ref(),
            salt=self.salt,
            stretches=stretches or (),
            parts=[_convert.to_part(part) for part in parts],
            first_layer=first,
            layer_count=count,
            order=int(order),
            lease=lease,
        )

    def offer(self, blocks: Sequence[Block], reserve: float) -> Any:
        """For BlockService.Offer."""
        return pb.OfferRequest(
            space=self.ref(),
            salt=self.salt,
            parts=[_convert.to_offer(block, Source(block.data)) for block in blocks],
            reservation_ms=milliseconds(reserve),
        )

    def put_start(self, durability: Durability, time_to_live: int, reservation: int) -> Any:
        """For BlockService.Put, without the parts."""
        return pb.PutStart(
            space=self.ref(),
            salt=self.salt,
            reservation=reservation,
            durability=int(durability),
            time_to_live_seconds=time_to_live,
        )

    def prefetch(
        self, keys: Sequence[bytes], parts: Sequence[Part], cancel: int, stretches: Stretches
    ) -> Any:
        """For BlockService.Prefetch."""
        return pb.PrefetchRequest(
            space=self.ref(),
            salt=self.salt,
            keys=pb.KeyList(keys=keys, stretches=stretches or ()),
            parts=[_convert.to_part(part) for part in parts],
            cancel=cancel,
        )

    def keyed(self, method: str, keys: Sequence[bytes], stretches: Stretches) -> Any:
        """For BlockService.Touch, Pin, Unpin, Describe, and Delete of keys."""
        return getattr(pb, f"{method}Request")(
            space=self.ref(),
            salt=self.salt,
            keys=pb.KeyList(keys=keys, stretches=stretches or ()),
        )

    def list(
        self, salt: Optional[bytes], prefix: bytes, page_size: int, page_token: bytes
    ) -> Any:
        """For BlockService.List."""
        request = pb.ListBlocksRequest(
            space=self.ref(), key_prefix=prefix, page_size=page_size, page_token=page_token
        )
        if salt is not None:
            request.salt = salt
        return request


def split(count: int, limit: int) -> List[slice]:
    """Slices of at most `limit` that cover `count` items, at least one."""
    return [slice(start, start + limit) for start in range(0, max(count, 1), limit)]


def split_puts(blocks: Iterable[Block]) -> Iterable[Tuple[List[Block], List[Source]]]:
    """Groups blocks into as few calls of Put as the contract allows."""
    batch: List[Block] = []
    sources: List[Source] = []
    size = 0
    for block in blocks:
        source = Source(block.data)
        if batch and (len(batch) == MAX_PUT_PARTS or size + source.size > MAX_PUT_BYTES):
            yield batch, sources
            batch, sources, size = [], [], 0
        batch.append(block)
        sources.append(source)
        size += source.size
    if batch:
        yield batch, sources
