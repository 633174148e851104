"""Contexts through the blocking client, against the fake server."""

import numpy as np
import pytest

from mnemod import (
    BlockLink,
    Client,
    Code,
    Context,
    DType,
    Durability,
    FailedPreconditionError,
    InvalidArgumentError,
    Level,
    Metric,
    MnemoError,
    NotFoundError,
    OutOfRangeError,
    Payload,
    RetryPolicy,
    TokenFilter,
    TokenKind,
    Tokens,
    UnavailableError,
)

DIMENSION = 4


def rows(count, first=0, dimension=DIMENSION):
    made = np.ones((count, dimension), np.float32)
    made[:, 0] = np.arange(first, first + count)
    return made


@pytest.fixture
def patient(server):
    """A client that tries again at once."""
    retry = RetryPolicy(attempts=5, initial_backoff=0.001, max_backoff=0.001)
    with Client(server.target, deadline=10.0, retry=retry) as made:
        yield made


@pytest.fixture
def context(patient):
    return patient.create_context(Context("c", DIMENSION))


def test_a_context_is_created_once_and_found_again(client):
    wanted = Context(
        "c",
        DIMENSION,
        metric=Metric.L2,
        stored_dtype=DType.INT8,
        kinds=(TokenKind.USER, TokenKind.CODE),
        labels={"user": "ann", "book": "genesis"},
        durability=Durability.INTERVAL,
    )
    made = client.create_context(wanted)
    assert made.created and made.info.context == wanted
    again = client.create_context(wanted)
    assert not again.created and again.info.id == made.info.id
    assert client.get_context("c").info == again.info
    assert client.get_context(made.info.id).info.context == wanted
    with pytest.raises(FailedPreconditionError):
        client.create_context(Context("c", DIMENSION + 1))
    with pytest.raises(NotFoundError):
        client.get_context("nobody")


def test_what_is_appended_is_read_back(context):
    embeddings = rows(250)
    kinds = np.arange(250) % 7
    result = context.append(
        Tokens(
            embeddings,
            ids=np.arange(250),
            kinds=kinds,
            payloads=[Payload(10, 5, b"first"), Payload(240, 10, b"last")],
        )
    )
    assert (result.first_position, result.next_position, result.repeated_batches) == (0, 250, 0)
    runs = list(context.read(payloads=True))
    assert [run.first_position for run in runs] == [0, 100, 200]
    assert np.array_equal(np.vstack([run.embeddings for run in runs]), embeddings)
    assert np.array_equal(np.concatenate([run.ids for run in runs]), np.arange(250))
    assert np.array_equal(np.concatenate([run.kinds for run in runs]), kinds)
    assert [p for run in runs for p in run.payloads] == [
        Payload(10, 5, b"first"),
        Payload(240, 10, b"last"),
    ]
    assert runs[0].level is Level.L3 and runs[0].bits_per_value == 16 and runs[0].count == 100


def test_read_embeddings_are_views_of_the_message(context):
    context.append(Tokens(rows(10)))
    run = next(context.read())
    assert run.embeddings.base is not None and not run.embeddings.flags.writeable


def test_a_range_is_read_in_the_type_that_is_asked_for(context):
    context.append(Tokens(rows(50)))
    (run,) = context.read(10, 5, dtype=DType.F16)
    assert run.embeddings.dtype == np.float16
    assert np.array_equal(run.embeddings, rows(5, 10).astype(np.float16))
    (run,) = context.read(10, 5, embeddings=False)
    assert run.embeddings is None and run.count == 5
    with pytest.raises(OutOfRangeError):
        list(context.read(50))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_appends_go_on_where_the_last_stood(server, context, dtype):
    context.append(Tokens(rows(3).astype(dtype)))
    result = context.append(Tokens(rows(2, 3).astype(dtype)))
    assert (result.first_position, result.next_position) == (3, 5)
    assert np.array_equal(server.contexts["c"].rows, rows(5))
    assert server.append_starts[0].writer_id == server.append_starts[1].writer_id != 0


