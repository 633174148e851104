#!/usr/bin/env python3
"""bench-inline: the daemon and Redis 7 side by side -> one flat JSON.

Starts both on loopback, runs bench_inline against them, holds the two keys that
have a bar against it, and leaves nothing running. A bar that is missed is named,
and the exit code is then 1.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))

import side_by_side

# Key -> smallest allowed value: GB/s over Redis's.
BARS = {"get_ratio_2MiB": 0.35, "put_ratio_2MiB": 0.2}


def start(mnemod: pathlib.Path, folder: pathlib.Path, running: list) -> list[str]:
    port = str(side_by_side.free_port())
    running.append(side_by_side.start_redis("--port", port, "--bind", "127.0.0.1", memory="4gb"))
    daemon, bound = side_by_side.start_mnemod(mnemod, folder)
    running.append(daemon)
    return [bound["grpc"], "127.0.0.1", port]


if __name__ == "__main__":
    sys.exit(side_by_side.run(__doc__, {"inline/bench_inline": start}, BARS, {}))
