"""kill -9 amid appends, seals, builds and merges of contexts: 20 times each, against an oracle.

Summaries and moves between levels are in upkeep_test.py; power losses in tests/fault.
"""

import os
import random
import threading

import numpy as np
import pytest

from mnemod import Client, Code, Context, Durability, MnemoError, RetryPolicy, Tokens
from tests.integration.operate.daemon import Daemon, until

DIMENSION = 16
CYCLES = 20
# One try: what a call met when the daemon died is what the oracle has to know.
ONCE = RetryPolicy(attempts=1)


def rows(count, seed):
    made = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float16)
    return made.astype(np.float32)


@pytest.fixture
def chance():
    seed = int(os.environ.get("MNEMO_TEST_SEED", random.randrange(1 << 32)))
    print(f"MNEMO_TEST_SEED={seed}")
    return random.Random(seed)


def connect(daemon):
    return Client(f"unix:{daemon.ready['unix']}", deadline=120.0, retry=ONCE)


def check_tokens(context, base):
    """Each token once, with its own bytes; and the segment tree counts the same."""
    assert context.describe().info.tokens == len(base)
    if len(base) == 0:
        return
    assert np.array_equal(np.vstack([run.embeddings for run in context.read()]), base)
    summary = context.summarize()
    assert summary.count == len(base)
    assert np.allclose(summary.mean, base.mean(0, dtype=np.float64), atol=1e-3)


def check_search(context, base, queries=8):
    """What is found is what a scan of the tokens finds; positions are never doubled."""
    asked = rows(queries, seed=5)
    right = 0
    for query, hits in zip(asked, context.search(asked, target_recall=0.99).hits):
        positions = [hit.position for hit in hits]
        assert len(set(positions)) == len(positions) == 10
        scores = base @ query / np.linalg.norm(base, axis=1)
        right += sum(scores[position] >= np.sort(scores)[-10] - 1e-4 for position in positions)
    assert right >= 0.9 * 10 * queries


@pytest.mark.parametrize("durability", [Durability.SYNC, Durability.INTERVAL])
def test_killed_amid_appends(tmp_path, chance, durability):
    base = rows(0, 0)
    offered = acknowledged = 0
    cut = 0
    for cycle in range(CYCLES + 1):
        with Daemon(tmp_path) as daemon, connect(daemon) as client:
            context = client.create_context(Context("c", DIMENSION, durability=durability))
            tokens = context.info.tokens
            assert tokens <= offered
            if durability is Durability.SYNC:
                assert tokens >= acknowledged
            base = base[:tokens]
            check_tokens(context, base)
            if cycle == CYCLES:
                assert tokens > 0 and cut > 0
                break
            more = rows(chance.randrange(2_000, 6_000), seed=cycle)
            last = chance.randrange(40)

            def batches():
                # Killed while some are on their way, unanswered.
                first = 0
                for number in range(last + 1):
                    count = chance.randrange(1, 200)
                    yield Tokens(more[first : first + count])
                    first += count
                    if first >= len(more):
                        break
                daemon.kill()

            try:
                acknowledged = context.append(batches(), first_position=tokens).next_position
            except MnemoError as error:
                acknowledged = max(tokens, error.acknowledged or 0)
                cut += 1
            base = np.vstack([base, more])
            offered = len(base)


def test_killed_amid_seals(tmp_path, chance):
    acknowledged = set()
    for cycle in range(CYCLES + 1):
        with Daemon(tmp_path) as daemon, connect(daemon) as client:
            for earlier in range(cycle):
                context = client.get_context(f"c{earlier}")
                assert context.info.sealed or earlier not in acknowledged
                if earlier + 1 == cycle:
                    check_tokens(context, rows(500, seed=earlier))
                    # What was not acknowledged can be asked for again.
                    assert context.seal() == 500
                    acknowledged.add(earlier)
                    with pytest.raises(MnemoError) as refused:
                        context.append(Tokens(rows(1, seed=1)))
                    assert refused.value.code is Code.FAILED_PRECONDITION
            if cycle == CYCLES:
                break
            context = client.create_context(Context(f"c{cycle}", DIMENSION))
            context.append(Tokens(rows(500, seed=cycle)))

            def seal():
                try:
                    context.seal()
                except MnemoError:
                    return
                acknowledged.add(cycle)

            sealing = threading.Thread(target=seal)
            sealing.start()
            for _ in range(chance.randrange(4)):
                context.describe()
            daemon.kill()
            sealing.join()


@pytest.mark.parametrize(
    "work, tokens, before, after",
    [
        # The first segment of a context that grows.
        ("sealing", 33_000, 0, 32_768),
        # Three segments of a range that is full become one.
        ("merging", 131_072, 98_304, 131_072),
    ],
)
def test_killed_amid_builds(tmp_path, chance, work, tokens, before, after):
    """Ever later in the build, until one is done, and then earlier again.

    So most kills come close to its end, where what was built is stored, whatever time the
    build takes.
    """
    base = rows(tokens, seed=1)
    amid = 0
    calls = 16
    while amid < CYCLES:
        with Daemon(tmp_path) as daemon, connect(daemon) as client:
            context = client.create_context(Context("c", DIMENSION))
            if context.info.tokens == 0:
                # Two runs at a time: of more it takes what is there, and a single one that
                # is left waits for the next.
                for end in range(32_768, before + 1, 32_768):
                    context.append(Tokens(base[context.describe().info.tokens : end + 1]))
                    until(lambda end=end: context.describe().indexed_tokens >= end, "not indexed")
                context.append(Tokens(base[context.describe().info.tokens :]))
            check_search(context, base)
            assert daemon.metrics()["mnemo_index_load_failures_total"] == 0
            for _ in range(chance.randrange(int(calls) // 2, int(calls))):
                context.describe()
            indexed = context.describe().indexed_tokens
            assert indexed in (before, after)
            daemon.kill()
            if indexed == before:
                amid += 1
                calls *= 1.5
                continue
        calls = max(4, calls / 2)
        with Daemon(tmp_path) as daemon, connect(daemon) as client:
            context = client.get_context("c")
            check_tokens(context, base)
            check_search(context, base)
            assert context.describe().indexed_tokens == after
            assert daemon.metrics()["mnemo_index_load_failures_total"] == 0
            context.delete(wait=True)
    with Daemon(tmp_path) as daemon, connect(daemon) as client:
        context = client.create_context(Context("c", DIMENSION))
        if context.info.tokens > 0:
            until(lambda: context.describe().indexed_tokens >= after, "not indexed")
            check_tokens(context, base)
            check_search(context, base)
