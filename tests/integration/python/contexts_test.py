"""Contexts through the real daemon, and across kill -9."""

import itertools
import threading
import time

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
    Metric,
    MnemoError,
    NotFoundError,
    OutOfRangeError,
    Payload,
    RetryPolicy,
    Space,
    TokenFilter,
    TokenKind,
    Tokens,
)
from tests.integration.operate.daemon import Daemon

DIMENSION = 64
_NUMBERS = itertools.count()


def rows(count, seed=1):
    return np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)


def nearest(base, query, k=10):
    """Positions by cosine, best first, of fp16 rows."""
    stored = base.astype(np.float16).astype(np.float32)
    scores = stored @ query / np.linalg.norm(stored, axis=1)
    return list(np.argsort(-scores, kind="stable")[:k])


@pytest.fixture
def context(client):
    return client.create_context(Context(f"context-{next(_NUMBERS)}", DIMENSION))


def test_append_search_and_read_over_both_transports(any_client):
    context = any_client.create_context(
        Context(f"context-{next(_NUMBERS)}", DIMENSION, labels={"book": "genesis"})
    )
    base = rows(20_000)
    kinds = (np.arange(20_000) // 1000 % 7).astype(np.uint8)
    result = context.append(
        Tokens(
            base,
            ids=np.arange(20_000),
            kinds=kinds,
            importances=np.full(20_000, 0.5),
            payloads=[Payload(1000 * i, 1000, b"passage %d" % i) for i in range(20)],
        )
    )
    assert result.next_position == 20_000

    queries = rows(3, seed=2)
    found = context.search(queries, payloads=True)
    for query, hits in zip(queries, found.hits):
        assert [hit.position for hit in hits] == nearest(base, query)
        assert all(hit.payload.data == b"passage %d" % (hit.position // 1000) for hit in hits)
        assert all(hit.kind == kinds[hit.position] for hit in hits)

    runs = list(context.read(payloads=True))
    read = np.vstack([run.embeddings for run in runs])
    assert np.array_equal(read, base.astype(np.float16).astype(np.float32))
    assert sum(len(run.payloads) for run in runs) == 20
    assert np.allclose(context.summarize(100, 5000).mean, read[100:5100].mean(0), atol=1e-3)
    assert sum(summary.count for summary in context.summaries(2048)) == 20_000


@pytest.mark.parametrize("dtype,bits,error", [(DType.INT8, 8, 0.01), (DType.INT4, 4, 0.11)])
def test_fewer_bits_are_stored_read_and_searched(tmp_path, dtype, bits, error):
    base = rows(5000)
    query = rows(1, seed=2)[0]
    answers = []
    for kill in (False, True):
        with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60.0) as client:
            context = client.create_context(Context("c", DIMENSION, stored_dtype=dtype))
            assert context.info.context.stored_dtype is dtype
            if not kill:
                # Rows stand alone: a repeat is known however it is cut.
                assert context.append(Tokens(base[:300])).next_position == 300
                assert context.append(Tokens(base[300:])).next_position == 5000
            runs = list(context.read())
            assert {run.bits_per_value for run in runs} == {bits}
            read = np.vstack([run.embeddings for run in runs])
            norms = np.linalg.norm(base, axis=1)
            assert np.mean(np.linalg.norm(read - base, axis=1) / norms) < error
            (hits,) = context.search(query).hits
            assert [hit.position for hit in hits] == nearest(read, query)
            assert {run.bits_per_value for run in context.describe().runs} == {bits}
            answers.append((read, [hit.position for hit in hits]))
            with pytest.raises(FailedPreconditionError, match="stored is int[48], asked for fp16"):
                client.create_context(Context("c", DIMENSION))
            if not kill:
                daemon.kill()
    assert np.array_equal(answers[0][0], answers[1][0])
    assert answers[0][1] == answers[1][1]


def test_filters_are_exact(context):
    base = rows(5000)
    kinds = (np.arange(5000) % 7).astype(np.uint8)
    context.append(Tokens(base, kinds=kinds, times_unix_us=np.arange(5000)))
    query = rows(1, seed=2)[0]

    def expect(where, kept):
        (hits,) = context.search(query, where=where).hits
        assert [hit.position for hit in hits] == [kept[i] for i in nearest(base[kept], query)]

    everything = np.arange(5000)
    expect(TokenFilter(kinds=(TokenKind.USER,)), everything[kinds == TokenKind.USER])
    expect(TokenFilter(first_position=130, end_position=4000), everything[130:4000])
    expect(TokenFilter(from_unix_us=10, until_unix_us=777), everything[10:777])
    assert context.search(query, where=TokenFilter(has_payload=True)).hits == ((),)


def test_bad_tokens_are_refused_by_name_and_leave_nothing(context):
    base = rows(300)
    base[250, 3] = np.nan
    with pytest.raises(InvalidArgumentError, match="250"):
        context.append(Tokens(base))
    base[250, 3] = 1e6
    with pytest.raises(InvalidArgumentError, match="250"):
        context.append(Tokens(base))
    kinds = np.zeros(300, np.uint8)
    kinds[7] = 9
    with pytest.raises(InvalidArgumentError, match="kinds"):
        context.append(Tokens(rows(300), kinds=kinds))
    importances = np.zeros(300, np.float32)
    importances[5] = 2
    with pytest.raises(InvalidArgumentError, match="importance"):
        context.append(Tokens(rows(300), importances=importances))
    assert context.describe().info.tokens == 0
    assert context.append(Tokens(rows(300))).next_position == 300


def test_gaps_repeats_and_other_tokens(context):
    base = rows(500)
    context.append(Tokens(base))
    with pytest.raises(OutOfRangeError) as raised:
        context.append(Tokens(base), first_position=600)
    assert raised.value.next_position == 500
    again = context.append(Tokens(base), first_position=0)
    assert (again.next_position, again.repeated_batches) == (500, 1)
    with pytest.raises(MnemoError) as raised:
        context.append(Tokens(rows(500, seed=9)), first_position=0)
    assert raised.value.code is Code.ALREADY_EXISTS
    assert context.describe().info.tokens == 500


def test_of_two_writers_the_later_goes_on(client, context):
    other = client.get_context(context.info.id)
    first_is_in = threading.Event()
    second_is_in = threading.Event()

    def slow():
        yield Tokens(rows(10))
        first_is_in.set()
        second_is_in.wait(30)
        yield Tokens(rows(10, seed=2))

    raised = []

    def write():
        try:
            context.append(slow())
        except MnemoError as error:
            raised.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    assert first_is_in.wait(30)
    while client.get_context(context.info.id).info.tokens < 10:
        pass
    other.append(Tokens(rows(10, seed=3)))
    second_is_in.set()
    writer.join(30)
    assert raised[0].code is Code.ABORTED
    assert other.describe().info.tokens == 20


def test_links_seal_and_delete(client, context):
    space = client.open_space(Space.opaque(f"space-{next(_NUMBERS)}", tokens_per_block=16))
    context.append(Tokens(rows(100)))
    context.link(BlockLink(32, space.info.space.name, (b"k0", b"k1")))
    (link,) = context.links(40, 10)
    assert (link.first_position, link.space, link.keys) == (32, space.info.id, (b"k0", b"k1"))
    assert context.seal() == 100
    with pytest.raises(FailedPreconditionError):
        context.append(Tokens(rows(1)))
    assert context.delete(wait=True) == 100
    assert context.delete() == 0
    with pytest.raises(NotFoundError):
        context.search(rows(1)[0])


def test_contexts_are_listed_and_searched_by_label(client):
    label = {"run": f"{next(_NUMBERS)}"}
    made = [
        client.create_context(Context(f"label-{i}-{label['run']}", DIMENSION, labels=label))
        for i in range(3)
    ]
    for i, context in enumerate(made):
        context.append(Tokens(rows(200, seed=i)))
    assert [info.id for info in client.list_contexts(label, page_size=2)] == [
        context.info.id for context in made
    ]
    found = client.search_contexts(rows(1, seed=1)[0], k=1, labels=label)
    assert found.work.contexts == 3
    assert (found.hits[0][0].context_id, found.hits[0][0].position) == (made[1].info.id, 0)


def wait_until(daemon, condition):
    """Until the daemon's metrics say so."""
    deadline = time.monotonic() + 300
    while not condition(daemon.metrics()):
        assert time.monotonic() < deadline, daemon.log_text()


def recall(context, base, queries=10):
    """Of the true ten nearest, the share that is found."""
    asked = rows(queries, seed=5)
    found = context.search(asked)
    right = sum(
        len({hit.position for hit in hits} & set(nearest(base, query)))
        for query, hits in zip(asked, found.hits)
    )
    return right / (10 * queries)


PUBLISHED = 'mnemo_index_builds_total{result="published"}'


def test_what_is_appended_is_indexed_and_stays_so(tmp_path):
    base = rows(33_000)
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60.0) as client:
        context = client.create_context(Context("c", DIMENSION))
        context.append(Tokens(base))
        wait_until(daemon, lambda samples: samples[PUBLISHED] >= 1)
        work = context.search(rows(1, seed=2)[0]).work
        assert work.unindexed_tokens == len(base) - 32_768
        assert work.distances < len(base) / 2
        assert recall(context, base) >= 0.9
        described = context.describe()
        assert described.indexed_tokens == 32_768
        assert {run.index for run in described.runs} == {"hnsw", "flat"}
        samples = daemon.metrics()
        assert samples['mnemo_index_rows{index="hnsw"}'] == 32_768
        assert samples['mnemo_index_rows{index="flat"}'] == len(base) - 32_768
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60.0) as client:
        context = client.get_context("c")
        assert recall(context, base) >= 0.9
        assert context.search(rows(1, seed=2)[0]).work.unindexed_tokens == len(base) - 32_768
        wait_until(daemon, lambda samples: samples["mnemo_index_waiting_ranges"] == 0)
        assert daemon.metrics()[PUBLISHED] == 0
        context.delete(wait=True)
        assert daemon.metrics()['mnemo_index_segments{index="hnsw"}'] == 0


