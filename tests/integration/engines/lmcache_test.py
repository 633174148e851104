"""The daemon as LMCache drives a native plugin."""

import contextlib
import hashlib
import select

import numpy
import pytest

from mnemod import FailOpen, Space
from mnemod.connectors.lmcache import LMCacheConnector
from tests.integration.engines.conftest import DEADLINE_MS

# [2, L, T, D] in halves: chunks of 256 tokens of a small model.
SHAPE = (2, 4, 256, 128)


@pytest.fixture
def connector(client, name):
    handle = client.open_space(Space.opaque(name, tokens_per_block=256))
    made = LMCacheConnector(FailOpen(handle, deadline_ms=DEADLINE_MS))
    with contextlib.closing(made):
        yield made


def chunk_keys(count, model="mistralai/Mistral-7B-Instruct-v0.2"):
    """`model@world@worker@hash@dtype`: more than 64 bytes for most models."""
    hashes = [hashlib.sha256(bytes([i])).hexdigest()[:16] for i in range(count)]
    return [f"{model}@8@3@{digest}@bfloat16" for digest in hashes]


def chunks(count, seed=1):
    """Views of one pinned pool, as the engine hands them out."""
    source = numpy.random.default_rng(seed)
    pool = source.integers(0, 65_536, size=(count, *SHAPE), dtype=numpy.uint16)
    return [memoryview(pool[i]) for i in range(count)]


def completions(connector, wanted):
    """Waits on the descriptor, as the engine's event loop does."""
    found = {}
    while set(found) < set(wanted):
        readable, _, _ = select.select([connector.event_fd], [], [], 60)
        assert readable, f"no completion; have {sorted(found)} of {sorted(wanted)}"
        for number, ok, error, values in connector.drain_completions():
            assert number not in found
            found[number] = (ok, error, values)
    return found


@pytest.mark.parametrize("model", ["m", "mistralai/Mixtral-8x7B-Instruct-v0.1-with-a-long-name"])
def test_chunks_are_set_asked_for_and_got_through_the_descriptor(connector, model):
    keys, stored = chunk_keys(5, model), chunks(5)
    assert (len(keys[0]) > 64) == (model != "m")
    number = connector.submit_batch_set(keys, stored)
    assert completions(connector, [number])[number] == (True, None, [True] * 5)

    targets = [memoryview(numpy.zeros(SHAPE, dtype=numpy.uint16)) for _ in range(6)]
    asked = [*keys[:2], "nobody@1@0@0@half", *keys[2:]]
    exists = connector.submit_batch_exists(asked)
    got = connector.submit_batch_get(asked, targets)
    found = completions(connector, [exists, got])
    expected = [True, True, False, True, True, True]
    assert found[exists] == found[got] == (True, None, expected)
    assert [target.tobytes() for i, target in enumerate(targets) if i != 2] == [
        chunk.tobytes() for chunk in stored
    ]
    assert not any(targets[2].tobytes())


def test_contains_counts_a_consecutive_prefix(connector):
    keys, stored = chunk_keys(6), chunks(6)
    connector.batch_set(keys[:3] + keys[4:], stored[:3] + stored[4:])
    assert connector.batched_contains(keys) == 3
    assert connector.batch_exists(keys) == [True, True, True, False, True, True]
    assert connector.batched_contains(keys[3:]) == 0
    assert connector.batched_contains([]) == 0


def test_long_keys_that_differ_only_at_their_end_are_apart(connector):
    base = "x" * 100
    connector.batch_set([base + "@half", base + "@bfloat16"], [b"half", b"bfloat16"])
    targets = [bytearray(8), bytearray(8)]
    assert connector.batch_get([base + "@bfloat16", base + "@half"], targets) == [True, True]
    assert (bytes(targets[0]), bytes(targets[1][:4])) == (b"bfloat16", b"half")


def test_a_buffer_that_is_too_small_is_a_miss_of_its_chunk_alone(connector):
    keys, stored = chunk_keys(2), chunks(2)
    connector.batch_set(keys, stored)
    targets = [bytearray(10), bytearray(stored[1].nbytes)]
    assert connector.batch_get(keys, targets) == [False, True]
    assert targets[1] == stored[1].tobytes()


def test_many_batches_at_once_complete_each_once(connector):
    stored = chunks(24)
    keys = chunk_keys(24)
    sets = [connector.submit_batch_set([key], [chunk]) for key, chunk in zip(keys, stored)]
    assert all(values == [True] for _, _, values in completions(connector, sets).values())
    targets = [bytearray(chunk.nbytes) for chunk in stored]
    gets = [connector.submit_batch_get([k], [t]) for k, t in zip(keys, targets)]
    assert all(values == [True] for _, _, values in completions(connector, gets).values())
    assert targets == [chunk.tobytes() for chunk in stored]


def test_a_daemon_that_is_gone_makes_misses(client, name, daemon):
    handle = client.open_space(Space.opaque(name, tokens_per_block=256))
    client.close()
    connector = LMCacheConnector(FailOpen(handle, deadline_ms=1000))
    with contextlib.closing(connector):
        number = connector.submit_batch_get(["k"], [bytearray(4)])
        assert completions(connector, [number])[number] == (True, None, [False])
        assert connector.batched_contains(["k"]) == 0
    with pytest.raises(RuntimeError, match="closed"):
        connector.submit_batch_exists(["k"])