def test_bfloat16_is_sent_as_its_bits(server, context):
    bits = (rows(3).view(np.uint32) >> 16).astype(np.uint16)
    context.append(Tokens(bits, dtype=DType.BF16))
    assert np.array_equal(server.contexts["c"].rows, rows(3))


def test_long_columns_are_cut_into_messages(server, context):
    count = 20_000
    context.append(Tokens(rows(count), ids=np.arange(count), kinds=TokenKind.TOOL))
    assert server.append_batches == [(0, 8192), (8192, 8192), (16384, 3616)]
    assert np.array_equal(server.contexts["c"].ids, np.arange(count))
    assert set(server.contexts["c"].kinds) == {TokenKind.TOOL}


def test_a_message_holds_a_mebibyte_of_embeddings(server, patient):
    context = patient.create_context(Context("wide", 4096))
    context.append(Tokens(rows(100, dimension=4096)))
    assert server.append_batches == [(0, 64), (64, 36)]


def test_a_payload_is_never_cut(server, context):
    payloads = [Payload(8190, 10, b"a"), Payload(8200, 9000 - 8200, b"b")]
    context.append(Tokens(rows(9000), payloads=payloads))
    assert server.append_batches == [(0, 8190), (8190, 810)]
    assert [p.data for p in server.contexts["c"].payloads] == [b"a", b"b"]


def test_a_message_holds_a_mebibyte_of_payloads(server, context):
    big = bytes(65536)
    payloads = [Payload(i, 1, big) for i in range(20)]
    context.append(Tokens(rows(30), payloads=payloads))
    assert server.append_batches == [(0, 16), (16, 14)]


def test_an_iterable_is_one_stream(server, context):
    context.append(Tokens(rows(2, first)) for first in range(0, 100, 2))
    assert np.array_equal(server.contexts["c"].rows, rows(100))
    assert server.calls["ContextService.Append"] == 1


def test_lost_answers_lead_to_repeats_and_never_to_doubles(server, context):
    server.lose_answers_after = [2, 1, 3]
    result = context.append(Tokens(rows(2, first)) for first in range(0, 20, 2))
    assert np.array_equal(server.contexts["c"].rows, rows(20))
    assert result.next_position == 20
    assert result.repeated_batches == 2
    assert server.calls["ContextService.Append"] == 4


def test_a_retry_never_takes_the_tokens_of_another_for_its_own(server, patient, context):
    """Between two tries another writer has filled the place with other tokens."""
    append = server._contextservice_append

    def intruding(requests, call):
        if server.calls["ContextService.Append"] == 2:
            server.contexts["c"].rows = rows(4, 100)
        return append(requests, call)

    server._contextservice_append = intruding
    server.lose_answers_after = [1]
    with pytest.raises(MnemoError) as raised:
        context.append([Tokens(rows(2)), Tokens(rows(2, 2))])
    assert raised.value.code is Code.ALREADY_EXISTS
    assert np.array_equal(server.contexts["c"].rows, rows(4, 100))


def test_what_was_acknowledged_is_told_when_a_stream_fails(server, client):
    context = client.create_context(Context("c", DIMENSION))
    server.lose_answers_after = [3] * 10
    with pytest.raises(UnavailableError) as raised:
        handle = Client(server.target, retry=RetryPolicy(attempts=1)).get_context("c")
        handle.append(Tokens(rows(2, first)) for first in range(0, 20, 2))
    assert raised.value.acknowledged == 4
    assert len(server.contexts["c"].rows) == 6
    assert context.append(Tokens(rows(0))).next_position == 6


def test_a_gap_is_refused_with_the_position_expected(context):
    context.append(Tokens(rows(3)))
    with pytest.raises(OutOfRangeError) as raised:
        context.append(Tokens(rows(1, 9)), first_position=9)
    assert raised.value.next_position == 3


def test_a_repeat_at_a_named_position_is_acknowledged(context):
    context.append(Tokens(rows(3)))
    again = context.append(Tokens(rows(3)), first_position=0)
    assert (again.next_position, again.repeated_batches) == (3, 1)
    with pytest.raises(MnemoError, match="other tokens"):
        context.append(Tokens(rows(3, 5)), first_position=0)


