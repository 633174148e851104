"""Blocks: what calls take and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from .errors import Code, MnemoError
from .spaces import Durability


class Level(IntEnum):
    """A physical place, nearest first."""

    UNSPECIFIED = 0
    L1 = 1
    L2 = 2
    L3 = 3
    DISK = 4


class Plane(Enum):
    """By which way blocks travel."""

    AUTO = "auto"
    """The fast lane for memory that is registered; otherwise, with payload, a stream of
    TCP if the daemon has them; otherwise gRPC."""
    INLINE = "inline"
    """In gRPC messages."""
    FAST = "fast"
    """The fast lane or an error: registered memory, and frames over a UNIX socket."""
    BULK = "bulk"
    """A stream of TCP or an error: the payload travels in it, from and into any memory."""


class Part(NamedTuple):
    """What one worker stores of a block."""

    group: int = 0
    tp_rank: int = 0
    pp_rank: int = 0


class Digest(NamedTuple):
    """128-bit XXH3 of a part's exact bytes."""

    high: int
    low: int


class Verdict(IntEnum):
    """What the server says to an offered part."""

    UNSPECIFIED = 0
    WANT = 1
    PRESENT = 2
    PENDING = 3
    REFUSED = 4


class PutOutcome(IntEnum):
    """How a part ended."""

    FAILED = 0
    STORED = 1
    ALREADY_PRESENT = 2
    CONFLICT = 3


class ReadOrder(IntEnum):
    """The order in which a read's bytes arrive."""

    UNSPECIFIED = 0
    BLOCK_MAJOR = 1
    LAYER_MAJOR = 2


class EventKind(IntEnum):
    """What happened to a block."""

    UNSPECIFIED = 0
    STORED = 1
    MOVED = 2
    REMOVED = 3
    CLEARED = 4
    SNAPSHOT_END = 5


@dataclass(frozen=True)
class Block:
    """One part of a block, to be stored.

    `data` is anything with the buffer protocol (bytes, memoryview, numpy), or
    a sequence of such, stored one behind the other. It must not change until
    the call returns. `digest` is that of `data`; computed if it is not given and
    xxhash is installed.
    """

    key: bytes
    data: Any
    part: Part = Part()
    depth: int = 0
    parent: bytes = b""
    stretch: bytes = b""
    digest: Optional[Digest] = None


def chain(
    keys: Sequence[bytes], payloads: Iterable[Any], *, part: Part = Part(), first: int = 0
) -> List[Block]:
    """Returns the blocks of one chain: each knows its depth and its parent.

    `keys` is the whole chain; `payloads` belong to those from `first` on.
    """
    return [
        Block(keys[i], data, part, depth=i, parent=keys[i - 1] if i else b"")
        for i, data in enumerate(payloads, first)
    ]


@dataclass(frozen=True)
class OfferVerdict:
    """The answer for one offered part."""

    verdict: Verdict
    reason: Optional[MnemoError] = None
    digest: Optional[Digest] = None


@dataclass(frozen=True)
class OfferResult:
    """The answers, in the order of the offers."""

    verdicts: Tuple[OfferVerdict, ...]
    reservation: int


@dataclass(frozen=True)
class PutResult:
    """How one part ended."""

    key: bytes
    part: Part
    outcome: PutOutcome
    digest: Optional[Digest] = None
    error: Optional[MnemoError] = None
    plane: Plane = Plane.INLINE
    """How its bytes went."""

    @property
    def ok(self) -> bool:
        """Whether exactly these bytes are stored now."""
        return self.outcome in (PutOutcome.STORED, PutOutcome.ALREADY_PRESENT)


@dataclass(frozen=True)
class MatchRun:
    """Neighbouring blocks at the same level."""

    first: int
    count: int
    level: Level


