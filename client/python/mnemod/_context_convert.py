"""Between the values of contexts.py and the messages of the contract."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, Mapping, Optional, Tuple, Union

from . import contexts
from ._context_wire import StoredParts, encode_batch
from ._contract import pb
from ._wire import as_bytes_view
from .blocks import Level
from .contexts import ContextInfo, Payload, RangeSummary, TokenFilter, TokenKind, Tokens
from .spaces import DType, Durability

# Bounds of the contract.
MAX_BATCH_TOKENS = 8192
MAX_BATCH_PAYLOAD_BYTES = 1 << 20
MAX_BATCH_EMBEDDING_BYTES = 4 << 20
# Embeddings of an ordinary message.
BATCH_EMBEDDING_BYTES = 1 << 20

_WIDTH = {DType.F32: 4, DType.F16: 2, DType.BF16: 2}


def numpy() -> Any:
    """The module. Errors: ImportError, saying how to get it."""
    try:
        import numpy as module
    except ImportError:
        raise ImportError("contexts need numpy: pip install mnemod[numpy]") from None
    return module


def to_ref(context: Union[str, int]) -> Any:
    """A context by id or by name."""
    if isinstance(context, int):
        return pb.ContextRef(id=context)
    return pb.ContextRef(name=context)


def to_space_ref(space: Union[str, int]) -> Any:
    """A space by id or by name."""
    return pb.SpaceRef(id=space) if isinstance(space, int) else pb.SpaceRef(name=space)


def to_labels(labels: Mapping[str, str]) -> Iterable[Any]:
    """Labels, by key."""
    return [pb.Label(key=key, value=value) for key, value in sorted(labels.items())]


def to_context(context: contexts.Context) -> Any:
    """The context, as Create takes it."""
    return pb.Context(
        name=context.name,
        dimension=context.dimension,
        stored_dtype=int(context.stored_dtype),
        metric=int(context.metric),
        kinds=[int(kind) for kind in context.kinds],
        labels=to_labels(context.labels),
        durability=int(context.durability),
    )


def from_context(message: Any) -> ContextInfo:
    """A context as it stands."""
    context = contexts.Context(
        name=message.name,
        dimension=message.dimension,
        metric=contexts.Metric(message.metric),
        stored_dtype=DType(message.stored_dtype),
        kinds=tuple(TokenKind(kind) for kind in message.kinds),
        labels={label.key: label.value for label in message.labels},
        durability=Durability(message.durability),
    )
    return ContextInfo(
        message.id, context, message.created_unix_us, message.tokens, message.sealed
    )


class Columns:
    """Tokens to append, checked, and cut into messages.

    Errors: ValueError (a column has another length, a payload lies outside),
    TypeError (a type that embeddings cannot have).
    """

    def __init__(self, tokens: Tokens, dimension: int) -> None:
        np = numpy()
        embeddings = np.ascontiguousarray(tokens.embeddings)
        if embeddings.ndim != 2 or embeddings.shape[1] != dimension:
            raise ValueError(f"embeddings: shape {embeddings.shape}, not (n, {dimension})")
        self.count: int = embeddings.shape[0]
        self._dtype = _dtype_of(embeddings) if tokens.dtype is None else tokens.dtype
        if embeddings.dtype.itemsize != _WIDTH.get(self._dtype):
            raise TypeError(f"embeddings: {embeddings.dtype} cannot be sent as {self._dtype!r}")
        self._row = dimension * embeddings.dtype.itemsize
        # Tokens of a message that a payload makes longer than others.
        self._largest = min(MAX_BATCH_TOKENS, MAX_BATCH_EMBEDDING_BYTES // self._row)
        self._embeddings = as_bytes_view(embeddings.view(np.uint8)) if self.count else b""
        self._kind = tokens.kinds if isinstance(tokens.kinds, TokenKind) else None
        self._columns: Dict[str, Any] = {
            "ids": self._column(tokens.ids, "ids", "<u4"),
            "kinds": None if self._kind is not None else self._column(tokens.kinds, "kinds", "u1"),
            "importances": self._column(tokens.importances, "importances", "<f4"),
            "times_unix_us": self._column(tokens.times_unix_us, "times_unix_us", "<i8"),
        }
        self._payloads = list(tokens.payloads)
        for payload in self._payloads:
            first, end = payload.first_position, payload.first_position + payload.count
            if not 0 <= first < end <= self.count:
                raise ValueError(f"payloads: {first} to {end} is not within {self.count} tokens")

    def _column(self, values: Optional[Any], name: str, dtype: str) -> Optional[Any]:
        if values is None:
            return None
        column = numpy().ascontiguousarray(values, dtype=dtype)
        if column.shape != (self.count,):
            raise ValueError(f"{name}: shape {column.shape}, not ({self.count},)")
        return column

    def messages(self, first_position: int) -> Iterator[Tuple[int, bytes]]:
        """How many tokens each message has, and the serialised AppendRequest."""
        step = max(min(MAX_BATCH_TOKENS, BATCH_EMBEDDING_BYTES // self._row), 1)
        begin = 0
        at = 0
        while begin < self.count:
            end = min(begin + step, self.count)
            end, last = self._fit_payloads(begin, end, at)
            batch = pb.TokenBatch(
                first_position=first_position + begin,
                count=end - begin,
                kind=int(self._kind or 0),
                embedding_dtype=int(self._dtype),
            )
            for name, column in self._columns.items():
                if column is not None:
                    setattr(batch, name, column[begin:end].tobytes())
            for payload in self._payloads[at:last]:
                batch.payloads.add(
                    first_position=first_position + payload.first_position,
                    count=payload.count,
                    data=payload.data,
                )
            rows = memoryview(self._embeddings)[begin * self._row : end * self._row]
            yield end - begin, encode_batch(batch.SerializeToString(), rows)
            begin, at = end, last

    def _fit_payloads(self, begin: int, end: int, at: int) -> Tuple[int, int]:
        """Where a message that begins at `begin` ends, so that no payload is cut,
        and up to which payload it carries."""
        size = 0
        last = at
        while last < len(self._payloads) and self._payloads[last].first_position < end:
            payload = self._payloads[last]
            size += len(payload.data)
            stop = payload.first_position + payload.count
            if stop > end or (size > MAX_BATCH_PAYLOAD_BYTES and last > at):
                if payload.first_position > begin:
                    return payload.first_position, last
                if payload.count > self._largest:
                    raise ValueError(f"payloads: one of {payload.count} tokens; {self._largest} fit")
                end = stop
            last += 1
        return end, last


def _dtype_of(array: Any) -> DType:
    names = {"float32": DType.F32, "float16": DType.F16, "bfloat16": DType.BF16}
    return names.get(array.dtype.name, DType.UNSPECIFIED)


def from_stored(parts: StoredParts, dimension: int, dtype: DType) -> contexts.TokenRun:
    """Tokens as read. Errors: ValueError (a column has not one value a token)."""
    np = numpy()
    stored = pb.StoredTokens.FromString(parts.stored)
    batch = pb.TokenBatch.FromString(parts.batch)
    count = batch.count

    def column(data: Any, kind: str, otherwise: Any) -> Any:
        return np.frombuffer(data, kind) if len(data) else otherwise

    embeddings = None
    if parts.embeddings:
        kind = "<f2" if dtype is DType.F16 else "<f4"
        embeddings = np.frombuffer(parts.embeddings, kind).reshape(count, dimension)
    run = contexts.TokenRun(
        first_position=batch.first_position,
        ids=column(batch.ids, "<u4", np.zeros(count, np.uint32)),
        kinds=column(batch.kinds, "u1", np.full(count, batch.kind, np.uint8)),
        embeddings=embeddings,
        importances=column(batch.importances, "<f4", None),
        times_unix_us=column(batch.times_unix_us, "<i8", np.zeros(count, np.int64)),
        payloads=tuple(from_payload(payload) for payload in batch.payloads),
        level=Level(stored.level),
        bits_per_value=stored.bits_per_value,
    )
    for values in (run.ids, run.kinds, run.importances, run.times_unix_us):
        if values is not None and len(values) != count:
            raise ValueError(f"a column of {len(values)} values for {count} tokens")
    return run


def from_payload(message: Any) -> Payload:
    """A payload, at its position in the context."""
    return Payload(message.first_position, message.count, message.data)


def from_summary(message: Any) -> RangeSummary:
    """The summary of a range."""

    def vector(data: bytes) -> Optional[Any]:
        return numpy().frombuffer(data, "<f4") if data else None

    return RangeSummary(
        first_position=message.first_position,
        count=message.count,
        mean=vector(message.mean),
        minimum=vector(message.minimum),
        maximum=vector(message.maximum),
        mean_square_norm=message.mean_square_norm,
        largest_importance=message.largest_importance,
        medoid_position=message.medoid_position if message.HasField("medoid_position") else None,
        top_ids=tuple(message.top_ids),
        level=Level(message.level),
    )


def to_filter(wanted: TokenFilter) -> Any:
    """Which tokens may be found."""
    return pb.TokenFilter(
        kinds=[int(kind) for kind in wanted.kinds],
        first_position=wanted.first_position,
        end_position=wanted.end_position,
        from_unix_us=wanted.from_unix_us,
        until_unix_us=wanted.until_unix_us,
        has_payload=wanted.has_payload,
    )


def to_search(
    queries: Any,
    *,
    contexts: Iterable[Union[str, int]],
    labels: Mapping[str, str],
    k: int,
    where: TokenFilter,
    resolution: int,
    ef_search: int,
    nprobe: int,
    target_recall: float,
    payloads: bool,
) -> Any:
    """For Search. Errors: ValueError (queries that are no rows)."""
    rows = numpy().ascontiguousarray(queries, dtype="<f4")
    if rows.ndim == 1:
        rows = rows.reshape(1, -1)
    if rows.ndim != 2:
        raise ValueError(f"queries: shape {rows.shape}, not (n, dimension)")
    return pb.SearchRequest(
        contexts=[to_ref(context) for context in contexts],
        labels=to_labels(labels),
        dimension=rows.shape[1],
        queries=rows.tobytes(),
        k=k,
        filter=to_filter(where),
        resolution=resolution,
        ef_search=ef_search,
        nprobe=nprobe,
        target_recall=target_recall,
        with_payloads=payloads,
    )


def from_search(message: Any) -> contexts.SearchResult:
    """The hits of each query."""
    work = message.work
    return contexts.SearchResult(
        tuple(tuple(_from_hit(hit) for hit in result.hits) for result in message.results),
        contexts.SearchWork(
            work.contexts,
            work.segments,
            work.distances,
            work.reranked,
            work.unindexed_tokens,
            work.engine_us,
        ),
    )


def _from_hit(message: Any) -> contexts.SearchHit:
    return contexts.SearchHit(
        context_id=message.context_id,
        position=message.position,
        first_position=message.first_position,
        count=message.count,
        score=message.score,
        kind=TokenKind(message.kind),
        token_id=message.token_id,
        time_unix_us=message.time_unix_us,
        level=Level(message.level),
        indexed=message.indexed,
        payload=from_payload(message.payload) if message.HasField("payload") else None,
    )


def to_link(link: contexts.BlockLink) -> Any:
    """Blocks of a range."""
    return pb.BlockLink(
        first_position=link.first_position, space=to_space_ref(link.space), keys=link.keys
    )


def from_link(message: Any) -> contexts.BlockLink:
    """Blocks of a range."""
    space = message.space
    ref: Union[str, int] = space.id if space.WhichOneof("ref") == "id" else space.name
    return contexts.BlockLink(message.first_position, ref, tuple(message.keys))


def from_description(message: Any) -> contexts.ContextDescription:
    """What is known of a context."""
    return contexts.ContextDescription(
        info=from_context(message.context),
        writer_id=message.writer_id,
        payloads=message.payloads,
        payload_bytes=message.payload_bytes,
        links=message.links,
        levels=tuple(
            contexts.LevelShare(Level(share.level), share.tokens, share.bytes)
            for share in message.levels
        ),
        indexed_tokens=message.indexed_tokens,
        segments=message.segments,
        index_bytes=message.index_bytes,
        summaries=message.summaries,
        summary_shares=tuple(
            contexts.SummaryShare(share.resolution, share.count)
            for share in message.summary_shares
        ),
        runs=tuple(
            contexts.ContextRun(
                run.first_position, run.count, Level(run.level), run.bits_per_value, run.index
            )
            for run in message.runs
        ),
    )
