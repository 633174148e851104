#!/usr/bin/env python3
"""bench-contexts: what contexts promise, measured -> one flat JSON.

Runs its parts one after another, since each of them measures time, and merges
what they print. With --only some of them run, and the others' figures stay as
the last run left them. What has a bar is checked against it; a bar that is
missed, or was never measured, is named, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import sys
import tempfile
import time

import search
import store

ROOT = pathlib.Path(__file__).resolve().parents[3]
BARS = search.BARS | store.BARS
# In the order in which they run.
PARTS = store.PARTS + search.PARTS


def missed(figures: dict[str, float], only: list[str]) -> list[str]:
    """With all parts asked for, what is not there is missed too."""
    lines = []
    for key, (least, most) in BARS.items():
        bar = f"at least {least}" if least is not None else f"at most {most}"
        if key not in figures:
            if set(only) == set(PARTS):
                lines.append(f"{key}: was not measured, {bar}")
        elif (least is not None and figures[key] < least) or (
            most is not None and figures[key] > most
        ):
            lines.append(f"{key}: {figures[key]:.4g}, {bar}")
    return lines


def measure(part: str, options: argparse.Namespace) -> dict[str, float]:
    print(f"{part} ...", end=" ", file=sys.stderr, flush=True)
    began = time.monotonic()
    options.folder.mkdir(parents=True, exist_ok=True)
    # Gigabytes, and made again in minutes.
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{part}-", dir=options.folder))
    try:
        return (store if part in store.PARTS else search).measure(part, options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/bench/contexts.json")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/bench",
                        help="on the disk that is measured; 12 GB free")
    parser.add_argument("--states", type=pathlib.Path, default=ROOT / "build/states",
                        help="of hidden_states.py, for searches")
    parser.add_argument("--rounds", type=int, default=15, help="of graphs")
    parser.add_argument("--tokens", type=int, default=10_000_000, help="of the long context")
    parser.add_argument("--contexts", type=int, default=100_000, help="of many")
    parser.add_argument("--seconds", type=int, default=300, help="of sustained appending")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", default=list(PARTS),
                        help="of " + ", ".join(PARTS))
    options = parser.parse_args()

    out: pathlib.Path = options.out
    figures = json.loads(out.read_text()) if out.exists() else {}
    for part in [name for name in PARTS if name in options.only]:
        figures |= measure(part, options)
        # A part that fails leaves what the others measured.
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    print(json.dumps(figures, indent=1, sort_keys=True))
    lines = missed(figures, options.only)
    for line in lines:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