def test_a_later_writer_fences_the_earlier(server, patient, context):
    other = patient.get_context("c")

    def tokens():
        yield Tokens(rows(1))
        other.append(Tokens(rows(1)), first_position=0)
        yield Tokens(rows(1, 1))

    with pytest.raises(MnemoError) as raised:
        context.append(tokens())
    assert raised.value.code is Code.ABORTED


def test_a_sealed_context_takes_no_more(context):
    context.append(Tokens(rows(3)))
    assert context.seal() == 3
    with pytest.raises(FailedPreconditionError, match="sealed"):
        context.append(Tokens(rows(1, 3)))


@pytest.mark.parametrize(
    "tokens, error, why",
    [
        (Tokens(rows(3, dimension=5)), ValueError, r"shape \(3, 5\), not \(n, 4\)"),
        (Tokens(np.ones(4, np.float32)), ValueError, r"shape \(4,\)"),
        (Tokens(np.ones((3, 4))), TypeError, "float64 cannot be sent"),
        (Tokens(np.ones((3, 4), np.uint16)), TypeError, "uint16 cannot be sent"),
        (Tokens(rows(3), ids=[1, 2]), ValueError, r"ids: shape \(2,\), not \(3,\)"),
        (Tokens(rows(3), kinds=[1]), ValueError, "kinds"),
        (Tokens(rows(3), payloads=[Payload(2, 2, b"x")]), ValueError, "2 to 4 is not within 3"),
        (Tokens(rows(9000), payloads=[Payload(0, 9000, b"x")]), ValueError, "8192 fit"),
    ],
)
def test_tokens_that_cannot_be_sent_are_refused_here(context, tokens, error, why):
    with pytest.raises(error, match=why):
        context.append(tokens)
    # The connection and the context are as good as before.
    assert context.append(Tokens(rows(1))).next_position == 1


def test_what_the_callers_iterable_raises_comes_out(context):
    def tokens():
        yield Tokens(rows(2))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        context.append(tokens())
    # What came before it is whole.
    assert context.append(Tokens(rows(0))).next_position == 2


def test_search_answers_each_query(server, context):
    context.append(
        Tokens(
            rows(20),
            ids=np.arange(100, 120),
            kinds=TokenKind.DOCUMENT,
            payloads=[Payload(18, 2, b"the last two")],
        )
    )
    queries = np.array([[1, 0, 0, 0], [-1, 0, 0, 0]])
    result = context.search(queries, k=2, payloads=True)
    assert [[hit.position for hit in hits] for hits in result.hits] == [[19, 18], [0, 1]]
    best = result.hits[0][0]
    assert (best.score, best.token_id, best.kind) == (19.0, 119, TokenKind.DOCUMENT)
    assert (best.context_id, best.level, best.count) == (context.info.id, Level.L1, 1)
    assert best.payload == Payload(18, 2, b"the last two")
    assert result.hits[1][0].payload is None
    assert result.work.contexts == 1 and result.work.engine_us == 5


def test_search_hands_on_what_was_asked(server, context):
    context.search(
        np.ones(DIMENSION),
        k=3,
        where=TokenFilter(
            kinds=(TokenKind.USER,), first_position=5, end_position=9, from_unix_us=0,
            until_unix_us=7, has_payload=False,
        ),
        resolution=512,
        ef_search=11,
        nprobe=12,
        target_recall=0.75,
    )
    asked = server.searches[0]
    assert (asked.k, asked.resolution, asked.ef_search, asked.nprobe) == (3, 512, 11, 12)
    assert asked.target_recall == 0.75 and not asked.with_payloads
    where = asked.filter
    assert (list(where.kinds), where.first_position, where.end_position) == ([2], 5, 9)
    assert where.HasField("from_unix_us") and where.from_unix_us == 0
    assert where.until_unix_us == 7
    assert where.HasField("has_payload") and not where.has_payload
    context.search(np.ones(DIMENSION))
    assert not server.searches[1].filter.ListFields()


