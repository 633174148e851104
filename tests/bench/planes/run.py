#!/usr/bin/env python3
"""bench-planes: the daemon's planes and Redis 7 side by side -> one flat JSON.

Starts both on this host, runs bench_planes against them, holds the keys that have a
bar against it, and leaves nothing running. A bar that is missed is named, and the exit
code is then 1.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

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


def start_redis(socket: pathlib.Path) -> subprocess.Popen:
    redis = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "",
         "--appendonly", "no", "--maxmemory", "2gb", "--maxmemory-policy", "allkeys-lru"],
        stdout=subprocess.PIPE, text=True)
    for line in redis.stdout:
        if "Ready to accept connections" in line or "ready to accept connections at" in line:
            return redis
    raise SystemExit(f"redis-server ended with {redis.wait()}")


def start_mnemod(binary: pathlib.Path, folder: pathlib.Path) -> tuple[subprocess.Popen, dict]:
    daemon = subprocess.Popen(
        [str(binary), "--data-dir", str(folder / "data"), "--listen", "127.0.0.1:0",
         "--metrics-listen", "off", "--probe-listen", "off", "--unix-socket", "off",
         "--streams-unix-socket", str(folder / "streams"), "--memory-total", "6GiB",
         "--ready-file", "-"],
        stdout=subprocess.PIPE, text=True)
    line = daemon.stdout.readline()
    if not line:
        raise SystemExit(f"mnemod ended with {daemon.wait()}")
    return daemon, json.loads(line)


def missed_bars(figures: dict) -> list[str]:
    low = [f"{key}: {figures[key]:.3f}, at least {bar}" for key, bar in AT_LEAST.items()
           if figures[key] < bar]
    high = [f"{key}: {figures[key]:.3f}, at most {bar}" for key, bar in AT_MOST.items()
            if figures[key] > bar]
    return low + high


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"))
    parser.add_argument("--mnemod", type=pathlib.Path, help="default: the one of --build")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    running = []
    with tempfile.TemporaryDirectory(prefix="mnemo-bench-") as name:
        folder = pathlib.Path(name)
        try:
            running.append(start_redis(folder / "redis"))
            daemon, bound = start_mnemod(
                arguments.mnemod or arguments.build / "server" / "mnemod", folder)
            running.append(daemon)
            program = arguments.build / "tests" / "bench" / "planes" / "bench_planes"
            done = subprocess.run(
                [str(program), bound["grpc"], bound["streams"], str(daemon.pid),
                 str(folder / "redis"), str(running[0].pid), str(arguments.rounds)],
                stdout=subprocess.PIPE, text=True, check=True)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(60)
    figures = json.loads(done.stdout)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n")
    for key in (*AT_LEAST, *AT_MOST):
        print(f"{key}: {figures[key]:.3f}")
    missed = missed_bars(figures)
    for line in missed:
        print(f"missed {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
