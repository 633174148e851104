#!/usr/bin/env python3
"""bench-planes: the daemon's planes beside Redis 7 and memcached, its disk beside O_DIRECT -> one
flat JSON.

Starts all three on this host, runs bench_planes and then bench_bulk against them, then
bench_disk, bench_advice, bench_encoded and bench_python with daemons of their own, holds
the keys that have a bar against it, and leaves nothing running. A bar that is missed is
named, and the exit code is then 1.
"""

import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

import side_by_side

from tests.support.python.certificates import Authority, install

AT_LEAST = {
    "registered_get_ratio_2MiB": 2.0,
    "registered_get_ratio_8MiB": 5.0,
    "registered_put_ratio_2MiB": 1.2,
    "registered_put_ratio_8MiB": 3.0,
    "registered_batch_get_of_memcpy": 0.6,
    "fast_get_ratio_4KiB": 1.0,
    "fast_get_ratio_128KiB": 2.0,
    "bulk_get_ratio_2MiB": 1.0,
    "bulk_get_ratio_8MiB": 1.8,
    "bulk_put_ratio_2MiB": 0.8,
    "bulk_put_ratio_8MiB": 1.8,
    "bulk_get_of_raw_tcp": 0.85,
    "bulk_tls_get_of_raw_tls": 0.8,
    "disk_write_of_direct": 0.5,
    "disk_read_of_direct": 0.6,
    "advice_right": 0.9,
    "python_of_cpp": 0.8,
}
AT_MOST = {
    "fast_get_128KiB_p99_over_floor": 3.0,
    "fast_match_256_over_pingpong": 4.0,
    "idle_cpu_share": 0.01,
} | {
    f"{plane}_cpu_seconds_per_gb_over_redis_{size}_c{clients}": 1.0
    for plane in ("registered", "bulk") for size in ("2MiB", "8MiB") for clients in (1, 4)
}


def start(mnemod: pathlib.Path, folder: pathlib.Path, running: list) -> list[str]:
    socket = str(folder / "redis")
    redis = side_by_side.start_redis("--port", "0", "--unixsocket", socket, memory="2gb")
    running.append(redis)
    memcached = side_by_side.start_memcached(str(folder / "memcached"), megabytes=2048)
    running.append(memcached)
    daemon, bound = side_by_side.start_mnemod(mnemod, folder, "--streams-unix-socket",
                                              str(folder / "streams"))
    running.append(daemon)
    return [bound["grpc"], bound["streams"], str(daemon.pid), socket, str(redis.pid),
            str(folder / "memcached"), str(memcached.pid)]


def start_bulk(mnemod: pathlib.Path, folder: pathlib.Path, running: list) -> list[str]:
    port = str(side_by_side.free_port())
    redis = side_by_side.start_redis("--port", port, "--bind", "127.0.0.1", memory="2gb")
    running.append(redis)
    memcached_port = side_by_side.free_port()
    memcached = side_by_side.start_memcached(memcached_port, megabytes=2048)
    running.append(memcached)
    (folder / "plain").mkdir()
    daemon, bound = side_by_side.start_mnemod(mnemod, folder / "plain", "--streams-listen",
                                              "127.0.0.1:0")
    running.append(daemon)
    nodes = Authority(folder / "nodes")
    certificate, key = nodes.issue_server()
    for source, name in ((nodes.certificate, "ca.pem"), (certificate, "node.pem"),
                         (key, "node.key")):
        install(source, folder / name)
    (folder / "tls").mkdir()
    secured, under_tls = side_by_side.start_mnemod(
        mnemod, folder / "tls", "--streams-listen", "127.0.0.1:0",
        f"--set=tls.certificate={folder / 'node.pem'}", f"--set=tls.key={folder / 'node.key'}",
        "--set=tls.clients=off")
    running.append(secured)
    return [bound["grpc"], str(daemon.pid), port, str(redis.pid), str(memcached_port),
            str(memcached.pid), under_tls["grpc"], str(folder)]


def start_disk(mnemod: pathlib.Path, folder: pathlib.Path, running: list) -> list[str]:
    # It starts its daemons itself, a new one for each round.
    os.environ["MNEMOD_BINARY"] = str(mnemod)
    return [str(folder)]


def start_advice(mnemod: pathlib.Path, folder: pathlib.Path, _: list) -> list[str]:
    for name in ("advice", "prefetch"):
        (folder / name).mkdir()
    return [str(mnemod.absolute()), str(folder)]


def start_encoded(mnemod: pathlib.Path, folder: pathlib.Path, running: list) -> list[str]:
    # What was put is in few bits where it comes back from disk.
    daemon, bound = side_by_side.start_mnemod(mnemod, folder)
    running.append(daemon)
    program = mnemod.resolve().parents[1] / "tests" / "bench" / "planes" / "bench_encoded"
    subprocess.run([str(program), "put", bound["grpc"]], check=True)
    daemon.terminate()
    daemon.wait(60)
    running.remove(daemon)
    daemon, bound = side_by_side.start_mnemod(mnemod, folder, "--streams-listen", "127.0.0.1:0")
    running.append(daemon)
    return ["read", bound["grpc"]]


def start_python(mnemod: pathlib.Path, folder: pathlib.Path, running: list) -> list[str]:
    daemon, bound = side_by_side.start_mnemod(mnemod, folder, "--streams-listen", "127.0.0.1:0")
    running.append(daemon)
    return [bound["grpc"], sys.executable,
            str(pathlib.Path(__file__).resolve().with_name("python_rounds.py"))]


if __name__ == "__main__":
    sys.exit(side_by_side.run(__doc__, {"planes/bench_planes": start,
                                        "planes/bench_bulk": start_bulk,
                                        "planes/bench_disk": start_disk,
                                        "planes/bench_advice": start_advice,
                                        "planes/bench_encoded": start_encoded,
                                        "planes/bench_python": start_python}, AT_LEAST, AT_MOST))
