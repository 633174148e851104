"""Prefixes of prompts in a space: what is stored, what is fetched, and what a failure costs."""

from __future__ import annotations

import pathlib
import threading

import numpy as np
import pytest

from fake_server import FakeServer
from mnemod import Client, Memory, RetryPolicy
from mnemod.connectors.llama_cpp import FULL, WINDOW, EngineOptions, KvGroup
from mnemod.connectors.llama_prefix import PrefixStore, space_of
from mnemod.spaces import Rope, RopePairing

BLOCK = 4
FULL_BYTES, WINDOW_BYTES = 64, 96
DATA_LOSS = 15


class FakeEngine:
    """An engine whose state of a block is a function of its index."""

    options = EngineOptions(pathlib.Path("none"), context_tokens=64, block_tokens=BLOCK)
    groups = (
        KvGroup(FULL, 0, 2, 1, 2, 2, "f16", FULL_BYTES, 0),
        KvGroup(WINDOW, 6, 3, 1, 2, 2, "f16", WINDOW_BYTES, 2),
    )
    ropes = {FULL: Rope(1e5, 2, RopePairing.INTERLEAVED)}
    fingerprint = {"weights_digest": "sha256:00", "kv_cache_dtype": "f16", "state_format": "fake"}

    def save_block(self, index):
        return {
            FULL: np.full(FULL_BYTES, index, np.uint8),
            WINDOW: np.full(WINDOW_BYTES, 100 + index, np.uint8),
        }


class DamagingServer(FakeServer):
    """Answers DATA_LOSS for the parts in `damaged`: (key, group), and forgets them."""

    def __init__(self):
        self.damaged = set()
        super().__init__()

    def _blockservice_get(self, request, context):
        space = self._find(request.space, context)
        for response in super()._blockservice_get(request, context):
            header = response.header
            name = (bytes(request.keys[header.index]), request.parts[0].group)
            if response.HasField("header") and name in self.damaged:
                header.error.code = DATA_LOSS
                self.blocks[space.id, request.salt, name[0]].pop((name[1], 0, 0), None)
                yield response
            elif (
                response.HasField("header")
                or (
                    bytes(request.keys[response.data.index]),
                    request.parts[0].group,
                )
                not in self.damaged
            ):
                yield response


@pytest.fixture
def server():
    with DamagingServer() as running:
        yield running


@pytest.fixture
def store(server):
    with Client(server.target, retry=RetryPolicy(attempts=1), deadline=5.0) as client:
        engine = FakeEngine()
        prefix = PrefixStore(engine, client.open_space(space_of(engine, "test")), deadline=5.0)
        yield prefix
        prefix.close()


def stored(store, tokens):
    for index in range(len(tokens) // BLOCK):
        store.store(tokens, index)
    return store.drain()


def test_the_space_declares_what_the_engine_saves():
    space = space_of(FakeEngine(), "test")
    assert [space.part_bytes(group) for group in (0, 1)] == [FULL_BYTES, WINDOW_BYTES]


def test_fetches_all_of_the_full_group_and_the_last_of_the_window(store):
    tokens = list(range(18))
    totals = stored(store, tokens)
    assert (totals.stored_parts, totals.failed_parts) == (8, 0)
    assert totals.stored_bytes == 4 * (FULL_BYTES + WINDOW_BYTES)
    found = store.fetch(tokens)
    assert [sorted(block) for block in found.blocks] == [[FULL], [FULL]] + [[FULL, WINDOW]] * 2
    assert [int(block[FULL][0]) for block in found.blocks] == [0, 1, 2, 3]
    assert [int(block[WINDOW][0]) for block in found.blocks[2:]] == [102, 103]
    assert found.fetched_bytes == 4 * FULL_BYTES + 2 * WINDOW_BYTES
    assert not found.misses and not found.error


@pytest.mark.parametrize("fits", [True, False], ids=["all", "some"])
def test_blocks_are_fetched_into_the_memory_that_is_given(server, fits):
    tokens = list(range(18))
    with Client(server.target, deadline=60.0) as client:
        space = client.open_space(space_of(FakeEngine(), "test"))
        page = np.zeros(4 * FULL_BYTES if fits else 3 * FULL_BYTES, np.uint8)
        memory = Memory.of_process(page)
        prefix = PrefixStore(FakeEngine(), space, memory=memory)
        stored(prefix, tokens)
        for _ in range(2):
            found = prefix.fetch(tokens)
            assert [int(block[FULL][0]) for block in found.blocks] == [0, 1, 2, 3]
            inside = [np.shares_memory(block[FULL], page) for block in found.blocks]
            assert inside == [True, True, True, fits]
            assert found.planes == {"inline": 6}
        prefix.close()


def test_leaves_the_last_token_to_be_computed(store):
    tokens = list(range(16))
    stored(store, tokens)
    assert len(store.fetch(tokens).blocks) == 3


def test_another_prompt_shares_the_blocks_before_the_first_difference(store):
    tokens = list(range(17))
    stored(store, tokens)
    assert len(store.fetch(tokens[:8] + [99] * 9).blocks) == 2


def test_the_space_says_how_positions_turned_the_keys():
    full, window = space_of(FakeEngine(), "test").groups
    assert full.rope == Rope(1e5, 2, RopePairing.INTERLEAVED) and window.rope is None


def test_storing_again_finds_the_parts_present(store):
    tokens = list(range(9))
    stored(store, tokens)
    totals = stored(store, tokens)
    assert (totals.stored_parts, totals.present_parts) == (0, 4)


@pytest.mark.parametrize(("group", "index", "left"), [(0, 2, 2), (0, 0, 0), (1, 3, 3), (1, 2, 2)])
def test_a_damaged_part_shortens_the_prefix_to_before_it(server, store, group, index, left):
    tokens = list(range(17))
    stored(store, tokens)
    server.damaged.add((store.keys(tokens)[index], group))
    found = store.fetch(tokens)
    assert len(found.blocks) == left
    assert any(miss.startswith(f"block {index}, ") for miss in found.misses)
    for block in found.blocks[-2:]:
        assert sorted(block) == [FULL, WINDOW]


def test_a_daemon_that_is_gone_is_a_miss_and_a_count(server, store):
    tokens = list(range(17))
    stored(store, tokens)
    server.stop()
    found = store.fetch(tokens)
    assert found.blocks == [] and found.error
    totals = stored(store, tokens)
    assert totals.failed_parts == 8 and totals.error


def test_a_writer_that_is_behind_never_holds_up_the_engine(server):
    held = threading.Event()
    with Client(server.target, retry=RetryPolicy(attempts=1)) as client:
        engine = FakeEngine()
        handle = client.open_space(space_of(engine, "test"))

        class HeldSpace:
            info = handle.info

            def put(self, blocks, deadline):
                held.wait(10)
                return handle.put(blocks, deadline=deadline)

        store = PrefixStore(engine, HeldSpace(), waiting=1)
        tokens = list(range(64))
        for index in range(16):
            store.store(tokens, index)
        held.set()
        totals = store.drain()
        store.close()
    assert totals.failed_parts >= 2 * 14 and totals.error == "the writer is behind"
    assert totals.stored_parts + totals.failed_parts == 2 * 16


def test_the_space_is_refused_to_an_engine_of_another_fingerprint(server, store):
    class Other(FakeEngine):
        fingerprint = {**FakeEngine.fingerprint, "state_format": "other"}

    with Client(server.target) as client, pytest.raises(Exception, match="differs"):
        client.open_space(space_of(Other(), "test"))
