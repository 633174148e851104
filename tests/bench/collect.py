#!/usr/bin/env python3
"""Runs benchmark programs one after another and gathers what they print.

collect.py --out FILE -- PROGRAM [ARGUMENT ...] [-- PROGRAM [ARGUMENT ...]] ...

Each program prints one flat JSON object on standard output; FILE gets all of
them in one, with how long each took, the commit and the machine. An argument
{folder} becomes an empty folder beside FILE, which is removed afterwards. Two
programs that print the same key are a mistake, and so is one that fails.
"""

import argparse
import itertools
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def split_commands(words: list[str]) -> list[list[str]]:
    groups = itertools.groupby(words, lambda word: word == "--")
    return [list(group) for is_separator, group in groups if not is_separator]


def describe_machine() -> dict[str, object]:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, check=False,
                            capture_output=True, text=True).stdout.strip()
    return {"commit": commit, "machine_cores": os.cpu_count(),
            "machine_kernel": platform.release(),
            "machine_memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}


def merge(into: dict[str, object], figures: dict[str, object], program: str) -> None:
    both = into.keys() & figures.keys()
    if both:
        raise ValueError(f"{program} prints again: {', '.join(sorted(both))}")
    into.update(figures)


def run(command: list[str], folder: pathlib.Path) -> tuple[dict[str, object], float]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.monotonic()
    try:
        done = subprocess.run([word.replace("{folder}", str(folder)) for word in command],
                              stdout=subprocess.PIPE, text=True, check=True,
                              stdin=subprocess.DEVNULL)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return json.loads(done.stdout), time.monotonic() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figures = describe_machine()
    for command in split_commands(options.command):
        name = pathlib.Path(command[0]).name
        print(f"{name} ...", file=sys.stderr, flush=True)
        found, seconds = run(command, options.out.parent / "data")
        merge(figures, found, name)
        figures[f"{name}_seconds"] = round(seconds, 1)
    options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
