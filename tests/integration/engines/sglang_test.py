"""The daemon as SGLang's HiCache drives a storage backend."""

import hashlib

import numpy
import pytest

from mnemod import Client, DType, FailOpen, Fingerprint, Group, GroupKind, Layout, Space
from mnemod.connectors.sglang import ALL_PAGES, TRAILING_PAGES, HiCacheStorage, PoolTransfer
from tests.integration.engines.conftest import DEADLINE_MS

PAGE = 64
GROUPS = (
    Group("kv", GroupKind.FULL, 2, 4, 16, 16, DType.BF16, layout=Layout.TOKEN_MAJOR,
          tensor_parallel_size=2),
    Group("swa", GroupKind.WINDOW, 4, 4, 16, 16, DType.BF16, window_tokens=128, optional=True,
          tensor_parallel_size=2),
    Group("mamba", GroupKind.STATE, 3, fixed_bytes=5000, optional=True, tensor_parallel_size=2),
)  # fmt: skip


def page_keys(count, text=b"prompt"):
    """SHA-256 over the digest before and 4-byte little-endian tokens, in hex."""
    digest, keys = b"", []
    for page in range(count):
        tokens = numpy.arange(page * PAGE, (page + 1) * PAGE, dtype="<u4").tobytes()
        digest = hashlib.sha256(digest + text + tokens).digest()
        keys.append(digest.hex())
    return keys


@pytest.fixture
def space(name):
    return Space(name, PAGE, GROUPS, Fingerprint("sha256:model"))


def storage_of(client, space, rank=0):
    return HiCacheStorage(
        FailOpen(client.open_space(space), deadline_ms=DEADLINE_MS), tp_rank=rank
    )


@pytest.fixture
def storage(client, space):
    return storage_of(client, space)


def pages(space, pool, count, seed=1):
    size = space.part_bytes([g.name for g in GROUPS].index(pool))
    source = numpy.random.default_rng(seed)
    return [source.integers(0, 256, size=size, dtype=numpy.uint8) for _ in range(count)]


def test_values_are_set_and_got(storage, space):
    keys, values = page_keys(4), pages(space, "kv", 4)
    assert storage.batch_set(keys[:3], values[:3])
    target = numpy.zeros_like(values[0])
    assert storage.get(keys[0], target) is target and (target == values[0]).all()
    assert storage.get(keys[1]) == values[1].tobytes()
    assert storage.get(keys[3]) is None
    assert [got is not None for got in storage.batch_get(keys)] == [True, True, True, False]
    assert storage.exists(keys[2]) and not storage.exists(keys[3])
    assert storage.set(keys[3], values[3]) and storage.batch_exists(keys) == 4


def test_exists_counts_consecutive_pages(storage, space):
    keys, values = page_keys(6), pages(space, "kv", 6)
    storage.batch_set(keys[:2] + keys[3:], values[:2] + values[3:])
    assert storage.batch_exists(keys) == 2
    assert storage.batch_exists(keys[3:]) == 3
    assert storage.batch_exists(page_keys(2, b"other")) == storage.batch_exists([]) == 0


def test_v1_moves_pages_of_the_host_pool(storage, space):
    """page_first: the pool's rows are pages; indices are the engine's."""
    keys = page_keys(4)
    size = space.part_bytes(0)
    pool = numpy.random.default_rng(3).integers(0, 256, size=(16, size), dtype=numpy.uint8)
    before = pool.copy()
    assert storage.batch_get_v1(keys, [0, 1, 2, 3]) == [False] * 4
    storage.register_mem_pool_host(lambda index: pool[index])
    assert storage.batch_set_v1(keys[:3], [9, 2, 5]) == [True] * 3
    pool[:] = 0
    assert storage.batch_get_v1(keys, [1, 3, 7, 8]) == [True, True, True, False]
    for row, source in ((1, 9), (3, 2), (7, 5)):
        assert (pool[row] == before[source]).all()
    assert not pool[8].any()
    assert storage.batch_get_v1(keys[:1], [99]) == [False]


def test_each_rank_reads_its_own_part(client, space):
    keys = page_keys(2)
    values = [pages(space, "kv", 2, seed=rank) for rank in range(2)]
    ranks = [storage_of(client, space, rank) for rank in range(2)]
    assert ranks[0].batch_set(keys, values[0])
    assert ranks[0].batch_exists(keys) == 2 and ranks[1].batch_exists(keys) == 0
    assert ranks[1].batch_set(keys, values[1])
    for rank in range(2):
        assert [bytes(v) for v in ranks[rank].batch_get(keys)] == [v.tobytes() for v in values[rank]]


def transfer(space, name, keys, policy=ALL_PAGES, trailing=1, seed=1):
    return PoolTransfer(name, keys, policy, trailing, pages(space, name, len(keys), seed))


