"""The fast lane against the real daemon: every form of memory, both clients."""

import asyncio
import gc
import mmap
import os
import random
import tempfile

import numpy
import pytest

from mnemod import (
    AsyncClient,
    Block,
    Client,
    Code,
    DType,
    FailedPreconditionError,
    Fingerprint,
    Group,
    GroupKind,
    Layout,
    Memory,
    Plane,
    PutOutcome,
    Space,
    Verdict,
    alloc,
    chain,
)

ROW = 64 << 10
ROWS = 64


class ShmFile:
    """What an engine does: a file in /dev/shm, mapped and filled."""

    def __init__(self, size):
        self._file = tempfile.TemporaryFile(dir="/dev/shm")
        self._file.write(bytes(size))
        self._file.flush()
        self.buffer = mmap.mmap(self._file.fileno(), size)
        self.memory = Memory.of_file(self._file, self.buffer)


def make(form):
    """Memory of a form, and a numpy array of rows over it."""
    if form == "alloc":
        memory = alloc(ROWS * ROW)
        return memory, memory.numpy().reshape(ROWS, ROW)
    if form == "shm":
        engine = ShmFile(ROWS * ROW)
        return engine.memory, numpy.frombuffer(engine.buffer, "u1").reshape(ROWS, ROW)
    rows = numpy.zeros((ROWS, ROW), "u1")
    return Memory.of_process(rows), rows


class Pool:
    def __init__(self, form):
        self.memory, self.rows = make(form)


@pytest.fixture(params=("alloc", "shm", "process"))
def pool(request):
    made = Pool(request.param)
    yield made
    made.memory.close()


@pytest.fixture
def fast(daemon):
    """A client that may use nothing else."""
    with Client(daemon.ready["grpc"], deadline=60.0, plane=Plane.FAST) as made:
        yield made


def fill(rows, seed):
    noise = random.Random(seed)
    for row in rows:
        row[:] = numpy.frombuffer(noise.randbytes(row.size), "u1")


def keys_of(name, count):
    return [f"{name}-{i}".encode() for i in range(count)]


def test_blocks_go_out_and_come_back(fast, client, name, pool):
    fast.register(pool.memory)
    space = fast.open_space(Space.opaque(name, tokens_per_block=16))
    keys = keys_of(name, 16)
    fill(pool.rows[:16], name)
    results = space.put(chain(keys, list(pool.rows[:16])))
    assert [(r.outcome, r.plane) for r in results] == [(PutOutcome.STORED, Plane.FAST)] * 16
    assert all(r.outcome is PutOutcome.ALREADY_PRESENT for r in space.put(chain(keys, list(pool.rows[:16]))))

    got = space.get(keys, into=list(pool.rows[16:32]))
    assert all(r.ok and r.plane is Plane.FAST and r.size == ROW for r in got)
    assert (pool.rows[16:32] == pool.rows[:16]).all()
    assert all((numpy.frombuffer(r.data, "u1") == row).all() for r, row in zip(got, pool.rows))
    # The same bytes by gRPC.
    inline = client.get_space(name).get(keys)
    assert all(r.plane is Plane.INLINE for r in inline)
    assert all((numpy.frombuffer(r.data, "u1") == row).all() for r, row in zip(inline, pool.rows))
    assert fast.calls_by_plane() == {Plane.FAST: 3, Plane.BULK: 0, Plane.INLINE: 0}


def test_match_offer_and_touch_have_frames_of_their_own(fast, name, pool):
    fast.register(pool.memory)
    space = fast.open_space(Space.opaque(name, tokens_per_block=16))
    keys = keys_of(name, 4)
    blocks = chain(keys, list(pool.rows[:4]))
    assert [v.verdict for v in space.offer(blocks[:2]).verdicts] == [Verdict.WANT] * 2
    assert all(r.ok for r in space.put(blocks[2:]))
    match = space.match(keys, bitmap=True)
    assert match.blocks == 0 and [match.has(i) for i in range(4)] == [False, False, True, True]
    assert set(match.pending) == {0, 1}
    assert space.touch(keys) == 2
    assert fast.calls_by_plane() == {Plane.FAST: 4, Plane.BULK: 0, Plane.INLINE: 0}


def test_a_matched_prefix_is_leased_read_and_measured(fast, name, pool):
    fast.register(pool.memory)
    space = fast.open_space(Space.opaque(name, tokens_per_block=16))
    keys = keys_of(name, 8)
    space.put(chain(keys, list(pool.rows[:8])))
    match = space.match(keys, lease=30.0)
    assert (match.blocks, match.tokens, match.fetch_bytes) == (8, 128, 8 * ROW)
    assert match.lease and match.fetch_seconds is None
    assert all(r.ok for r in space.get(keys, into=list(pool.rows[8:16]), lease=match.lease))
    assert space.match(keys).fetch_seconds > 0


def test_parts_that_are_missing_or_do_not_fit_fail_alone(fast, name, pool):
    fast.register(pool.memory)
    space = fast.open_space(Space.opaque(name, tokens_per_block=16))
    keys = keys_of(name, 3)
    fill(pool.rows[:2], 1)
    space.put(chain(keys[:2], list(pool.rows[:2])))
    into = [pool.rows[10], pool.rows[11][: ROW - 1], pool.rows[12]]
    first, short, missing = space.get(keys, into=into)
    assert first.ok and (pool.rows[10] == pool.rows[0]).all()
    assert short.error.code is Code.INVALID_ARGUMENT
    assert missing.missing


