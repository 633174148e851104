"""The blocking client."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from . import _context_convert, _convert, admin
from ._buffers import Source
from ._channel import Metadata, Tls, make_channel, with_token
from ._contract import pb
from ._planes import SharesMemory
from ._requests import (
    MAX_GET_ITEMS,
    MAX_GET_KEYS,
    Requests,
    Stretches,
    milliseconds,
    split,
    split_puts,
)
from ._retry import Retrier, RetryBudget, RetryPolicy
from ._sessions import GetSession, PutSession
from ._socket import Reach
from ._transport import Transport, WatchStream
from .auth_client import Auth
from .block_keeping import KeepsBlocks
from .blocks import (
    Block,
    BlockEvent,
    GetResult,
    MatchResult,
    OfferResult,
    Part,
    PartInfo,
    Plane,
    PutResult,
    ReadOrder,
)
from .context_client import EVERYTHING, ContextHandle
from .contexts import Context, ContextInfo, SearchResult, TokenFilter
from .spaces import Durability, LevelBits, Space, SpaceInfo, SpaceUsage

DEFAULT_TARGET = "127.0.0.1:7070"
DEFAULT_DEADLINE = 30.0
WHOLE_BLOCK = (Part(),)


class Client(SharesMemory):
    """A connection to one daemon. Thread-safe; connects with the first call.

    `deadline` is how many seconds a call may take in all, retries included,
    unless the call names its own. `token` shows who calls, and `tls` makes the
    connection private; `credentials` are gRPC channel credentials instead of it.
    Without either it is plain. `plane` tells by which way blocks travel. Every call
    raises MnemoError.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        deadline: float = DEFAULT_DEADLINE,
        retry: RetryPolicy = RetryPolicy(),
        token: Optional[str] = None,
        tls: Optional[Tls] = None,
        credentials: Optional[Any] = None,
        metadata: Metadata = (),
        options: Sequence[Tuple[str, Any]] = (),
        plane: Plane = Plane.AUTO,
    ) -> None:
        metadata = with_token(metadata, token)
        self._channel = make_channel(target, credentials, tls, options, aio=False)
        self._transport = Transport(
            self._channel, Retrier(retry, RetryBudget()), deadline, metadata, lane=plane,
            reach=Reach(target, tls, credentials is not None),
        )
        self.auth = Auth(self._transport)
        """Tenants, principals and tokens."""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and its registrations; calls that run are cancelled."""
        self._transport.lane.close()
        self._channel.close()

    def open_space(
        self,
        space: Space,
        *,
        salt: bytes = b"",
        must_exist: bool = False,
        deadline: Optional[float] = None,
    ) -> "SpaceHandle":
        """Gets the space of this name, or creates it.

        Errors: FailedPreconditionError (it is there and differs),
        NotFoundError (`must_exist`, and it is not there).
        """
        request = pb.OpenSpaceRequest(space=_convert.to_space(space), must_exist=must_exist)
        answer = self._transport.call("SpaceService.Open", request, deadline)
        info = _convert.from_space(answer.space)
        return SpaceHandle(self._transport, info, salt, created=answer.created)

    def get_space(
        self, name: Union[str, int], *, salt: bytes = b"", deadline: Optional[float] = None
    ) -> "SpaceHandle":
        """Finds a space by name or id, whatever its geometry. Errors: NotFoundError."""
        info, _ = self.space_info(name, deadline=deadline)
        return SpaceHandle(self._transport, info, salt)

    def space_info(
        self, name: Union[str, int], *, deadline: Optional[float] = None
    ) -> Tuple[SpaceInfo, SpaceUsage]:
        """A space and what it holds. Errors: NotFoundError."""
        request = pb.GetSpaceRequest(space=_space_ref(name))
        answer = self._transport.call("SpaceService.Get", request, deadline)
        return _convert.from_space(answer.space), _convert.from_usage(answer.usage)

    def list_spaces(
        self, *, page_size: int = 0, deadline: Optional[float] = None
    ) -> Iterator[Tuple[SpaceInfo, SpaceUsage]]:
        """All spaces of the tenant by name, page by page."""
        token = ""
        while True:
            request = pb.ListSpacesRequest(page_size=page_size, page_token=token)
            answer = self._transport.call("SpaceService.List", request, deadline)
            for item in answer.spaces:
                yield _convert.from_space(item.space), _convert.from_usage(item.usage)
            token = answer.next_page_token
            if not token:
                return

    def update_space(
        self,
        name: Union[str, int],
        *,
        durability: Durability,
        time_to_live: int = 0,
        floor_bits: Optional[int] = None,
        level_bits: Optional[LevelBits] = None,
        deadline: Optional[float] = None,
    ) -> SpaceInfo:
        """Replaces the policy of a space, for later writes; but floor and levels stay
        without `floor_bits` and `level_bits`, and a raised floor (0: exact) holds at once:
        what is kept in fewer bits goes. Errors: NotFoundError.
        """
        policy = _convert.to_policy(durability, time_to_live, floor_bits, level_bits)
        request = pb.UpdateSpaceRequest(space=_space_ref(name), policy=policy)
        answer = self._transport.call("SpaceService.Update", request, deadline)
        return _convert.from_space(answer.space)

    def delete_space(self, name: Union[str, int], *, deadline: Optional[float] = None) -> int:
        """Deletes a space and its blocks; returns how many parts. Idempotent."""
        request = pb.DeleteSpaceRequest(space=_space_ref(name))
        answer = self._transport.call("SpaceService.Delete", request, deadline)
        return int(answer.parts_deleted)

    def create_context(
        self, context: Context, *, deadline: Optional[float] = None
    ) -> ContextHandle:
        """Gets the context of this name, or creates it.

        Errors: FailedPreconditionError (it is there and differs).
        """
        request = pb.CreateContextRequest(context=_context_convert.to_context(context))
        answer = self._transport.call("ContextService.Create", request, deadline)
        info = _context_convert.from_context(answer.context)
        return ContextHandle(self._transport, info, answer.created)

    def get_context(
        self, name: Union[str, int], *, deadline: Optional[float] = None
    ) -> ContextHandle:
        """Finds a context by name or id. Errors: NotFoundError."""
        request = pb.DescribeContextRequest(context=_context_convert.to_ref(name), max_runs=1)
        answer = self._transport.call("ContextService.Describe", request, deadline)
        return ContextHandle(self._transport, _context_convert.from_context(answer.context))

    def list_contexts(
        self,
        labels: Mapping[str, str] = {},
        *,
        page_size: int = 0,
        deadline: Optional[float] = None,
    ) -> Iterator[ContextInfo]:
        """The contexts that carry all of these labels, by name, page by page."""
        token = ""
        while True:
            request = pb.ListContextsRequest(
                labels=_context_convert.to_labels(labels), page_size=page_size, page_token=token
            )
            answer = self._transport.call("ContextService.List", request, deadline)
            for context in answer.contexts:
                yield _context_convert.from_context(context)
            token = answer.next_page_token
            if not token:
                return

    def search_contexts(
        self,
        queries: Any,
        k: int = 10,
        *,
        contexts: Iterable[Union[str, int]] = (),
        labels: Mapping[str, str] = {},
        where: TokenFilter = EVERYTHING,
        resolution: int = 1,
        target_recall: float = 0.0,
        payloads: bool = False,
        deadline: Optional[float] = None,
    ) -> SearchResult:
        """As ContextHandle.search, over the contexts named, or over all with these labels."""
        request = _context_convert.to_search(
            queries,
            contexts=contexts,
            labels=labels,
            k=k,
            where=where,
            resolution=resolution,
            ef_search=0,
            nprobe=0,
            target_recall=target_recall,
            payloads=payloads,
        )
        answer = self._transport.call("ContextService.Search", request, deadline)
        return _context_convert.from_search(answer)

    def flush(self, *, deadline: Optional[float] = None) -> int:
        """Writes out everything of the tenant; returns how many CACHE parts."""
        answer = self._transport.call("BlockService.Flush", pb.FlushRequest(), deadline)
        return int(answer.parts_written)

    def node_status(self, *, deadline: Optional[float] = None) -> admin.NodeStatus:
        """What the node is and how it does."""
        request = pb.GetNodeStatusRequest()
        answer = self._transport.call("AdminService.GetNodeStatus", request, deadline)
        return admin.from_node_status(answer)

    def levels(self, *, deadline: Optional[float] = None) -> Tuple[admin.LevelInfo, ...]:
        """The levels, nearest first."""
        answer = self._transport.call("AdminService.ListLevels", pb.ListLevelsRequest(), deadline)
        return admin.from_levels(answer)

    def tiers(self, *, deadline: Optional[float] = None) -> Tuple[admin.TierInfo, ...]:
        """The table of tiers."""
        answer = self._transport.call("AdminService.ListTiers", pb.ListTiersRequest(), deadline)
        return admin.from_tiers(answer)

    def config(self, *, deadline: Optional[float] = None) -> Tuple[admin.ConfigEntry, ...]:
        """The configuration in force."""
        answer = self._transport.call("AdminService.GetConfig", pb.GetConfigRequest(), deadline)
        return admin.from_config(answer)


def _space_ref(name: Union[str, int]) -> Any:
    return pb.SpaceRef(id=name) if isinstance(name, int) else pb.SpaceRef(name=name)


class SpaceHandle(KeepsBlocks):
    """One space, under one salt. Thread-safe.

    Keys are 1 to 64 bytes. Lists longer than one call may carry are split into
    several calls, but for match. Times are seconds; a deadline holds for a
    method with all its calls, in an iterator for each page. `stretches` belong to
    spaces with chain affinity: one for each key.
    """

    def __init__(
        self, transport: Transport, info: SpaceInfo, salt: bytes, created: bool = False
    ) -> None:
        self._transport = transport
        self._requests = Requests(info.id, salt)
        self.info = info
        self.salt = salt
        self.created = created
        """Whether opening made the space."""

    @property
    def space(self) -> Space:
        """The space's geometry and policy, as it was when the handle was made."""
        return self.info.space

    def with_salt(self, salt: bytes) -> "SpaceHandle":
        """The same space under another salt."""
        return SpaceHandle(self._transport, self.info, salt)

    def without_retries(self, *, wait_for_ready: bool = False) -> "SpaceHandle":
        """The same space; every call is tried once.

        With `wait_for_ready` a call waits for a connection until its deadline,
        instead of failing when there is none.
        """
        return SpaceHandle(
            self._transport.without_retries(wait_for_ready), self.info, self.salt
        )

    # Writing

    def offer(
        self, blocks: Sequence[Block], *, reserve: float = 0.0, deadline: Optional[float] = None
    ) -> OfferResult:
        """Asks which parts are wanted, before bytes move.

        Wanted parts are reserved for `reserve` seconds (0: the server's 5);
        give the reservation to `put`. At most 4,096 parts.
        """
        request = self._requests.offer(blocks, reserve)
        # Not repeated: a second offer would find its own reservation pending.
        answer = self._transport.call("BlockService.Offer", request, deadline, idempotent=False)
        verdicts = tuple(_convert.from_verdict(verdict) for verdict in answer.verdicts)
        return OfferResult(verdicts, answer.reservation)

    def put(
        self,
        blocks: Sequence[Block],
        *,
        durability: Durability = Durability.UNSPECIFIED,
        time_to_live: int = 0,
        reservation: int = 0,
        deadline: Optional[float] = None,
    ) -> List[PutResult]:
        """Stores parts: at most 1,024, and 1 GiB in all. One result for each.

        Raises only if the call failed before any part ended; otherwise parts
        that did not end carry the error.
        """
        sources = [Source(block.data) for block in blocks]
        start = self._requests.put_start(durability, time_to_live, reservation)
        return self._transport.put(PutSession(start, blocks, sources), deadline)

    def put_many(
        self,
        blocks: Iterable[Block],
        *,
        durability: Durability = Durability.UNSPECIFIED,
        time_to_live: int = 0,
        deadline: Optional[float] = None,
    ) -> List[PutResult]:
        """Stores any number of parts in as few calls as possible, one at a time.

        Raises only if the first call failed before any part ended.
        """
        limit = self._transport.limit(deadline)
        results: List[PutResult] = []
        for batch, sources in split_puts(blocks):
            start = self._requests.put_start(durability, time_to_live, 0)
            session = PutSession(start, batch, sources, raises=not results)
            results += self._transport.put(session, limit.left())
        return results

    # Reading

    def match(
        self,
        keys: Sequence[bytes],
        *,
        lease: float = 0.0,
        bitmap: bool = False,
        groups: Iterable[int] = (),
        tp_ranks: Iterable[int] = (),
        pp_ranks: Iterable[int] = (),
        stretches: Stretches = None,
        peek: bool = False,
        deadline: Optional[float] = None,
    ) -> MatchResult:
        """Finds the longest prefix of a chain that is here; 1 to 65,536 keys.

        `lease` keeps all that matched for so long, at most 60 seconds. `groups`
        and ranks say which parts count; all that are not optional if empty.
        """
        request = self._requests.match(
            keys,
            lease=lease,
            bitmap=bitmap,
            groups=groups,
            tp_ranks=tp_ranks,
            pp_ranks=pp_ranks,
            stretches=stretches,
            peek=peek,
        )
        answer = self._transport.call("BlockService.Match", request, deadline)
        return _convert.from_match(answer, bitmap, self._transport.meter)

    def get(
        self,
        keys: Sequence[bytes],
        *,
        parts: Sequence[Tuple[int, int, int]] = WHOLE_BLOCK,
        layers: Optional[Tuple[int, int]] = None,
        order: ReadOrder = ReadOrder.UNSPECIFIED,
        into: Optional[Sequence[Any]] = None,
        lease: int = 0,
        verify: bool = True,
        decode_at_client: bool = False,
        stretches: Stretches = None,
        deadline: Optional[float] = None,
    ) -> List[GetResult]:
        """Reads `parts` of every key; results key by key, then part by part.

        A part that is missing fails alone. `layers` is (first, count); count 0 means
        all from first on. `into` gives each result its memory: a writable buffer, or
        a sequence of buffers that are filled in order, at least as long as what is
        read. A layer range lies packed in its buffer in order of offset, unless the
        buffer is as long as the whole part: then each byte goes to its own place.
        `lease` is released when the read ends. `verify` compares parts that are read
        whole with their digest, if xxhash is installed. `decode_at_client` takes parts
        in the few bits in which they lie, and decodes them here with numpy (ImportError
        without it). Raises only if the call failed before any part ended.
        """
        wanted = [Part(*part) for part in parts]
        width = max(len(wanted), 1)
        if into is not None and len(into) != len(keys) * len(wanted):
            raise ValueError(f"into: {len(into)} buffers, {len(keys)} keys of {len(wanted)} parts")
        pieces = split(len(keys), max(min(MAX_GET_KEYS, MAX_GET_ITEMS // width), 1))
        limit = self._transport.limit(deadline)
        results: List[GetResult] = []
        for piece in pieces:
            request = self._requests.get(
                wanted, layers=layers, order=order,
                lease=lease if piece is pieces[-1] else 0,
                stretches=stretches[piece] if stretches else None,
            )
            memory = into[piece.start * width : piece.stop * width] if into is not None else None
            session = GetSession(
                request, self.info, keys[piece], wanted, memory, verify, self._transport.meter,
                raises=not results,
                calibrations=self._transport.calibrations if decode_at_client else None,
            )
            results += self._transport.get(session, limit.left())
        return results

    def renew(self, lease: int, seconds: float, *, deadline: Optional[float] = None) -> float:
        """Prolongs a lease from now; returns how long it holds. Errors: NotFoundError."""
        request = pb.RenewRequest(lease=lease, lease_ms=milliseconds(seconds))
        answer = self._transport.call("BlockService.Renew", request, deadline)
        return float(answer.lease_ms) / 1000

    def release(self, lease: int, *, deadline: Optional[float] = None) -> None:
        """Ends a lease. Errors: NotFoundError (it ended before)."""
        self.renew(lease, 0.0, deadline=deadline)

    # Looking

    def list(
        self,
        *,
        prefix: bytes = b"",
        every_salt: bool = False,
        page_size: int = 0,
        deadline: Optional[float] = None,
    ) -> Iterator[PartInfo]:
        """Parts of this salt, or of all, in the order of stored keys, page by page."""
        salt = None if every_salt else self.salt
        token = b""
        while True:
            request = self._requests.list(salt, prefix, page_size, token)
            answer = self._transport.call("BlockService.List", request, deadline)
            for part in answer.parts:
                yield _convert.from_part_info(part)
            token = answer.next_page_token
            if not token:
                return

    def usage(self, *, deadline: Optional[float] = None) -> SpaceUsage:
        """What the space holds now."""
        request = pb.GetSpaceRequest(space=self._requests.ref())
        answer = self._transport.call("SpaceService.Get", request, deadline)
        return _convert.from_usage(answer.usage)

    def flush(self, *, deadline: Optional[float] = None) -> int:
        """Returns when all that was acknowledged is on stable storage."""
        request = pb.FlushRequest(space=self._requests.ref())
        answer = self._transport.call("BlockService.Flush", request, deadline)
        return int(answer.parts_written)

    def explain(
        self, key: bytes, *, stretch: bytes = b"", deadline: Optional[float] = None
    ) -> Tuple[admin.Placement, ...]:
        """Where each part of a block lies and why. Errors: NotFoundError."""
        request = pb.ExplainPlacementRequest(
            space=self._requests.ref(), salt=self.salt, key=key, stretch=stretch
        )
        answer = self._transport.call("AdminService.ExplainPlacement", request, deadline)
        return admin.from_placements(answer)

    def watch(self, *, from_sequence: int = 0, deadline: Optional[float] = None) -> "Watch":
        """What happens to the blocks: a snapshot first, then changes.

        Runs until it is closed, or for `deadline` seconds. Errors while
        iterating: OutOfRangeError (`from_sequence` is gone),
        ResourceExhaustedError (the reader is too slow).
        """
        request = pb.WatchRequest(space=self._requests.ref(), from_sequence=from_sequence)
        return Watch(self._transport.watch(request, deadline))


class Watch:
    """An iterator over events; close it, or use it as a context manager."""

    def __init__(self, stream: WatchStream) -> None:
        self._stream = stream
        self._events = self._read()

    def _read(self) -> Iterator[BlockEvent]:
        for response in self._stream:
            for event in response.events:
                yield _convert.from_event(event)

    def __iter__(self) -> Iterator[BlockEvent]:
        return self._events

    def __next__(self) -> BlockEvent:
        return next(self._events)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the watch, from whatever thread."""
        self._stream.close()
