#!/usr/bin/env python3
"""bench-planes: the daemon's planes and Redis 7 side by side -> one flat JSON.

Starts both on this host, runs bench_planes against them, holds the keys that have a
bar against it, and leaves nothing running. A bar that is missed is named, and the exit
code is then 1.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))

import side_by_side

AT_LEAST = {
    "registered_get_ratio_2MiB": 2.0,
    "registered_get_ratio_8MiB": 5.0,
    "registered_put_ratio_2MiB": 1.2,
    "registered_put_ratio_8MiB": 3.0,
    "registered_batch_get_of_memcpy": 0.6,
    "fast_get_ratio_4KiB": 1.0,
    "fast_get_ratio_128KiB": 2.0,
}
AT_MOST = {
    "fast_get_128KiB_p99_over_floor": 3.0,
    "fast_match_256_over_pingpong": 4.0,
    "idle_cpu_share": 0.01,
}


def start(mnemod: pathlib.Path, folder: pathlib.Path, running: list) -> list[str]:
    socket = str(folder / "redis")
    redis = side_by_side.start_redis("--port", "0", "--unixsocket", socket, memory="2gb")
    running.append(redis)
    daemon, bound = side_by_side.start_mnemod(mnemod, folder, "--streams-unix-socket",
                                              str(folder / "streams"))
    running.append(daemon)
    return [bound["grpc"], bound["streams"], str(daemon.pid), socket, str(redis.pid)]


if __name__ == "__main__":
    sys.exit(side_by_side.run(__doc__, "planes/bench_planes", start, AT_LEAST, AT_MOST))