def test_rows_with_gaps_are_gathered_and_scattered(fast, name, pool):
    fast.register(pool.memory)
    space = fast.open_space(Space.opaque(name, tokens_per_block=16))
    fill(pool.rows, 7)
    before = pool.rows.copy()
    # A column of the pool: every row gives 1,000 bytes.
    assert all(r.ok for r in space.put([Block(b"column", pool.rows[:32, 500:1500])]))
    assert all(r.ok for r in space.get([b"column"], into=[pool.rows[32:, 9:1009]]))
    assert (pool.rows[32:, 9:1009] == before[:32, 500:1500]).all()
    before[32:, 9:1009] = before[:32, 500:1500]
    assert (pool.rows == before).all()


def test_layers_are_read_into_registered_memory(fast, name, pool):
    group = Group("full", GroupKind.FULL, 4, 2, 8, 8, DType.F16, layout=Layout.LAYER_MAJOR)
    geometry = Space(
        name, tokens_per_block=16, groups=(group,), fingerprint=Fingerprint("sha256:1", "f16")
    )
    space = fast.open_space(geometry)
    fast.register(pool.memory)
    size = space.space.part_bytes(0)
    part = pool.rows[0][:size]
    fill([part], 3)
    assert all(r.ok for r in space.put([Block(b"k", part)]))
    layers = pool.rows[1][: size // 2]
    (result,) = space.get([b"k"], layers=(1, 2), into=[layers])
    assert result.ok and result.plane is Plane.FAST
    assert (layers == part[size // 4 : 3 * size // 4]).all()


def test_what_does_not_lie_in_registered_memory_goes_by_grpc(client, name, pool):
    space = client.open_space(Space.opaque(name, tokens_per_block=16))
    client.register(pool.memory)
    other = numpy.zeros(ROW, "u1")
    (result,) = space.put([Block(b"a", other)])
    assert result.ok and result.plane is Plane.INLINE
    (result,) = space.get([b"a"], into=[pool.rows[0]])
    assert result.ok and result.plane is Plane.FAST
    (result,) = space.get([b"a"])
    assert result.ok and result.plane is Plane.INLINE
    client.unregister(pool.memory)
    (result,) = space.get([b"a"], into=[pool.rows[0]])
    assert result.ok and result.plane is Plane.INLINE


def test_who_may_use_the_lane_only_is_told_why_it_cannot(fast, name):
    space = fast.open_space(Space.opaque(name, tokens_per_block=16))
    with pytest.raises(FailedPreconditionError, match="registered memory"):
        space.put([Block(b"a", bytes(10))])


def test_memory_with_holes_is_not_written_to(fast, name):
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.truncate(1 << 20)
        engine = mmap.mmap(file.fileno(), 1 << 20)
        memory = Memory.of_file(file, engine)
        fast.register(memory)
        space = fast.open_space(Space.opaque(name, tokens_per_block=16))
        row = memoryview(engine)
        # Holes are zeros when they are read.
        assert all(r.ok for r in space.put([Block(b"zeros", row[:ROW])]))
        (result,) = space.get([b"zeros"], into=[row[-ROW:]])
        assert result.error.code is Code.FAILED_PRECONDITION and "pages" in result.error.message
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
        (result,) = space.get([b"zeros"], into=[row[-ROW:]])
        assert result.ok
        memory.close()
        del result
        row.release()
        gc.collect()


def test_many_threads_share_a_client(fast, name, pool):
    from concurrent.futures import ThreadPoolExecutor

    fast.register(pool.memory)
    space = fast.open_space(Space.opaque(name, tokens_per_block=16))

    def work(number):
        mine = pool.rows[4 * number : 4 * number + 4]
        fill(mine[:2], number)
        keys = keys_of(f"{name}-{number}", 2)
        for _ in range(10):
            assert all(r.ok for r in space.put(chain(keys, list(mine[:2]))))
            assert all(r.ok for r in space.get(keys, into=list(mine[2:])))
            assert (mine[:2] == mine[2:]).all()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))


def test_the_asynchronous_client_does_the_same(daemon, name, pool):
    async def run():
        async with AsyncClient(daemon.ready["grpc"], deadline=60.0, plane=Plane.FAST) as client:
            client.register(pool.memory)
            space = await client.open_space(Space.opaque(name, tokens_per_block=16))
            keys = keys_of(name, 8)
            fill(pool.rows[:8], name)
            stored = await asyncio.gather(
                *(space.put([Block(key, row)]) for key, row in zip(keys, pool.rows))
            )
            assert all(r.ok and r.plane is Plane.FAST for (r,) in stored)
            assert (await space.match(keys[:1])).blocks == 1
            got = await space.get(keys, into=list(pool.rows[8:16]))
            assert all(r.ok and r.plane is Plane.FAST for r in got)
            assert (pool.rows[8:16] == pool.rows[:8]).all()
            assert client.calls_by_plane()[Plane.INLINE] == 0

    asyncio.run(run())


def test_a_part_as_large_as_the_daemons_budget_is_read(fast, name):
    size = 24 << 20  # more than memory.inflight of this daemon
    with alloc(2 * size) as memory:
        fast.register(memory)
        rows = memory.numpy().reshape(2, size)
        rows[0] = 5
        space = fast.open_space(Space.opaque(name, tokens_per_block=16))
        assert all(r.ok for r in space.put([Block(b"large", rows[0])]))
        (result,) = space.get([b"large"], into=[rows[1]])
        assert result.ok and result.plane is Plane.FAST and (rows[1] == 5).all()
        del result, rows
