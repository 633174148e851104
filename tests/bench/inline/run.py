#!/usr/bin/env python3
"""bench-inline: the daemon and Redis 7 side by side -> one flat JSON.

Starts both on loopback, runs bench_inline against them, holds the two keys that
have a bar against it, and leaves nothing running. A bar that is missed is named,
and the exit code is then 1.
"""

import argparse
import json
import pathlib
import socket
import subprocess
import sys
import tempfile

# Key -> smallest allowed value: GB/s over Redis's.
BARS = {"get_ratio_2MiB": 0.35, "put_ratio_2MiB": 0.2}


def free_port() -> int:
    """A port that nobody has now; Redis cannot be asked for port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_redis(port: int) -> subprocess.Popen:
    redis = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
         "--appendonly", "no", "--maxmemory", "4gb", "--maxmemory-policy", "allkeys-lru"],
        stdout=subprocess.PIPE, text=True)
    for line in redis.stdout:
        if "Ready to accept connections" in line:
            return redis
    raise SystemExit(f"redis-server ended with {redis.wait()}")


def start_mnemod(binary: pathlib.Path, folder: pathlib.Path) -> tuple[subprocess.Popen, str]:
    daemon = subprocess.Popen(
        [str(binary), "--data-dir", str(folder / "data"), "--listen", "127.0.0.1:0",
         "--metrics-listen", "off", "--probe-listen", "off", "--unix-socket", "off",
         "--memory-total", "6GiB", "--ready-file", "-"],
        stdout=subprocess.PIPE, text=True)
    line = daemon.stdout.readline()
    if not line:
        raise SystemExit(f"mnemod ended with {daemon.wait()}")
    return daemon, json.loads(line)["grpc"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"))
    parser.add_argument("--mnemod", type=pathlib.Path, help="default: the one of --build")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    running = []
    with tempfile.TemporaryDirectory(prefix="mnemo-bench-") as folder:
        try:
            port = free_port()
            running.append(start_redis(port))
            daemon, target = start_mnemod(
                arguments.mnemod or arguments.build / "server" / "mnemod", pathlib.Path(folder))
            running.append(daemon)
            program = arguments.build / "tests" / "bench" / "inline" / "bench_inline"
            done = subprocess.run([str(program), target, "127.0.0.1", str(port),
                                   str(arguments.rounds)], stdout=subprocess.PIPE, text=True,
                                  check=True)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(60)
    figures = json.loads(done.stdout)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n")
    missed = [f"{key}: {figures[key]:.3f}, at least {bar}" for key, bar in BARS.items()
              if figures[key] < bar]
    for key in BARS:
        print(f"{key}: {figures[key]:.3f}")
    for line in missed:
        print(f"missed {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
