#!/usr/bin/env python3
"""The search half of bench-contexts: graphs beside their peers, lists over millions of tokens.

Graphs: four sides over the same real states, each a program of its own (side.h), each with the
least ef that reaches the recall. Rounds are interleaved, one pass of each side in turn; what is
reported is the median of the rounds. A ratio is a peer's time over ours in the same round, again
the median. A bar that is missed is named, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
from typing import Any

import data

ROOT = pathlib.Path(__file__).resolve().parents[3]
RECALL = 0.95
LINKS = 16
EF_CONSTRUCTION = 100
QUERIES = 1024

# Key -> (smallest, largest) allowed value.
BARS = {
    **{f"hnsw_qps_over_stock_faiss_d{d}": (2.2, None) for d in (128, 640)},
    **{f"hnsw_qps_over_hnswlib_d{d}": (1.1, None) for d in (128, 640)},
    **{f"hnsw_qps_over_faiss_wheel_d{d}": (1.1, None) for d in (128, 640)},
    "recall_1m": (0.95, None),
    "recall_real": (0.95, None),
    "index_1m_bytes_per_token": (None, 96),
    "search_1m_p99_ms": (None, 10),
    "search_10m_p99_ms": (None, 30),
}


class Side:
    """A side's process."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.times: list[float] = []
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.build_s = self._read()["build_s"]
        self.tuned = self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self._process.wait()}")
        return dict(json.loads(line))

    def round(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("pass\n")
        self._process.stdin.flush()
        self.times.append(self._read()["us"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare_graphs(
    folder: pathlib.Path, dimension: int, programs: dict[str, list[str]], rounds: int
) -> dict[str, float]:
    arguments = [str(folder), str(dimension), str(LINKS), str(EF_CONSTRUCTION), str(RECALL)]
    sides = [Side(name, command + arguments) for name, command in programs.items()]
    for i in range(rounds):
        # Each in another place each time.
        for side in sides[i % len(sides) :] + sides[: i % len(sides)]:
            side.round()
    ours = sides[0]
    results: dict[str, float] = {}
    for side in sides:
        side.close()
        key = f"{side.name}_d{dimension}"
        results[f"hnsw_us_{key}"] = round(statistics.median(side.times), 2)
        results[f"hnsw_us_spread_{key}"] = round(max(side.times) - min(side.times), 2)
        results[f"hnsw_recall_{key}"] = side.tuned["recall"]
        results[f"hnsw_ef_{key}"] = side.tuned["ef"]
        results[f"hnsw_build_s_{key}"] = side.build_s
        if side is not ours:
            ratios = [theirs / own for theirs, own in zip(side.times, ours.times)]
            results[f"hnsw_qps_over_{key}"] = round(statistics.median(ratios), 3)
    return results


def search_lists(
    program: pathlib.Path, folder: pathlib.Path, held_out: int, suffix: str
) -> dict[str, float]:
    answer = subprocess.run(
        [str(program), str(folder / "base.f32"), str(folder / "queries.f32"), "256",
         str(held_out), suffix],
        check=True, stdout=subprocess.PIPE, text=True,
    )
    return dict(json.loads(answer.stdout))


def missed(results: dict[str, float]) -> list[str]:
    names = []
    for key, (least, most) in BARS.items():
        if key not in results:
            continue
        if (least is not None and results[key] < least) or (
            most is not None and results[key] > most
        ):
            names.append(f"{key} is {results[key]}, the bar is {least or most}")
    return names


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--states", type=pathlib.Path, required=True, help="of hidden_states.py")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="for vectors; kept")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="*", default=["graphs", "real", "1m", "10m"])
    arguments = parser.parse_args()
    programs = arguments.build / "tests/bench/contexts"
    arguments.folder.mkdir(parents=True, exist_ok=True)
    out: pathlib.Path = arguments.out
    results = json.loads(out.read_text()) if out.exists() else {}

    if "graphs" in arguments.only:
        sides = {
            "mnemo": [str(programs / "bench_hnsw_mnemo")],
            "stock_faiss": [str(programs / "bench_hnsw_faiss")],
            "hnswlib": [str(programs / "bench_hnsw_hnswlib")],
            "faiss_wheel": [sys.executable, str(pathlib.Path(__file__).with_name("wheel_side.py"))],
        }
        for model, dimension in (("smollm2", 128), ("gemma", 640)):
            folder = arguments.folder / f"d{dimension}"
            data.write_graph_set(
                data.read_states(arguments.states / model), dimension, QUERIES, folder
            )
            results |= compare_graphs(folder, dimension, sides, arguments.rounds)
    lists = {"real": (0, 1000), "1m": (1_000_000, 200), "10m": (10_000_000, 50)}
    for suffix in [name for name in arguments.only if name in lists]:
        rows, held_out = lists[suffix]
        folder = arguments.folder / suffix
        states = data.read_states(arguments.states / "smollm2")
        if rows == 0:
            data.write_graph_set(states, 256, QUERIES, folder)
        else:
            data.write_mixture_set(states, rows, QUERIES, folder)
        results |= search_lists(programs / "bench_ivf", folder, held_out, suffix)
        # Gigabytes, and drawn again in seconds.
        if rows > 0:
            (folder / "base.f32").unlink()
    out.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    print(json.dumps(results, indent=1, sort_keys=True))
    for line in missed(results):
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed(results) else 0


if __name__ == "__main__":
    sys.exit(main())
