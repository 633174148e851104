"""The store side of bench-contexts: the daemon itself, through the C++ client.

What each program measures, and how, stands at its head.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess

PARTS = ("append", "sustained", "long", "many")

# Key -> (smallest, largest) allowed value.
BARS = {
    "append_tokens_per_second": (150_000, None),
    "append_indexed_tokens_per_second": (25_000, None),
    "append_searchable_worst_s": (None, 10),
    "append_resident_growth": (None, 1.1),
    "range_summary_p99_ms": (None, 1),
    "restart_10m_s": (None, 15),
    "idle_bytes_per_context": (None, 512),
    "restart_100k_contexts_s": (None, 15),
    "first_search_cold_p99_ms": (None, 50),
}


def run(program: pathlib.Path, *arguments: str | int) -> dict[str, float]:
    done = subprocess.run(
        [str(program), *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True,
    )
    return dict(json.loads(done.stdout)) if done.stdout else {}


def measure(part: str, options: argparse.Namespace, folder: pathlib.Path) -> dict[str, float]:
    """One of PARTS; `folder` is on the disk that is measured."""
    program = options.build / "tests/bench/contexts" / f"bench_contexts_{part}"
    if part == "append":
        return run(program, folder, min(options.tokens, 3_000_000))
    if part == "sustained":
        return run(program, folder, options.seconds)
    if part == "long":
        run(program, "prepare", folder, options.tokens)
        return run(program, "measure", folder)
    written = run(program, "prepare", folder, options.contexts)
    return written | run(program, "measure", folder, options.contexts)