def test_v2_moves_several_pools(storage, space):
    keys = page_keys(5)
    sent = [transfer(space, "kv", keys), transfer(space, "swa", keys[3:]),
            transfer(space, "mamba", keys[4:])]  # fmt: skip
    assert storage.batch_set_v2(sent) == {"kv": [True] * 5, "swa": [True] * 2, "mamba": [True]}
    into = [PoolTransfer(t.name, t.keys, buffers=[numpy.zeros_like(b) for b in t.buffers])
            for t in sent]  # fmt: skip
    assert storage.batch_get_v2(into) == {"kv": [True] * 5, "swa": [True] * 2, "mamba": [True]}
    for ours, theirs in zip(into, sent):
        assert all((a == b).all() for a, b in zip(ours.buffers, theirs.buffers))
    missing = PoolTransfer("swa", keys[:2], buffers=[numpy.zeros_like(sent[1].buffers[0])] * 2)
    assert storage.batch_get_v2([missing]) == {"swa": [False, False]}


def test_v2_hits_follow_each_pool_s_policy(storage, space):
    keys = page_keys(6)
    storage.batch_set_v2([transfer(space, "kv", keys[:5]), transfer(space, "swa", keys[2:4]),
                          transfer(space, "mamba", keys[3:4])])  # fmt: skip
    swa = PoolTransfer("swa", hit_policy=TRAILING_PAGES, trailing=2)
    mamba = PoolTransfer("mamba", hit_policy=TRAILING_PAGES, trailing=1)
    assert storage.batch_exists_v2(keys, []) == (5, {"kv": 5})
    # A window of two pages lies behind page 3, and so does the state.
    assert storage.batch_exists_v2(keys, [swa]) == (4, {"kv": 5, "swa": 4})
    assert storage.batch_exists_v2(keys, [swa, mamba]) == (4, {"kv": 5, "swa": 4, "mamba": 4})
    # By ALL_PAGES the pool's first page is missing.
    assert storage.batch_exists_v2(keys, [PoolTransfer("swa")]) == (0, {"kv": 5, "swa": 0})
    # Pages that a pool does not name are pages that it does not have.
    few = PoolTransfer("swa", keys[:4], hit_policy=TRAILING_PAGES, trailing=1)
    assert storage.batch_exists_v2(keys, [few])[0] == 4
    # A pool that was not stored at all allows no prefix.
    other = page_keys(2, b"other")
    storage.batch_set(other, pages(space, "kv", 2))
    assert storage.batch_exists_v2(other, [mamba])[0] == 0


def test_v2_agrees_with_the_daemon_s_own_match(client, storage, space):
    """The same question asked twice: by bitmaps here, by groups there."""
    source = numpy.random.default_rng(5)
    handle = client.get_space(space.name)
    for turn in range(8):
        keys = page_keys(7, bytes([turn]))
        for pool in ("kv", "swa", "mamba"):
            chosen = [key for key in keys if source.random() < 0.8]
            storage.batch_set_v2([transfer(space, pool, chosen)])
        usable, _ = storage.batch_exists_v2(
            keys,
            [PoolTransfer("swa", hit_policy=TRAILING_PAGES, trailing=2),
             PoolTransfer("mamba", hit_policy=TRAILING_PAGES)],
        )  # fmt: skip
        names = [key.encode() for key in keys]
        assert handle.match(names, groups=[0, 1, 2], tp_ranks=[0]).blocks == usable


def test_nothing_ever_raises(storage, space, daemon):
    keys = page_keys(2)
    wrong_size = [numpy.zeros(3, dtype=numpy.uint8)] * 2
    assert storage.batch_set(keys, wrong_size) is False
    assert storage.batch_set(keys, []) is False
    assert storage.batch_get(keys, wrong_size) == [None, None]
    assert storage.batch_get_v2([PoolTransfer("indexer", keys, buffers=wrong_size)]) == {
        "indexer": [False, False]
    }
    assert storage.batch_set_v2([PoolTransfer("indexer", keys, buffers=wrong_size)]) == {
        "indexer": [False, False]
    }
    assert storage.batch_exists_v2([], [PoolTransfer("swa")]) == (0, {"swa": 0})
    assert storage.batch_exists([""]) == 0
    assert storage.get_stats()["failed"] == {"match:INVALID_ARGUMENT": 1}
    with Client(daemon.ready["grpc"]) as gone:
        lost = storage_of(gone, space)
    assert lost.batch_exists(keys) == 0 and lost.get(keys[0]) is None
    assert lost.batch_set(keys, pages(space, "kv", 2)) is False
    lost.clear()
    lost.close()


def test_clear_deletes_the_pages(storage, space):
    keys = page_keys(2)
    storage.batch_set(keys, pages(space, "kv", 2))
    storage.clear()
    assert storage.batch_exists(keys) == 0
