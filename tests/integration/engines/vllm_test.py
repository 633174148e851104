"""The daemon as vLLM's offloading connector drives a secondary tier."""

import contextlib
import hashlib
import mmap
import os
import tempfile
import threading
import time

import numpy
import pytest

from mnemod import Block, DType, FailOpen, Fingerprint, Group, GroupKind, Part, Space
from mnemod.connectors.vllm import Lookup, SecondaryTier
from tests.integration.engines.conftest import DEADLINE_MS

BLOCK_TOKENS = 16
RANKS = 2
LAYERS, HEADS, DIMENSION = 4, 4, 32
GROUPS = (
    Group("attention", GroupKind.FULL, LAYERS, HEADS, DIMENSION, DIMENSION, DType.BF16,
          tensor_parallel_size=RANKS),
    Group("window", GroupKind.WINDOW, LAYERS, HEADS, DIMENSION, DIMENSION, DType.BF16,
          window_tokens=64, tensor_parallel_size=RANKS),
)  # fmt: skip
ROWS = 64


def offload_keys(count, group, text=b"prompt"):
    """sha256(parent, tokens, extra) and a 4-byte big-endian group index."""
    digest, keys = b"salt enters the first block only", []
    for block in range(count):
        tokens = range(block * BLOCK_TOKENS, (block + 1) * BLOCK_TOKENS)
        digest = hashlib.sha256(digest + text + repr(list(tokens)).encode()).digest()
        keys.append(digest + group.to_bytes(4, "big"))
    return keys


class Primary:
    """The CPU tier: a mapped file in /dev/shm whose rows are strided.

    Each layer is a run of all blocks, so a block's row has a gap behind each
    layer: [layer, block, bytes].
    """

    def __init__(self, part_bytes):
        self.per_layer = part_bytes // LAYERS
        size = LAYERS * ROWS * self.per_layer
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
            os.ftruncate(file.fileno(), size)
            self.map = mmap.mmap(file.fileno(), size)
        pool = numpy.frombuffer(self.map, dtype=numpy.uint8)
        self.pool = pool.reshape(LAYERS, ROWS, self.per_layer)

    def row(self, index):
        return self.pool[:, index, :]

    def close(self):
        del self.pool
        self.map.close()


@pytest.fixture
def space(name):
    return Space(name, BLOCK_TOKENS, GROUPS, Fingerprint("sha256:model"))


@pytest.fixture
def primary(space):
    made = Primary(space.part_bytes(0))
    yield made
    made.close()


@pytest.fixture
def tiers(client, space):
    """One tier for each tensor-parallel rank."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                contextlib.closing(
                    SecondaryTier(
                        FailOpen(client.open_space(space), deadline_ms=DEADLINE_MS), tp_rank=rank
                    )
                )
            )
            for rank in range(RANKS)
        ]


def settled(tier, key, limit=60.0):
    """What the scheduler learns when it asks in each of its steps."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        answer = tier.lookup(key)
        if answer is not Lookup.RETRY:
            return answer
        os.sched_yield()
    raise AssertionError("the look-up never settled")


def run_jobs(tier, *jobs):
    for number, submit, rows in jobs:
        submit(number, rows)
    tier.drain_jobs()
    return dict(tier.get_finished_jobs())


def fill(primary, indexes, seed):
    source = numpy.random.default_rng(seed)
    for index in indexes:
        primary.row(index)[:] = source.integers(0, 256, primary.row(index).shape, dtype=numpy.uint8)


def test_rows_are_stored_and_loaded_where_they_lie(tiers, primary):
    keys = offload_keys(8, 0)
    fill(primary, range(8), 1)
    before = primary.pool.copy()
    stored = run_jobs(tiers[0], (7, tiers[0].submit_store, [(k, primary.row(i)) for i, k in enumerate(keys)]))
    assert stored == {7: True}
    primary.pool[:] = 0
    rows = [20, 3, 41, 5, 60, 33, 12, 9]
    load = [(key, primary.row(row)) for key, row in zip(keys, rows)]
    assert run_jobs(tiers[0], (8, tiers[0].submit_load, load)) == {8: True}
    for index, row in enumerate(rows):
        assert (primary.row(row) == before[:, index, :]).all()
    untouched = [i for i in range(ROWS) if i not in rows]
    assert not primary.pool[:, untouched, :].any()
    assert tiers[0].get_finished_jobs() == []


