"""Fail-open calls: no exception, bounded time, and a server left alone."""

import mmap
import random
import socket
import time

import grpc
import pytest

from mnemod import Block, BreakerOptions, CircuitBreaker, Client, Code, FailOpen, Part
from mnemod.client import SpaceHandle
from mnemod.spaces import SpaceInfo, Space


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "shed", ())
OPTIONS = BreakerOptions(failures=2, initial_pause=1.0, max_pause=3.0)


def test_a_breaker_opens_after_failures_in_a_row_and_probes_alone():
    clock = Clock()
    breaker = CircuitBreaker(OPTIONS, clock)
    assert not breaker.failure()
    breaker.success()
    assert not breaker.failure()
    assert breaker.failure() and breaker.is_open
    assert not breaker.allow()
    clock.now += 1.0
    assert breaker.allow() and not breaker.allow()
    # Each probe that fails doubles the pause, up to its bound.
    for pause in (2.0, 3.0, 3.0):
        assert not breaker.failure()
        clock.now += pause - 0.01
        assert not breaker.allow()
        clock.now += 0.01
        assert breaker.allow()
    assert breaker.success() and not breaker.is_open
    assert breaker.allow() and breaker.allow()


def test_a_probe_that_tells_nothing_leaves_the_next_call_to_probe():
    clock = Clock()
    breaker = CircuitBreaker(OPTIONS, clock)
    breaker.failure(), breaker.failure()
    clock.now += 1
    assert breaker.allow()
    breaker.nothing()
    assert breaker.is_open and breaker.allow()


def test_a_late_failure_from_before_it_opened_does_not_prolong_the_pause():
    clock = Clock()
    breaker = CircuitBreaker(OPTIONS, clock)
    breaker.failure(), breaker.failure(), breaker.failure()
    clock.now += 1.0
    assert breaker.allow()


def test_failures_of_every_code_are_misses(handle, server):
    engine = FailOpen(handle, deadline_ms=2000, breaker=BreakerOptions(failures=1000))
    engine.put([Block(b"k", b"x")])
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        for method in ("Match", "Get", "Put", "Touch", "Delete", "Renew"):
            server.faults[f"BlockService.{method}"].put((code, "fault", ()))
        assert engine.match([b"k"]).blocks == 0
        results = engine.get([b"k", b"j"], parts=[Part(), Part(0, 1)])
        assert [result.ok for result in results] == [False] * 4
        assert not engine.put([Block(b"new", b"x")])[0].ok
        assert engine.touch([b"k"]) == engine.delete([b"k"]) == 0
        assert engine.release(1) is False
        assert engine.stats().failed[f"match:{code.name}"] == 1
    assert engine.get([b"k"])[0].ok


def test_wrong_arguments_are_misses_too(handle):
    engine = FailOpen(handle, deadline_ms=2000)
    assert not engine.get([b"k"], into=[b"read-only"])[0].ok
    assert not engine.get(["not bytes"])[0].ok
    assert not engine.put([Block(b"k", object())])[0].ok
    assert engine.match([b"k"], nonsense=1).blocks == 0
    assert sum(engine.stats().failed.values()) == 4
    assert not engine.stats().breaker_open


def test_a_dead_server_is_left_alone_and_found_again(handle, server):
    clock = Clock()
    engine = FailOpen(handle, deadline_ms=2000, breaker=OPTIONS, clock=clock)
    for _ in range(2):
        server.faults["BlockService.Match"].put(UNAVAILABLE)
        engine.match([b"k"])
    before = server.calls["BlockService.Match"]
    for _ in range(10):
        assert engine.match([b"k"]).blocks == 0
    assert engine.get([b"k"])[0].error.code is Code.UNAVAILABLE
    stats = engine.stats()
    assert (stats.skipped, stats.breaker_opened, stats.breaker_open) == (11, 1, True)
    assert server.calls["BlockService.Match"] == before
    clock.now += 1
    assert engine.put([Block(b"k", b"x")])[0].ok
    assert engine.match([b"k"]).blocks == 1
    assert not engine.stats().breaker_open


def black_hole_handle(client):
    """A handle that needs no server to be made."""
    info = SpaceInfo(1, Space.opaque("s", tokens_per_block=1), 0, (0,))
    return SpaceHandle(client._transport, info, b"")


def test_a_server_that_never_answers_costs_the_deadline_and_then_nothing():
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        port = listener.getsockname()[1]
        with Client(f"127.0.0.1:{port}") as client:
            engine = FailOpen(black_hole_handle(client), deadline_ms=100, breaker=OPTIONS)
            start = time.monotonic()
            for _ in range(2):
                assert engine.match([b"k"]).blocks == 0
            assert time.monotonic() - start < 1.0
            assert engine.stats().failed == {"match:DEADLINE_EXCEEDED": 2}
            start = time.monotonic()
            for _ in range(100):
                engine.match([b"k"])
            assert time.monotonic() - start < 0.1


def test_a_read_that_breaks_off_counts_as_a_failure(handle, server):
    """The parts that came are given; the others are misses."""
    handle.put([Block(b"a", b"1"), Block(b"b", b"2")])

    original = server._runs

    def fail_on_second(group, size, request):
        if request.keys[0] == b"a":
            server._runs = original

            def then_break(*_):
                raise RuntimeError("fake breaks off")

            server._runs = then_break
        return original(group, size, request)

    server._runs = fail_on_second
    engine = FailOpen(handle, deadline_ms=2000)
    first, second = engine.get([b"a", b"b"])
    assert first.ok and first.data == b"1"
    assert not second.ok and second.error.code is Code.UNKNOWN


def test_random_faults_never_raise(handle, server):
    source = random.Random(7)
    engine = FailOpen(handle, deadline_ms=500, breaker=BreakerOptions(3, 0.001, 0.002))
    codes = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
    for round_number in range(200):
        method = source.choice(["Match", "Get", "Put"])
        server.faults[f"BlockService.{method}"].put((source.choice(codes), "x", ()))
        key = bytes([source.randrange(8)])
        results = engine.put([Block(key, key * source.randrange(1, 3_000))])
        assert len(results) == 1
        for result in engine.get([key, b"none"]):
            assert not result.ok or result.data == key * result.size
        assert engine.match([key]).blocks <= 1, round_number


def test_options_out_of_range_are_refused(handle):
    with pytest.raises(ValueError, match="deadline_ms"):
        FailOpen(handle, deadline_ms=0)
    with pytest.raises(ValueError, match="failures"):
        BreakerOptions(failures=0)
    with pytest.raises(ValueError, match="pause"):
        BreakerOptions(initial_pause=2, max_pause=1)


def test_a_failure_does_not_keep_the_caller_s_memory(handle, server):
    """An engine closes its pool while it still holds the results."""
    engine = FailOpen(handle, deadline_ms=2000)
    with mmap.mmap(-1, 4096) as pool:
        server.faults["BlockService.Get"].put((grpc.StatusCode.INTERNAL, "bug", ()))
        result = engine.get([b"k"], into=[memoryview(pool)])
        assert not result[0].ok
