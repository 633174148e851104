#!/usr/bin/env python3
"""bench-store: what the store promises, measured -> one flat JSON.

Runs the bench programs of a build folder one after another (never two at once:
each of them measures time) and merges what they print. With --only some of them
run, and the others' figures stay as the last run left them. The keys that have a
bar are checked against it; a bar that is missed is named, and the exit code is
then 1.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent

# Key -> (largest or smallest allowed value, whether it is the largest).
BARS = {
    "directory_bytes_per_part": (160, True),
    "restart_seconds_1m_blocks": (10, True),
    "match_4096_p50_ms": (3, True),
    "l1_p99_ms": (0.1, True),
    "l2_p99_ms": (1, True),
    "l3_p99_ms": (10, True),
    "disk_p99_ms": (100, True),
    "rss_over_budget": (1.15, True),
    "arena_usable": (0.92, False),
    "space_amplification": (1.3, True),
    "shard_bytes_max_over_mean": (1.3, True),
    "flips_wrong": (0, True),
}


# In the order in which they run: those that judge latency first.
PROGRAMS = ("levels", "directory", "restart", "daemon", "churn", "flips", "policies")


def run(program: pathlib.Path, *arguments: str) -> dict:
    print(f"{program.name} ...", end=" ", file=sys.stderr, flush=True)
    began = time.monotonic()
    done = subprocess.run([str(program), *arguments], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True, check=False)
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    if done.returncode != 0:
        raise SystemExit(f"{program.name} ended with {done.returncode}")
    return json.loads(done.stdout)


def measure(name: str, options: argparse.Namespace, folder: str) -> dict:
    bench = options.build / "tests" / "bench"
    if name == "directory":
        return run(bench / "directory" / "bench_directory")
    if name == "policies":
        return {"policy": run(bench / "policies" / "bench_policies", str(options.traces))}
    program = bench / "store" / f"bench_store_{name}"
    if name == "restart":
        return run(program, folder, str(options.parts))
    return run(program, folder)


def flatten(name: str, value, into: dict) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            flatten(f"{name}_{key}" if name else key, inner, into)
    else:
        into[name] = value


def missed(figures: dict) -> list[str]:
    lines = []
    for key, (bar, largest) in BARS.items():
        if key not in figures:
            lines.append(f"{key}: was not measured")
        elif (figures[key] > bar) if largest else (figures[key] < bar):
            lines.append(f"{key}: {figures[key]:.4g}, {'at most' if largest else 'at least'} {bar}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "bench" / "store.json")
    parser.add_argument("--traces", type=pathlib.Path, default=ROOT / ".." / "shared" / "traces",
                        help="folder of the request traces; policies are left out without it")
    parser.add_argument("--parts", type=int, default=1_000_000, help="of the restart")
    parser.add_argument("--folder", type=pathlib.Path, help="on the disk to be measured")
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, metavar="NAME",
                        help="of " + ", ".join(PROGRAMS))
    options = parser.parse_args()

    names = [name for name in PROGRAMS if options.only is None or name in options.only]
    if "policies" in names and not options.traces.is_dir():
        print(f"no traces at {options.traces}: policies left out", file=sys.stderr)
        names.remove("policies")
    figures: dict = {}
    if options.only and options.out.exists():
        figures = json.loads(options.out.read_text())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mnemo-bench-", dir=options.folder))
    try:
        for name in names:
            flatten("", measure(name, options, str(folder)), figures)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n")
    lines = missed(figures)
    for line in lines:
        print(f"missed: {line}", file=sys.stderr)
    print(f"{options.out}: {len(BARS) - len(lines)} of {len(BARS)} bars met")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
