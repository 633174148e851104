#!/usr/bin/env python3
"""Runs every libFuzzer program of a build for a while, some at a time.

Each starts from tests/fuzz/corpus/NAME and keeps what it finds in
BUILD/corpus/NAME, so that a later run goes on from there. A crash leaves its
input in BUILD/artifacts, prints the line that replays it, and fails the run:
reduce it and add it to tests/fuzz/corpus/NAME, where it stays a test.
Closes with 'N passed, N failed', a fuzzer being one.
"""

import argparse
import concurrent.futures
import os
import pathlib
import random
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def progress(output: str) -> str:
    """Inputs tried, and code reached: by the corpus, and at the end."""
    executed = re.findall(r"^stat::number_of_executed_units:\s*(\d+)", output, re.MULTILINE)
    covered = re.findall(r"^#\d+\s+(?:INITED|DONE)\s+cov: (\d+)", output, re.MULTILINE)
    return f"{executed[0] if executed else '?'} inputs, coverage {' to '.join(covered) or '?'}"


def fuzz(program: pathlib.Path, build: pathlib.Path, seconds: int, seed: int) -> bool:
    name = program.name
    found = build / "corpus" / name
    artifacts = build / "artifacts"
    found.mkdir(parents=True, exist_ok=True)
    artifacts.mkdir(parents=True, exist_ok=True)
    command = [str(program), str(found), str(ROOT / "tests" / "fuzz" / "corpus" / name),
               f"-max_total_time={seconds}", f"-seed={seed}", "-timeout=20", "-rss_limit_mb=2048",
               "-max_len=65536", f"-artifact_prefix={artifacts / name}-", "-print_final_stats=1"]
    environment = dict(os.environ)
    environment.setdefault("ASAN_SYMBOLIZER_PATH", "/usr/bin/llvm-symbolizer-14")
    environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1")
    start = time.monotonic()
    try:
        run = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, text=True,
                             errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             timeout=seconds + 120, check=False)
        output, ok = run.stdout, run.returncode == 0
    except subprocess.TimeoutExpired as expired:
        output, ok = str(expired), False
    print(f"{name}: {'ok' if ok else 'FAILED'}, {progress(output)}, "
          f"{time.monotonic() - start:.0f} s, seed {seed}", flush=True)
    if not ok:
        print(output[-8000:])
        print(f"replay: {program} {artifacts / name}-*", flush=True)
    return ok


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=int, default=60, help="for each fuzzer")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 2**31))
    options = parser.parse_args()
    build = options.build.resolve()
    programs = sorted((build / "bin" / "fuzzers").glob("*"))
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(
            lambda program: fuzz(program, build, options.seconds, options.seed), programs))
    passed = sum(results)
    print(f"{passed} passed, {len(results) - passed} failed", flush=True)
    return 0 if results and passed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
