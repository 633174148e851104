"""kill -9 and start again: each durability class keeps what it promises."""

import os
import time

import pytest

from mnemod import (
    Block,
    BreakerOptions,
    Client,
    Durability,
    FailOpen,
    Level,
    NotFoundError,
    Space,
    UnavailableError,
    chain,
)
from tests.integration.operate.daemon import Daemon


def payloads(count, size=60_000):
    return {b"k%d" % i: os.urandom(size + i) for i in range(count)}


def test_sync_keeps_everything_that_was_acknowledged(tmp_path):
    stored = payloads(40)
    space = Space.opaque("s", tokens_per_block=1, durability=Durability.SYNC)
    for turn in range(3):
        with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
            handle = client.open_space(space)
            assert handle.created == (turn == 0)
            if turn == 0:
                assert all(r.ok for r in handle.put([Block(k, v) for k, v in stored.items()]))
            reads = handle.get(list(stored))
            assert [read.data for read in reads] == list(stored.values())
            assert handle.match(list(stored)).blocks == len(stored)
            daemon.kill()


def test_flush_and_pin_save_what_the_cache_class_may_lose(tmp_path):
    flushed, pinned, late = payloads(10), {b"pinned": os.urandom(5000)}, {b"late": b"x" * 5000}
    space = Space.opaque("s", tokens_per_block=1)
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        handle = client.open_space(space)
        handle.put([Block(k, v) for k, v in flushed.items()])
        handle.flush()
        handle.put([Block(k, v) for k, v in pinned.items()])
        assert handle.pin(list(pinned)).parts_pinned == 1
        handle.put([Block(k, v) for k, v in late.items()])
        daemon.kill()
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        handle = client.open_space(space)
        kept = {**flushed, **pinned}
        assert [read.data for read in handle.get(list(kept))] == list(kept.values())
        assert handle.describe([b"pinned"])[0].pinned
        # May be gone, never wrong.
        (read,) = handle.get([b"late"])
        assert read.missing or read.data == late[b"late"]


def test_interval_loses_at_most_a_suffix(tmp_path):
    space = Space.opaque("s", tokens_per_block=1, durability=Durability.INTERVAL)
    stored = payloads(60, 5000)
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        handle = client.open_space(space)
        for key, value in stored.items():
            assert handle.put([Block(key, value)])[0].ok
        daemon.kill()
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        reads = client.open_space(space).get(list(stored))
        there = [read.ok for read in reads]
        assert there == sorted(there, reverse=True)
        # kill -9 alone takes nothing from the kernel's cache.
        assert all(read.data == stored[read.key] for read in reads if read.ok)


def test_what_was_deleted_stays_deleted(tmp_path):
    space = Space.opaque("s", tokens_per_block=1, durability=Durability.SYNC)
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        handle = client.open_space(space)
        handle.put([Block(b"gone", b"x"), Block(b"here", b"y")])
        match = handle.match([b"here"], lease=30)
        assert handle.delete([b"gone"]) == 1
        client.open_space(Space.opaque("dropped", tokens_per_block=1))
        client.delete_space("dropped")
        daemon.kill()
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        handle = client.open_space(space)
        gone, here = handle.get([b"gone", b"here"])
        assert gone.missing and here.data == b"y"
        with pytest.raises(NotFoundError):
            client.get_space("dropped")
        with pytest.raises(NotFoundError):
            handle.release(match.lease)


def test_a_client_survives_the_restart_of_its_daemon(tmp_path):
    """Over the UNIX socket, whose name stays."""
    space = Space.opaque("s", tokens_per_block=1, durability=Durability.SYNC)
    with Daemon(tmp_path) as first:
        client = Client(f"unix:{first.ready['unix']}", deadline=20)
        handle = client.open_space(space)
        engine = FailOpen(handle, deadline_ms=500, breaker=BreakerOptions(1, 0.01, 0.02))
        assert engine.put([Block(b"k", b"x")], deadline_ms=20_000)[0].ok
        first.kill()
        assert engine.match([b"k"]).blocks == 0
        with pytest.raises(UnavailableError):
            handle.without_retries().match([b"k"])
    with Daemon(tmp_path), client:
        # The blocking client's retries bridge the channel's reconnection.
        assert handle.match([b"k"], deadline=20).blocks == 1
        assert handle.get([b"k"])[0].data == b"x"


def test_fail_open_calls_find_a_daemon_that_came_back(tmp_path):
    space = Space.opaque("s", tokens_per_block=1, durability=Durability.SYNC)
    with Daemon(tmp_path) as first:
        client = Client(f"unix:{first.ready['unix']}", deadline=20)
        engine = FailOpen(
            client.open_space(space), deadline_ms=500, breaker=BreakerOptions(1, 0.01, 0.02)
        )
        assert engine.put([Block(b"k", b"x")], deadline_ms=20_000)[0].ok
        first.kill()
        for _ in range(3):
            assert engine.match([b"k"]).blocks == 0
        assert engine.stats().breaker_opened >= 1
    with Daemon(tmp_path), client:
        end = time.monotonic() + 20
        while not engine.match([b"k"]).blocks:
            assert time.monotonic() < end
        assert not engine.stats().breaker_open


def test_a_prefetch_brings_a_chain_back_into_ram(tmp_path):
    stored = payloads(64, 50_000)
    space = Space.opaque("s", tokens_per_block=1, durability=Durability.SYNC)
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        handle = client.open_space(space)
        assert all(r.ok for r in handle.put(chain(list(stored), list(stored.values()))))
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        handle = client.open_space(space)
        keys = list(stored)
        assert {part.level for part in handle.describe(keys)} == {Level.L3}
        asked = handle.prefetch([*keys, b"none"])
        assert (asked.queued, asked.absent, asked.dropped) == (64, 1, 0)
        while {part.level for part in handle.describe(keys)} != {Level.L1}:
            pass
        assert handle.prefetch(keys, cancel=asked.prefetch).in_ram == 64
        reads = handle.get(keys)
        assert [read.data for read in reads] == list(stored.values())
        assert {read.level for read in reads} == {Level.L1}
        assert handle.prefetch(cancel=asked.prefetch).prefetch == 0
