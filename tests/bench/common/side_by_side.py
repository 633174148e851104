"""What the benches beside Redis share: both servers, one program against them, bars."""

import argparse
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
from typing import Callable, Mapping, Sequence


def free_port() -> int:
    """A port that nobody has now; Redis cannot be asked for port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_redis(*listen: str, memory: str) -> subprocess.Popen:
    """Redis 7 without persistence, ready; `listen` says where."""
    redis = subprocess.Popen(
        ["redis-server", *listen, "--save", "", "--appendonly", "no", "--maxmemory", memory,
         "--maxmemory-policy", "allkeys-lru"],
        stdout=subprocess.PIPE, text=True)
    for line in redis.stdout:
        if "Ready to accept connections" in line or "ready to accept connections at" in line:
            return redis
    raise SystemExit(f"redis-server ended with {redis.wait()}")


def start_memcached(address: str | int, megabytes: int) -> subprocess.Popen:
    """memcached at a UNIX socket's path or a port of loopback, ready; values of up to 64 MiB."""
    unix = isinstance(address, str)
    memcached = subprocess.Popen(
        ["memcached", "-u", "root", "-m", str(megabytes), "-I", "64m", "-U", "0",
         *(["-s", address] if unix else ["-l", "127.0.0.1", "-p", str(address)])])
    while memcached.poll() is None:  # it does not say when it is
        with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as probe:
            if probe.connect_ex(address if unix else ("127.0.0.1", address)) == 0:
                return memcached
    raise SystemExit(f"memcached ended with {memcached.returncode}")


def start_mnemod(binary: pathlib.Path, folder: pathlib.Path,
                 *options: str) -> tuple[subprocess.Popen, dict]:
    """The daemon with 6 GiB, ready, and where it listens."""
    daemon = subprocess.Popen(
        [str(binary), "--data-dir", str(folder / "data"), "--listen", "127.0.0.1:0",
         "--metrics-listen", "off", "--probe-listen", "off", "--unix-socket", "off",
         "--memory-total", "6GiB", "--ready-file", "-", *options],
        stdout=subprocess.PIPE, text=True)
    line = daemon.stdout.readline()
    if not line:
        raise SystemExit(f"mnemod ended with {daemon.wait()}")
    return daemon, json.loads(line)


# Starts both servers in a folder, adding each to the list as soon as it runs, and
# answers the arguments of the bench's program.
Start = Callable[[pathlib.Path, pathlib.Path, list], Sequence[str]]


def run(description: str, programs: Mapping[str, Start], at_least: Mapping[str, float],
        at_most: Mapping[str, float]) -> int:
    """The main of such a bench: measures, writes --out, and names what missed its bar.

    `programs` are below build/tests/bench, each with servers of its own, one after the
    other. The exit code is 1 if a bar was missed.
    """
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"))
    parser.add_argument("--mnemod", type=pathlib.Path, help="default: the one of --build")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=[pathlib.Path(name).name for name in programs],
                        help="these programs, and the bars that they have figures for")
    options = parser.parse_args()
    figures: dict = {}
    for program, start in programs.items():
        if not options.only or pathlib.Path(program).name in options.only:
            figures |= _measure(program, start, options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n")
    if options.only:
        at_least = {key: bar for key, bar in at_least.items() if key in figures}
        at_most = {key: bar for key, bar in at_most.items() if key in figures}
    for key in (*at_least, *at_most):
        print(f"{key}: {figures[key]:.3f}")
    missed = [f"{key}: {figures[key]:.3f}, at least {bar}" for key, bar in at_least.items()
              if figures[key] < bar]
    missed += [f"{key}: {figures[key]:.3f}, at most {bar}" for key, bar in at_most.items()
               if figures[key] > bar]
    for line in missed:
        print(f"missed {line}", file=sys.stderr)
    return 1 if missed else 0


def _measure(program: str, start: Start, options: argparse.Namespace) -> dict:
    running: list[subprocess.Popen] = []
    with tempfile.TemporaryDirectory(prefix="mnemo-bench-") as folder:
        try:
            arguments = start(options.mnemod or options.build / "server" / "mnemod",
                              pathlib.Path(folder), running)
            done = subprocess.run(
                [str(options.build / "tests" / "bench" / program), *arguments,
                 str(options.rounds)], stdout=subprocess.PIPE, text=True, check=True)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(60)
    return json.loads(done.stdout)