def test_ranks_and_groups_are_apart(tiers, primary):
    fill(primary, range(4), 2)
    full, window = offload_keys(1, 0)[0], offload_keys(1, 1)[0]
    assert run_jobs(tiers[0], (1, tiers[0].submit_store, [(full, primary.row(0))])) == {1: True}
    assert settled(tiers[0], full) is Lookup.HIT
    assert settled(tiers[1], full) is Lookup.MISS
    assert settled(tiers[0], window) is Lookup.MISS
    run_jobs(tiers[1], (2, tiers[1].submit_store, [(full, primary.row(1)), (window, primary.row(2))]))
    for tier, key, row in ((tiers[0], full, 0), (tiers[1], full, 1), (tiers[1], window, 2)):
        assert run_jobs(tier, (3, tier.submit_load, [(key, primary.row(9))])) == {3: True}
        assert (primary.row(9) == primary.row(row)).all()


def test_a_lookup_answers_from_memory_and_never_waits(tiers, primary):
    """On the scheduler's thread: tens of microseconds, whatever the server does."""
    fill(primary, range(1), 3)
    (key,) = offload_keys(1, 0)
    run_jobs(tiers[0], (1, tiers[0].submit_store, [(key, primary.row(0))]))
    assert settled(tiers[0], key) is Lookup.HIT
    times = []
    for number in range(2000):
        unknown = hashlib.sha256(number.to_bytes(4, "big")).digest() + bytes(4)
        for asked in (key, unknown):
            start = time.thread_time()
            tiers[0].lookup(asked)
            times.append(time.thread_time() - start)
    # The thread's own time: the machine's other work is not the look-up's.
    assert sorted(times)[len(times) // 2] < 50e-6


def test_a_block_that_is_being_written_is_pending(client, tiers, space):
    (key,) = offload_keys(1, 0)
    handle = client.get_space(space.name)
    offer = handle.offer([Block(key[:-4], bytes(space.part_bytes(0)), Part(0, 0))], reserve=30)
    assert settled(tiers[0], key) is Lookup.HIT_PENDING
    assert handle.put(
        [Block(key[:-4], bytes(space.part_bytes(0)), Part(0, 0))], reservation=offer.reservation
    )[0].ok
    end = time.monotonic() + 60
    while settled(tiers[0], key) is not Lookup.HIT:
        assert time.monotonic() < end


def test_a_reported_hit_is_leased_until_it_is_read(client, tiers, primary, space):
    fill(primary, range(1), 4)
    (key,) = offload_keys(1, 0)
    handle = client.get_space(space.name)
    run_jobs(tiers[0], (1, tiers[0].submit_store, [(key, primary.row(0))]))
    assert not handle.describe([key[:-4]])[0].leased
    assert settled(tiers[0], key) is Lookup.HIT
    assert handle.describe([key[:-4]])[0].leased
    assert run_jobs(tiers[0], (2, tiers[0].submit_load, [(key, primary.row(1))])) == {2: True}
    assert not handle.describe([key[:-4]])[0].leased


def test_a_load_that_fails_fails_its_job_alone_and_is_a_miss(client, tiers, primary, space):
    keys = offload_keys(3, 0)
    fill(primary, range(3), 5)
    run_jobs(tiers[0], (1, tiers[0].submit_store, [(k, primary.row(i)) for i, k in enumerate(keys)]))
    assert settled(tiers[0], keys[1]) is Lookup.HIT
    client.get_space(space.name).delete([keys[1][:-4]])
    jobs = [(i + 2, tiers[0].submit_load, [(key, primary.row(10 + i))]) for i, key in enumerate(keys)]
    assert run_jobs(tiers[0], *jobs) == {2: True, 3: False, 4: True}
    assert tiers[0].lookup(keys[1]) is Lookup.MISS
    assert run_jobs(tiers[0], (9, tiers[0].submit_load, [(b"bad", primary.row(0))])) == {9: False}


def test_ranks_work_at_once(tiers, primary):
    fill(primary, range(ROWS), 6)
    before = primary.pool.copy()
    keys = offload_keys(ROWS // RANKS, 0)

    def work(rank):
        mine = range(rank * len(keys), (rank + 1) * len(keys))
        jobs = [(i, tiers[rank].submit_store, [(key, primary.row(row))])
                for i, (key, row) in enumerate(zip(keys, mine))]  # fmt: skip
        assert all(run_jobs(tiers[rank], *jobs).values())
        for row in mine:
            primary.row(row)[:] = 0
        load = [(key, primary.row(row)) for key, row in zip(keys, mine)]
        assert run_jobs(tiers[rank], (99, tiers[rank].submit_load, load)) == {99: True}

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(RANKS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (primary.pool == before).all()


def test_a_server_that_is_gone_makes_misses(client, space, primary):
    handle = client.open_space(space)
    client.close()
    tier = SecondaryTier(FailOpen(handle, deadline_ms=500))
    with contextlib.closing(tier):
        (key,) = offload_keys(1, 0)
        assert settled(tier, key) is Lookup.MISS
        assert run_jobs(tier, (1, tier.submit_load, [(key, primary.row(0))])) == {1: False}
        assert run_jobs(tier, (2, tier.submit_store, [(key, primary.row(0))])) == {2: False}
