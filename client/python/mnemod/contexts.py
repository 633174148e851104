"""Contexts: streams of token embeddings, as calls take and answer them.

Arrays are numpy's; numpy is needed only by those who use contexts
(`pip install mnemod[numpy]`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Mapping, Optional, Sequence, Tuple, Union

from .blocks import Level
from .spaces import DType, Durability


class Metric(IntEnum):
    """How near two embeddings are; a score is the larger the nearer."""

    UNSPECIFIED = 0
    COSINE = 1
    INNER_PRODUCT = 2
    L2 = 3
    """Minus the squared distance."""


class TokenKind(IntEnum):
    """Where a token came from."""

    UNSPECIFIED = 0
    SYSTEM = 1
    USER = 2
    ASSISTANT = 3
    TOOL = 4
    DOCUMENT = 5
    CODE = 6


@dataclass(frozen=True)
class Context:
    """What a context has to be. All of it is fixed once it is created."""

    name: str
    dimension: int
    """Values of an embedding, 1 to 4,096."""
    metric: Metric = Metric.COSINE
    stored_dtype: DType = DType.F16
    """How embeddings are kept: F16, INT8, or INT4 (rotated codes, off by about a tenth)."""
    kinds: Tuple[TokenKind, ...] = ()
    """Kinds that may be appended; all if empty."""
    labels: Mapping[str, str] = field(default_factory=dict)
    durability: Durability = Durability.SYNC
    """Of an append that names none: INTERVAL or SYNC."""


@dataclass(frozen=True)
class ContextInfo:
    """A context as it stands on the server."""

    id: int
    context: Context
    created_unix_us: int
    tokens: int
    """Acknowledged tokens, and so the next position."""
    sealed: bool


@dataclass(frozen=True)
class Payload:
    """Opaque bytes of a range of tokens: their text, say. At most 64 KiB."""

    first_position: int
    """In Tokens that are appended: counted from their first token."""
    count: int
    data: bytes


@dataclass(frozen=True)
class Tokens:
    """Neighbouring tokens to append, column by column.

    `embeddings` is an array [n, dimension] of float32, float16, or bfloat16
    (ml_dtypes'; or uint16 with `dtype` BF16). The other columns have n values
    or are left out; `kinds` may be one kind for all.
    """

    embeddings: Any
    ids: Optional[Any] = None
    """uint32"""
    kinds: Union[TokenKind, Any] = TokenKind.UNSPECIFIED
    """uint8"""
    importances: Optional[Any] = None
    """float32 in [0, 1]"""
    times_unix_us: Optional[Any] = None
    """int64; left out: when the server stores them."""
    payloads: Sequence[Payload] = ()
    """In order of position, each within these tokens."""
    dtype: Optional[DType] = None
    """Only where the array's own type does not say it."""


@dataclass(frozen=True)
class AppendResult:
    """What an append has stored, as durable as asked."""

    first_position: int
    next_position: int
    """All positions below are acknowledged."""
    repeated_batches: int
    """Batches that were there already: sent twice, and stored once."""


@dataclass(frozen=True)
class TokenRun:
    """Neighbouring tokens as read. Arrays are views of the message: read-only."""

    first_position: int
    ids: Any
    """uint32 [n]"""
    kinds: Any
    """uint8 [n]"""
    embeddings: Optional[Any]
    """[n, dimension]; None if they were left out."""
    importances: Optional[Any]
    """float32 [n]; None where no client gave any."""
    times_unix_us: Any
    """int64 [n]"""
    payloads: Tuple[Payload, ...]
    level: Level
    bits_per_value: int
    """Of the embeddings as stored."""

    @property
    def count(self) -> int:
        """How many tokens."""
        return len(self.ids)


@dataclass(frozen=True)
class RangeSummary:
    """What the tokens of a range have in common."""

    first_position: int
    count: int
    mean: Optional[Any]
    """float32 [dimension]; None if left out, as the next two."""
    minimum: Optional[Any]
    maximum: Optional[Any]
    mean_square_norm: float
    largest_importance: float
    medoid_position: Optional[int]
    """The most typical token, where a worker has consolidated the range."""
    top_ids: Tuple[int, ...]
    level: Level


@dataclass(frozen=True)
class TokenFilter:
    """Which tokens may be found; all conditions hold at once."""

    kinds: Tuple[TokenKind, ...] = ()
    """All if empty."""
    first_position: int = 0
    end_position: int = 0
    """Exclusive; 0 for no bound."""
    from_unix_us: Optional[int] = None
    until_unix_us: Optional[int] = None
    """Exclusive."""
    has_payload: Optional[bool] = None


@dataclass(frozen=True)
class SearchHit:
    """A token, or a summary's range, that was found."""

    context_id: int
    position: int
    """Of a summary: its medoid's, or its first token's."""
    first_position: int
    count: int
    score: float
    kind: TokenKind
    token_id: int
    time_unix_us: int
    level: Level
    indexed: bool
    """Whether a sealed segment found it, or the scan of what is not indexed yet."""
    payload: Optional[Payload]


@dataclass(frozen=True)
class SearchWork:
    """What a search did."""

    contexts: int
    segments: int
    distances: int
    reranked: int
    unindexed_tokens: int
    engine_us: int


@dataclass(frozen=True)
class SearchResult:
    """The hits of each query, best first."""

    hits: Tuple[Tuple[SearchHit, ...], ...]
    work: SearchWork


@dataclass(frozen=True)
class BlockLink:
    """Blocks that hold the attention state of a range.

    Block i covers tokens_per_block tokens from first_position + i * tokens_per_block.
    """

    first_position: int
    space: Union[str, int]
    keys: Tuple[bytes, ...]


@dataclass(frozen=True)
class ContextRun:
    """Neighbouring tokens that lie alike."""

    first_position: int
    count: int
    level: Level
    bits_per_value: int
    index: str
    """What finds them: "growing", "flat", "hnsw", "ivf"."""


@dataclass(frozen=True)
class LevelShare:
    """What a level holds of a context."""

    level: Level
    tokens: int
    bytes: int


@dataclass(frozen=True)
class SummaryShare:
    """Summaries of one size, in tokens, that a worker has written."""

    resolution: int
    count: int


@dataclass(frozen=True)
class ContextDescription:
    """What is known of a context."""

    info: ContextInfo
    writer_id: int
    payloads: int
    payload_bytes: int
    links: int
    levels: Tuple[LevelShare, ...]
    indexed_tokens: int
    segments: int
    index_bytes: int
    summaries: int
    summary_shares: Tuple[SummaryShare, ...]
    runs: Tuple[ContextRun, ...]