@dataclass(frozen=True)
class MatchResult:
    """The longest prefix that is here."""

    blocks: int = 0
    tokens: int = 0
    runs: Tuple[MatchRun, ...] = ()
    pending: Tuple[int, ...] = ()
    present: Optional[bytes] = None
    """On request: bit i % 8 of byte i / 8 for key i; `has(i)` reads it."""
    lease: int = 0
    lease_seconds: float = 0.0
    fetch_bytes: int = 0
    fetch_seconds: Optional[float] = None
    """How long reading all of it may take, from what this client measured by plane,
    level and size of a block. None while nothing was read from one of the levels."""
    group_blocks: Tuple[Tuple[int, int], ...] = ()
    """(group, blocks) of each counted group alone."""

    def should_fetch(self, prefill_tokens_per_second: float) -> bool:
        """Whether reading is quicker than computing the tokens at this rate.

        Yes while nothing was measured. Errors: ValueError (the rate is not above 0).
        """
        if not prefill_tokens_per_second > 0:
            raise ValueError(f"prefill_tokens_per_second is {prefill_tokens_per_second}; above 0")
        if self.blocks == 0 or self.fetch_seconds is None:
            return self.blocks > 0
        return self.fetch_seconds < self.tokens / prefill_tokens_per_second

    def has(self, index: int) -> bool:
        """Whether all counted parts of this key are here. Needs `bitmap=True`."""
        if self.present is None:
            raise ValueError("match without bitmap=True")
        byte = index // 8
        return byte < len(self.present) and bool(self.present[byte] >> (index % 8) & 1)


@dataclass(frozen=True)
class PartFidelity:
    """How a part is kept that lost something, as its space's floor allows."""

    codec: str
    """Name and bits of a code: "rotated4"."""
    bits_per_value: float
    """Bits that are stored for a value, everything counted."""
    error: float
    """|x' - x| / |x| over the part's values, as measured when it was encoded."""


@dataclass
class GetResult:
    """What came of one part, or why nothing did."""

    key: bytes
    part: Part
    error: Optional[MnemoError] = None
    size: int = 0
    """Exact bytes of the whole part."""
    digest: Optional[Digest] = None
    """Of the whole part as it was answered; None if it lost something and was
    not read as a whole."""
    fidelity: Optional[PartFidelity] = None
    """None if the bytes are as they were put."""
    bytes_received: int = 0
    """That came for it where it came encoded; otherwise 0."""
    level: Level = Level.UNSPECIFIED
    depth: int = 0
    data: Optional[memoryview] = None
    """The bytes read: of the whole part or of the layer range. None if it
    failed, or if the caller gave more than one buffer for it."""
    plane: Plane = Plane.INLINE
    """How they came."""

    @property
    def ok(self) -> bool:
        """Whether all the bytes asked for are there."""
        return self.error is None

    @property
    def missing(self) -> bool:
        """Whether it is a plain miss: not there, or damaged and now gone."""
        return self.error is not None and self.error.code in (Code.NOT_FOUND, Code.DATA_LOSS)


@dataclass(frozen=True)
class PartInfo:
    """What is known of a part."""

    key: bytes
    part: Part
    size: int
    stored_bytes: int
    digest: Digest
    level: Level
    on_disk: bool
    depth: int
    parent: bytes
    durability: Durability
    pinned: bool
    leased: bool
    pending: bool
    codec: str
    created_unix_us: int
    expires_unix_us: int
    uses: int


@dataclass(frozen=True)
class PrefetchResult:
    """What becomes of the parts of a prefetch."""

    prefetch: int
    """For `cancel` of a later one; 0 if nothing waits."""
    queued: int
    """That wait for their turn, in the background."""
    in_ram: int
    """That lie in RAM already."""
    absent: int
    """That are not here, or still being written."""
    dropped: int
    """That lie on disk and were not taken: too much waits."""


@dataclass(frozen=True)
class PinResult:
    """The answer to a pin."""

    parts_pinned: int
    missing: Tuple[int, ...]
    """Indexes of keys that are not here."""


@dataclass(frozen=True)
class BlockEvent:
    """One event of a watch. `sequence` is 0 within a snapshot."""

    sequence: int
    kind: EventKind
    key: bytes
    part: Part
    depth: int
    level: Level
    salt_digest: bytes