def test_filters_that_exclude_everything_answer_nothing(context):
    context.append(Tokens(rows(3), kinds=TokenKind.USER))
    result = context.search(np.ones(DIMENSION), where=TokenFilter(kinds=(TokenKind.CODE,)))
    assert result.hits == ((),)


def test_search_over_contexts_by_name_and_by_label(server, client):
    for name, owner in (("a", "ann"), ("b", "eve"), ("c", "ann")):
        made = client.create_context(Context(name, DIMENSION, labels={"user": owner}))
        made.append(Tokens(rows(2)))
    by_name = client.search_contexts(np.ones(DIMENSION), contexts=["a", "b"])
    assert by_name.work.contexts == 2
    by_label = client.search_contexts(np.ones(DIMENSION), labels={"user": "ann"})
    ids = {name: stored.context.id for name, stored in server.contexts.items()}
    assert {hit.context_id for hit in by_label.hits[0]} == {ids["a"], ids["c"]}
    with pytest.raises(NotFoundError):
        client.search_contexts(np.ones(DIMENSION), contexts=["nobody"])
    with pytest.raises(ValueError, match="queries: shape"):
        client.search_contexts(np.ones((1, 2, 3)))


def test_summaries_of_a_range(context):
    context.append(Tokens(rows(300)))
    summaries = list(context.summaries(128))
    assert [(s.first_position, s.count) for s in summaries] == [(0, 128), (128, 128), (256, 44)]
    assert np.allclose(summaries[0].mean, rows(128).mean(0))
    assert next(context.summaries(128, vectors=False)).mean is None
    whole = context.summarize(100, 50)
    assert (whole.first_position, whole.count) == (100, 50)
    assert np.allclose(whole.mean, rows(50, 100).mean(0))
    assert np.allclose(whole.minimum, rows(50, 100).min(0))
    assert np.allclose(whole.maximum, rows(50, 100).max(0))
    assert (whole.medoid_position, whole.top_ids, whole.level) == (100, (7, 9), Level.L2)


def test_links_come_back_page_by_page(context):
    links = [BlockLink(16 * i, "llama", (b"k%d" % i,)) for i in range(3)]
    for link in links:
        context.link(link)
    assert list(context.links()) == links


def test_delete_is_idempotent_and_may_wait(server, context):
    context.append(Tokens(rows(3)))
    assert context.delete(wait=True) == 3
    assert server.deletes[0].wait
    assert context.delete() == 0
    assert not server.deletes[1].wait


def test_describe_says_what_lies_where(context):
    context.append(Tokens(rows(3)))
    known = context.describe(max_runs=8)
    assert known.info.tokens == 3 and known.writer_id == context.writer_id
    assert [(s.level, s.tokens, s.bytes) for s in known.levels] == [(Level.L3, 3, 48)]
    run = known.runs[0]
    assert (run.first_position, run.count, run.level, run.index) == (0, 3, Level.L3, "growing")
    assert known.summaries == 3
    assert [(s.resolution, s.count) for s in known.summary_shares] == [(128, 3)]


def test_contexts_are_listed_by_label_and_page(client):
    for name in ("a", "b", "c"):
        labels = {"user": "eve" if name == "b" else "ann", "kind": "chat"}
        client.create_context(Context(name, DIMENSION, labels=labels))
    found = list(client.list_contexts({"user": "ann"}, page_size=1))
    assert [info.context.name for info in found] == ["a", "c"]
    assert found[0].context.labels == {"user": "ann", "kind": "chat"}
    assert len(list(client.list_contexts())) == 3


def test_invalid_arguments_of_the_server_are_its_words(server, context):
    from grpc import StatusCode

    server.faults["ContextService.Search"].put((StatusCode.INVALID_ARGUMENT, "k is 0", ()))
    with pytest.raises(InvalidArgumentError, match="k is 0"):
        context.search(np.ones(DIMENSION))
