"""mnemod: the client of mnemo, a memory service for LLM inference.

    with Client("127.0.0.1:7070") as client:
        space = client.open_space(Space.from_gguf("model.gguf", name="my-model"))
        keys = hash_chain(token_ids)
        match = space.match(keys, lease=10.0)
        results = space.get(keys[: match.blocks], lease=match.lease)
"""

from ._breaker import BreakerOptions, CircuitBreaker
from ._channel import Tls
from ._retry import RetryPolicy
from ._version import VERSION as __version__
from .aio import AsyncClient, AsyncSpaceHandle, AsyncWatch
from .aio_auth import AsyncAuth
from .aio_contexts import AsyncContextHandle
from .auth import NewToken, Principal, Role, Tenant, TokenInfo
from .auth_client import Auth
from .blocks import (
    Block,
    BlockEvent,
    Digest,
    EventKind,
    GetResult,
    Level,
    MatchResult,
    MatchRun,
    OfferResult,
    OfferVerdict,
    Part,
    PartFidelity,
    PartInfo,
    PinResult,
    Plane,
    PrefetchResult,
    PutOutcome,
    PutResult,
    ReadOrder,
    Verdict,
    chain,
)
from .client import Client, SpaceHandle, Watch
from .context_client import ContextHandle
from .contexts import (
    AppendResult,
    BlockLink,
    Context,
    ContextDescription,
    ContextInfo,
    ContextRun,
    LevelShare,
    Metric,
    Payload,
    RangeSummary,
    SearchHit,
    SearchResult,
    SearchWork,
    SummaryShare,
    TokenFilter,
    TokenKind,
    TokenRun,
    Tokens,
)
from .errors import (
    CancelledError,
    Code,
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    MnemoError,
    NotFoundError,
    OutOfRangeError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from .failopen import AsyncFailOpen, FailOpen, FailOpenStats
from .keys import hash_chain, short_key
from .memory import Memory, alloc
from .spaces import (
    DType,
    Durability,
    Fingerprint,
    Group,
    GroupKind,
    Layout,
    LevelBits,
    Rope,
    RopePairing,
    Scales,
    Space,
    SpaceInfo,
    SpaceUsage,
)

__all__ = [name for name in dir() if not name.startswith("_")]
