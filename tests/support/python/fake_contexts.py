"""The contexts of the fake server: fp32 in numpy, searched by brute force.

Keeps to the contract's meaning (claims, repeats, gaps, seals, pages, filters by
kind and payload) and to nothing else.
"""

from __future__ import annotations

import grpc
import numpy as np

from mnemod._contract import pb

F32, F16, BF16 = 1, 2, 3


def decoded(batch, dimension):
    """The embeddings of a batch as fp32."""
    if batch.embedding_dtype == F16:
        rows = np.frombuffer(batch.embeddings, "<f2").astype(np.float32)
    elif batch.embedding_dtype == BF16:
        rows = (np.frombuffer(batch.embeddings, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        rows = np.frombuffer(batch.embeddings, "<f4")
    return rows.reshape(-1, dimension)


class Stored:
    """One context."""

    def __init__(self, context):
        self.context = context
        self.claim = 0
        self.writer_id = 0
        self.rows = np.zeros((0, context.dimension), np.float32)
        self.ids = np.zeros(0, np.uint32)
        self.kinds = np.zeros(0, np.uint8)
        self.payloads = []
        self.links = []

    def append(self, batch):
        """Stores a batch; returns whether it was here already, or None if it differs."""
        rows = decoded(batch, self.context.dimension)
        count = batch.count
        first = batch.first_position
        if first < len(self.rows):
            return True if np.array_equal(self.rows[first : first + count], rows) else None
        self.rows = np.vstack([self.rows, rows])
        ids = np.frombuffer(batch.ids, "<u4") if batch.ids else np.zeros(count, np.uint32)
        kinds = np.frombuffer(batch.kinds, "u1") if batch.kinds else [batch.kind] * count
        self.ids = np.concatenate([self.ids, ids])
        self.kinds = np.concatenate([self.kinds, np.array(kinds, np.uint8)])
        self.payloads += batch.payloads
        self.context.tokens = len(self.rows)
        return False

    def payload_of(self, position):
        """The payload that covers a position, or None."""
        for payload in self.payloads:
            if payload.first_position <= position < payload.first_position + payload.count:
                return payload
        return None


class FakeContexts:
    """The methods of ContextService; FakeServer brings the rest.

    `lose_answers_after` cuts each of the next streams behind so many stored
    batches, the last of which is not answered.
    """

    def __init__(self):
        self.contexts = {}
        self.append_batches = []  # (first, count) of each batch that came
        self.append_starts = []
        self.searches = []
        self.lose_answers_after = []
        self.read_tokens = 100  # of a message
        self.deletes = []

    def _context(self, ref, context):
        with self.lock:
            for stored in self.contexts.values():
                if ref.WhichOneof("ref") == "id" and ref.id == stored.context.id:
                    return stored
                if ref.WhichOneof("ref") == "name" and ref.name == stored.context.name:
                    return stored
        context.abort(grpc.StatusCode.NOT_FOUND, "context: not there")

    def _contextservice_create(self, request, context):
        with self.lock:
            there = self.contexts.get(request.context.name)
            if there is None:
                made = pb.Context()
                made.CopyFrom(request.context)
                made.id = next(self.ids)
                made.metric = made.metric or 1
                made.stored_dtype = made.stored_dtype or F16
                made.durability = made.durability or 3
                self.contexts[made.name] = Stored(made)
                return pb.CreateContextResponse(context=made, created=True)
        if there.context.dimension != request.context.dimension:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "dimension: differs")
        return pb.CreateContextResponse(context=there.context)

    def _contextservice_append(self, requests, context):
        start = next(requests).start
        stored = self._context(start.context, context)
        stored.claim += 1
        claim = stored.claim
        stored.writer_id = start.writer_id
        self.append_starts.append(start)
        lost_after = self.lose_answers_after.pop(0) if self.lose_answers_after else None
        yield pb.AppendResponse(
            ready=pb.AppendReady(context_id=stored.context.id, next_position=len(stored.rows))
        )
        batches = 0
        for request in requests:
            batch = request.tokens
            self.append_batches.append((batch.first_position, batch.count))
            refusal = self._refusal(stored, batch, claim)
            repeated = stored.append(batch) if refusal is None else None
            if refusal is None and repeated is None:
                refusal = (grpc.StatusCode.ALREADY_EXISTS, "other tokens are there")
            if refusal is not None:
                code, message = refusal
                error = pb.ItemError(code=code.value[0], message=message)
                yield pb.AppendResponse(
                    refusal=pb.AppendRefusal(error=error, next_position=len(stored.rows))
                )
                context.abort(code, message)
            batches += 1
            if batches == lost_after:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the daemon was killed")
            yield pb.AppendResponse(
                ack=pb.AppendAck(next_position=len(stored.rows), repeated_batch=repeated)
            )

    def _refusal(self, stored, batch, claim):
        if claim != stored.claim:
            return grpc.StatusCode.ABORTED, "a later stream has claimed the context"
        if stored.context.sealed:
            return grpc.StatusCode.FAILED_PRECONDITION, "the context is sealed"
        if batch.first_position > len(stored.rows):
            return grpc.StatusCode.OUT_OF_RANGE, f"a gap: expected {len(stored.rows)}"
        return None

    def _contextservice_read(self, request, context):
        stored = self._context(request.context, context)
        end = len(stored.rows)
        if request.count:
            end = min(end, request.first_position + request.count)
        if request.first_position >= end:
            context.abort(grpc.StatusCode.OUT_OF_RANGE, "the range begins behind the end")
        step = self.read_tokens if request.resolution <= 1 else request.resolution
        for first in range(request.first_position, end, step):
            last = min(first + step, end)
            if request.resolution > 1:
                mean = b"" if request.without_embeddings else stored.rows[first:last].mean(0).tobytes()
                summary = pb.RangeSummary(first_position=first, count=last - first, mean=mean)
                yield pb.ReadContextResponse(summaries=pb.SummaryBatch(summaries=[summary]))
                continue
            batch = pb.TokenBatch(
                first_position=first,
                count=last - first,
                ids=stored.ids[first:last].tobytes(),
                kinds=stored.kinds[first:last].tobytes(),
                embedding_dtype=request.embedding_dtype or F32,
            )
            if not request.without_embeddings:
                kind = "<f2" if request.embedding_dtype == F16 else "<f4"
                batch.embeddings = stored.rows[first:last].astype(kind).tobytes()
            if request.with_payloads:
                batch.payloads.extend(
                    p for p in stored.payloads if first <= p.first_position < last
                )
            yield pb.ReadContextResponse(
                tokens=pb.StoredTokens(tokens=batch, level=3, bits_per_value=16)
            )

    def _contextservice_summarize(self, request, context):
        stored = self._context(request.context, context)
        rows = stored.rows[request.first_position :][: request.count or None]
        return pb.SummarizeResponse(
            summary=pb.RangeSummary(
                first_position=request.first_position,
                count=len(rows),
                mean=rows.mean(0).tobytes(),
                minimum=rows.min(0).tobytes(),
                maximum=rows.max(0).tobytes(),
                mean_square_norm=float((rows**2).sum(1).mean()),
                medoid_position=request.first_position,
                top_ids=[7, 9],
                level=2,
            )
        )

    def _contextservice_search(self, request, context):
        self.searches.append(request)
        queries = np.frombuffer(request.queries, "<f4").reshape(-1, request.dimension)
        where = [self._context(ref, context) for ref in request.contexts]
        if not where:
            labels = {label.key: label.value for label in request.labels}
            where = [s for s in self.contexts.values() if labels.items() <= _labels(s).items()]
        response = pb.SearchResponse(work=pb.SearchWork(contexts=len(where), engine_us=5))
        for query in queries:
            hits = [hit for stored in where for hit in self._hits(stored, query, request)]
            hits.sort(key=lambda hit: -hit.score)
            response.results.add(hits=hits[: request.k or 10])
        return response

    def _hits(self, stored, query, request):
        for position, score in enumerate(stored.rows @ query):
            payload = stored.payload_of(position)
            if request.filter.kinds and stored.kinds[position] not in request.filter.kinds:
                continue
            wanted = request.filter.has_payload
            if request.filter.HasField("has_payload") and wanted != (payload is not None):
                continue
            yield pb.SearchHit(
                context_id=stored.context.id,
                position=position,
                first_position=position,
                count=1,
                score=score,
                kind=int(stored.kinds[position]),
                token_id=int(stored.ids[position]),
                level=1,
                payload=payload if request.with_payloads else None,
            )

    def _contextservice_link(self, request, context):
        self._context(request.context, context).links.append(request.link)
        return pb.LinkResponse()

    def _contextservice_listlinks(self, request, context):
        links = self._context(request.context, context).links
        # A page of one.
        later = [link for link in links if link.first_position >= request.first_position]
        next_position = later[1].first_position if len(later) > 1 else 0
        return pb.ListLinksResponse(links=later[:1], next_position=next_position)

    def _contextservice_seal(self, request, context):
        stored = self._context(request.context, context)
        stored.context.sealed = True
        return pb.SealResponse(tokens=len(stored.rows))

    def _contextservice_delete(self, request, context):
        self.deletes.append(request)
        with self.lock:
            for name, stored in self.contexts.items():
                if request.context in (pb.ContextRef(name=name), pb.ContextRef(id=stored.context.id)):
                    del self.contexts[name]
                    return pb.DeleteContextResponse(tokens_deleted=len(stored.rows))
        return pb.DeleteContextResponse()

    def _contextservice_describe(self, request, context):
        stored = self._context(request.context, context)
        tokens = len(stored.rows)
        return pb.DescribeContextResponse(
            context=stored.context,
            writer_id=stored.writer_id,
            payloads=len(stored.payloads),
            levels=[pb.LevelShare(level=3, tokens=tokens, bytes=stored.rows.nbytes)],
            segments=1,
            summaries=3,
            summary_shares=[pb.SummaryShare(resolution=128, count=3)],
            runs=[pb.ContextRun(count=tokens, level=3, bits_per_value=16, index="growing")],
        )

    def _contextservice_list(self, request, context):
        wanted = {label.key: label.value for label in request.labels}
        names = sorted(
            name
            for name, stored in self.contexts.items()
            if wanted.items() <= _labels(stored).items() and name > request.page_token
        )
        page = names[: request.page_size or 100]
        more = len(page) < len(names)
        return pb.ListContextsResponse(
            contexts=[self.contexts[name].context for name in page],
            next_page_token=page[-1] if more else "",
        )


def _labels(stored):
    return {label.key: label.value for label in stored.context.labels}