@pytest.mark.parametrize("metric", [Metric.INNER_PRODUCT, Metric.L2])
def test_other_metrics(client, metric):
    context = client.create_context(
        Context(f"context-{next(_NUMBERS)}", DIMENSION, metric=metric)
    )
    base = rows(1000)
    context.append(Tokens(base))
    query = rows(1, seed=2)[0]
    stored = base.astype(np.float16).astype(np.float32)
    scores = stored @ query
    if metric is Metric.L2:
        scores = -((stored - query) ** 2).sum(1)
    (hits,) = context.search(query).hits
    assert [hit.position for hit in hits] == list(np.argsort(-scores)[:10])
    assert np.allclose([hit.score for hit in hits], np.sort(-scores)[:10] * -1, atol=1e-3)


@pytest.mark.parametrize("durability", [Durability.SYNC, Durability.INTERVAL])
def test_a_killed_daemon_keeps_what_it_acknowledged_and_doubles_nothing(tmp_path, durability):
    """In `sync` the stream itself is cut twice, and goes on with the daemon that comes after."""
    base = rows(30_000)
    kills = (10, 40) if durability is Durability.SYNC else ()
    with Daemon(tmp_path) as daemon:
        target = f"unix:{daemon.ready['unix']}"
        running = [daemon]
        retry = RetryPolicy(attempts=60, initial_backoff=0.1, max_backoff=0.5)
        with Client(target, deadline=120.0, retry=retry) as client:
            context = client.create_context(
                Context("c", DIMENSION, durability=durability)
            )

            def tokens():
                for i, first in enumerate(range(0, len(base), 500)):
                    if i in kills:
                        running[-1].kill()
                        running.append(Daemon(tmp_path))
                    yield Tokens(base[first : first + 500])

            result = context.append(tokens())
            assert result.next_position == len(base)
            running[-1].kill()
            running.append(Daemon(tmp_path))
            if durability is Durability.SYNC:
                read = np.vstack([run.embeddings for run in context.read()])
                assert np.array_equal(read, base.astype(np.float16).astype(np.float32))
                query = rows(1, seed=2)[0]
                (hits,) = context.search(query).hits
                assert [hit.position for hit in hits] == nearest(base, query)
            else:
                # The last interval may be lost, and what is left is a prefix.
                tokens_left = client.get_context("c").info.tokens
                read = np.vstack([run.embeddings for run in context.read()])
                assert len(read) == tokens_left
                assert np.array_equal(read, base[:tokens_left].astype(np.float16).astype(np.float32))
        for late in running[1:-1]:
            late.process.stdout.close()
        with running[-1]:
            pass
