"""The asyncio client: the calls of the blocking one as coroutines.

Written by scripts/generate_aio.py from context_client.py; change that one.
"""

from __future__ import annotations

import random
from typing import Iterable, AsyncIterator, Optional, Union

from . import _context_convert as convert
from ._append import AppendSession
from ._context_wire import decode_stored
from ._contract import pb
from ._aio_transport import AsyncTransport
from .contexts import (
    AppendResult,
    BlockLink,
    ContextDescription,
    ContextInfo,
    RangeSummary,
    SearchResult,
    TokenFilter,
    TokenRun,
    Tokens,
)
from .errors import Code, make_error
from .spaces import DType, Durability

EVERYTHING = TokenFilter()


class AsyncContextHandle:
    """One context. Thread-safe.

    Each handle is a writer of its own: of two that append to a context, the one
    that started last goes on, and the other gets an error of code ABORTED.
    """

    def __init__(
        self,
        transport: AsyncTransport,
        info: ContextInfo,
        created: bool = False,
        writer_id: Optional[int] = None,
    ) -> None:
        self._transport = transport
        self.info = info
        """As it was when the handle was made."""
        self.created = created
        """Whether creating it made the context."""
        self.writer_id = writer_id or random.SystemRandom().randrange(1, 1 << 64)
        """Names this writer to the server."""

    async def append(
        self,
        tokens: Union[Tokens, Iterable[Tokens]],
        *,
        first_position: Optional[int] = None,
        durability: Durability = Durability.UNSPECIFIED,
        deadline: Optional[float] = None,
    ) -> AppendResult:
        """Appends tokens, of any number, in one stream; returns when all are acknowledged.

        An iterable is taken from as the stream has room, on a thread of the
        client. Without `first_position` they go to the end. Tokens are sent
        again when the connection breaks, and stored exactly once. A long stream
        needs a long `deadline`.

        Errors carry `acknowledged`, the position below which all is stored, or
        None: OutOfRangeError (a gap; `next_position` is the one expected),
        MnemoError of code ALREADY_EXISTS (other tokens are there) or ABORTED
        (another writer has claimed the context), FailedPreconditionError
        (sealed), InvalidArgumentError, ValueError.
        """
        session = AppendSession(
            self.info.id,
            self.writer_id,
            durability,
            self.info.context.dimension,
            (tokens,) if isinstance(tokens, Tokens) else tokens,
            first_position,
        )
        return await self._transport.append(session, deadline)

    async def read(
        self,
        first_position: int = 0,
        count: int = 0,
        *,
        embeddings: bool = True,
        dtype: DType = DType.F32,
        payloads: bool = False,
        deadline: Optional[float] = None,
    ) -> AsyncIterator[TokenRun]:
        """The tokens of a range, run by run; count 0 means all to the end.

        `dtype` is F32 or F16. Not retried: go on behind the last run.
        Errors: OutOfRangeError, DataLossError (the message names the range).
        """
        request = pb.ReadContextRequest(
            context=convert.to_ref(self.info.id),
            first_position=first_position,
            count=count,
            without_embeddings=not embeddings,
            embedding_dtype=int(dtype),
            with_payloads=payloads,
        )
        stream = self._transport.read(request, deadline)
        async for message in stream:
            try:
                parts = decode_stored(message)
                if parts is not None:
                    yield convert.from_stored(parts, self.info.context.dimension, dtype)
            except ValueError as error:
                raise make_error(Code.INTERNAL, f"answer of Read: {error}") from None

    async def summaries(
        self,
        resolution: int = 128,
        first_position: int = 0,
        count: int = 0,
        *,
        vectors: bool = True,
        deadline: Optional[float] = None,
    ) -> AsyncIterator[RangeSummary]:
        """Summaries of `resolution` tokens each: 128, 512, 2,048 up to 131,072.

        Errors: OutOfRangeError.
        """
        request = pb.ReadContextRequest(
            context=convert.to_ref(self.info.id),
            first_position=first_position,
            count=count,
            resolution=resolution,
            without_embeddings=not vectors,
        )
        stream = self._transport.read(request, deadline)
        async for message in stream:
            for summary in pb.ReadContextResponse.FromString(message).summaries.summaries:
                yield convert.from_summary(summary)

    async def summarize(
        self, first_position: int = 0, count: int = 0, *, deadline: Optional[float] = None
    ) -> RangeSummary:
        """What a range has in common, however long it is. Errors: OutOfRangeError."""
        request = pb.SummarizeRequest(
            context=convert.to_ref(self.info.id), first_position=first_position, count=count
        )
        answer = await self._transport.call("ContextService.Summarize", request, deadline)
        return convert.from_summary(answer.summary)

    async def search(
        self,
        queries: object,
        k: int = 10,
        *,
        where: TokenFilter = EVERYTHING,
        resolution: int = 1,
        ef_search: int = 0,
        nprobe: int = 0,
        target_recall: float = 0.0,
        payloads: bool = False,
        deadline: Optional[float] = None,
    ) -> SearchResult:
        """What is nearest to each query: an array [n, dimension], or one of [dimension].

        At most 64 queries. `resolution` 128, 512 or 2,048 finds summaries. With
        `payloads` a hit brings the payload that covers it.
        """
        request = convert.to_search(
            queries,
            contexts=(self.info.id,),
            labels={},
            k=k,
            where=where,
            resolution=resolution,
            ef_search=ef_search,
            nprobe=nprobe,
            target_recall=target_recall,
            payloads=payloads,
        )
        answer = await self._transport.call("ContextService.Search", request, deadline)
        return convert.from_search(answer)

    async def link(self, link: BlockLink, *, deadline: Optional[float] = None) -> None:
        """Says which KV blocks hold the attention state of a range. Idempotent."""
        request = pb.LinkRequest(
            context=convert.to_ref(self.info.id), link=convert.to_link(link)
        )
        await self._transport.call("ContextService.Link", request, deadline)

    async def links(
        self, first_position: int = 0, count: int = 0, *, deadline: Optional[float] = None
    ) -> AsyncIterator[BlockLink]:
        """The links that touch a range, in order of position, page by page."""
        end = first_position + count if count else None
        while True:
            request = pb.ListLinksRequest(
                context=convert.to_ref(self.info.id),
                first_position=first_position,
                count=end - first_position if end else 0,
            )
            answer = await self._transport.call("ContextService.ListLinks", request, deadline)
            for link in answer.links:
                yield convert.from_link(link)
            if answer.next_position <= first_position:
                return
            first_position = answer.next_position

    async def seal(self, *, deadline: Optional[float] = None) -> int:
        """Ends the context; returns how many tokens it has. Idempotent."""
        request = pb.SealRequest(context=convert.to_ref(self.info.id))
        answer = await self._transport.call("ContextService.Seal", request, deadline)
        return int(answer.tokens)

    async def delete(self, *, wait: bool = False, deadline: Optional[float] = None) -> int:
        """Deletes all of it; returns how many tokens are gone. Idempotent.

        With `wait` the bytes are gone from the disk when it returns.
        """
        request = pb.DeleteContextRequest(context=convert.to_ref(self.info.id), wait=wait)
        answer = await self._transport.call("ContextService.Delete", request, deadline)
        return int(answer.tokens_deleted)

    async def describe(
        self, *, max_runs: int = 0, deadline: Optional[float] = None
    ) -> ContextDescription:
        """What it holds and where that lies, in at most `max_runs` runs."""
        request = pb.DescribeContextRequest(
            context=convert.to_ref(self.info.id), max_runs=max_runs
        )
        answer = await self._transport.call("ContextService.Describe", request, deadline)
        return convert.from_description(answer)
