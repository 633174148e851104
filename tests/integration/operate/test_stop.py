"""Shutdown: ordered, bounded, and nothing lost that was promised."""

import signal
import socket
import threading

import grpc
import numpy
import pytest

from mnemod import Client, Durability, MnemoError, Space, chain
from tests.integration.operate.daemon import Daemon


def blocks_of(count, size=256 << 10):
    keys = [b"block-%04d" % i for i in range(count)]
    return keys, [numpy.random.default_rng(i).bytes(size) for i in range(count)]


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_idle_daemon_stops_with_code_0(tmp_path, with_signal):
    with Daemon(tmp_path) as daemon:
        assert daemon.stop(with_signal) == 0
        assert "event=stopped" in daemon.log_text().splitlines()[-1]
        assert "clean=true" in daemon.log_text()
    with Daemon(tmp_path) as daemon:
        opened = [line for line in daemon.log_text().splitlines() if "event=opened" in line]
        assert len(opened) == 2 and "clean=true" in opened[1]


def test_cache_and_sync_blocks_are_there_after_a_graceful_stop(tmp_path):
    keys, payloads = blocks_of(40)
    space = Space.opaque("kept", tokens_per_block=16)
    with Daemon(tmp_path) as daemon:
        with Client(daemon.ready["grpc"], deadline=30.0) as client:
            handle = client.open_space(space)
            for durability, part in ((Durability.CACHE, slice(0, 20)),
                                     (Durability.SYNC, slice(20, 40))):
                results = handle.put(chain(keys, payloads[part], first=part.start),
                                     durability=durability)
                assert all(result.ok for result in results)
        assert daemon.stop() == 0
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=30.0) as client:
        results = client.open_space(space).get(keys)
        assert [bytes(result.data) == data for result, data in zip(results, payloads)] == [
            True] * 40


def test_call_in_progress_ends_before_the_daemon_does(tmp_path):
    """A put whose payload is under way when SIGTERM comes is stored whole."""
    keys, payloads = blocks_of(60, 1 << 20)
    space = Space.opaque("late", tokens_per_block=16)
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=30.0) as client:
        handle = client.open_space(space)
        outcome = {}

        def put():
            try:
                outcome["results"] = handle.put(chain(keys, payloads), durability=Durability.SYNC)
            except MnemoError as error:
                outcome["error"] = error

        writer = threading.Thread(target=put)
        writer.start()
        while "mnemo_inflight_bytes" not in daemon.metrics() or (
                daemon.metrics()["mnemo_inflight_bytes"] == 0 and writer.is_alive()):
            pass
        assert daemon.stop() == 0
        writer.join()
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=30.0) as client:
        found = client.open_space(space).get(keys)
        acknowledged = [result.ok for result in outcome.get("results", [])]
        for index, ok in enumerate(acknowledged):
            if ok:
                assert bytes(found[index].data) == payloads[index], index
        for index, result in enumerate(found):
            assert result.missing or bytes(result.data) == payloads[index]
        # Nothing cut it short: the drain is longer than the rest of the put.
        assert acknowledged == [True] * 60, outcome


def test_endless_watch_does_not_hold_the_daemon(tmp_path):
    with Daemon(tmp_path, "--set", "shutdown.drain=200ms") as daemon:
        with Client(daemon.ready["grpc"], deadline=30.0) as client:
            handle = client.open_space(Space.opaque("watched", tokens_per_block=16))
            with handle.watch() as watch:
                handle.put(chain([b"a"], [b"x" * 1000]))
                next(iter(watch))
                assert daemon.stop(timeout=20) == 0


def test_silent_connections_do_not_hold_the_daemon(tmp_path):
    with Daemon(tmp_path, "--set", "shutdown.drain=200ms") as daemon:
        connections = []
        for name in ("grpc", "metrics", "probes"):
            host, port = daemon.ready[name].rsplit(":", 1)
            for _ in range(4):
                connections.append(socket.create_connection((host, int(port))))
        connections[-1].sendall(b"GET /livez HT")  # and never the rest
        assert daemon.stop(timeout=20) == 0
        for connection in connections:
            connection.close()


def test_stopping_daemon_says_not_ready_and_takes_no_new_calls(tmp_path):
    """While one call drains, probes say no, and new calls are refused."""
    with Daemon(tmp_path) as daemon:
        with Client(daemon.ready["grpc"], deadline=30.0) as client:
            handle = client.open_space(Space.opaque("draining", tokens_per_block=16))
            with handle.watch() as watch:
                handle.put(chain([b"a"], [b"x" * 1000]))
                next(iter(watch))
                daemon.process.send_signal(signal.SIGTERM)
                while daemon.get("/readyz", "probes")[0] == 200:
                    pass
                assert daemon.get("/readyz", "probes")[:2] == (503, "stopping\n")
                assert daemon.get("/livez", "probes")[0] == 200
                assert daemon.get("/startupz", "probes")[0] == 200
                with grpc.insecure_channel(daemon.ready["grpc"]) as channel:
                    call = channel.unary_unary("/mnemo.v1.AdminService/GetNodeStatus")
                    with pytest.raises(grpc.RpcError) as error:
                        call(b"", timeout=5)
                    assert error.value.code() in (grpc.StatusCode.UNAVAILABLE,
                                                  grpc.StatusCode.DEADLINE_EXCEEDED)
        assert daemon.process.wait(40) == 0
