"""The search side of bench-contexts: graphs beside their peers, lists over millions of tokens.

One million tokens and ten are searched in the engine, appended, indexed and stored as the daemon
does it; the real states, too few for lists there, are searched in lists alone.

Graphs: four sides over the same real states, each a program of its own (side.h), each with the
least ef that reaches the recall. Rounds are interleaved, one pass of each side in turn; what is
reported is the median of the rounds. A ratio is a peer's time over ours in the same round, again
the median.
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

RECALL = 0.95
LINKS = 16
EF_CONSTRUCTION = 100
QUERIES = 1024
# memory.contexts where mnemod has a machine of 16 GiB to itself.
ENGINE_MIB = 819

# Part -> rows (0: the real states), and of how many the neighbours are known exactly.
LISTS = {"real": (0, 1000), "1m": (1_000_000, 200), "10m": (10_000_000, 50)}
PARTS = ("graphs", *LISTS)

# Key -> (smallest, largest) allowed value.
BARS = {
    **{f"hnsw_qps_over_stock_faiss_d{d}": (2.2, None) for d in (128, 640)},
    **{f"hnsw_qps_over_hnswlib_d{d}": (1.1, None) for d in (128, 640)},
    **{f"hnsw_qps_over_faiss_wheel_d{d}": (1.1, None) for d in (128, 640)},
    **{
        f"hnsw_recall_keep_{share}_d{d}": (0.95, None)
        for share in ("50", "10", "1", "01")
        for d in (128, 640)
    },
    "recall_1m": (0.95, None),
    "recall_real": (0.95, None),
    "index_1m_bytes_per_token": (None, 96),
    "search_1m_p99_ms": (None, 10),
    **{f"recall_1m_keep_{share}": (0.95, None) for share in ("50", "10", "1", "01")},
    **{f"search_1m_keep_{share}_p99_ms": (None, 10) for share in ("50", "10", "1", "01")},
    "search_10m_p99_ms": (None, 30),
    "recall_10m": (0.95, None),
}


class Side:
    """A side's process."""

    def __init__(self, name: str, command: list[str], filtered: bool = False) -> None:
        self.name = name
        self.times: list[float] = []
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.build_s = self._read()["build_s"]
        self.tuned = self._read()
        self.filtered = self._read() if filtered else {}

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
    sides = [
        Side(name, command + arguments, filtered=name == "mnemo")
        for name, command in programs.items()
    ]
    for i in range(rounds):
        # Each in another place each time.
        for side in sides[i % len(sides) :] + sides[: i % len(sides)]:
            side.round()
    ours = sides[0]
    results = {f"hnsw_{key}_d{dimension}": value for key, value in ours.filtered.items()}
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
    program: pathlib.Path, folder: pathlib.Path, held_out: int, suffix: str, *more: str
) -> dict[str, float]:
    answer = subprocess.run(
        [str(program), str(folder / "base.f32"), str(folder / "queries.f32"), "256",
         str(held_out), suffix, *more],
        check=True, stdout=subprocess.PIPE, text=True,
    )
    return dict(json.loads(answer.stdout))


def measure_graphs(options: argparse.Namespace, folder: pathlib.Path) -> dict[str, float]:
    programs = options.build / "tests/bench/contexts"
    sides = {
        "mnemo": [str(programs / "bench_hnsw_mnemo")],
        "stock_faiss": [str(programs / "bench_hnsw_faiss")],
        "hnswlib": [str(programs / "bench_hnsw_hnswlib")],
        "faiss_wheel": [sys.executable, str(pathlib.Path(__file__).with_name("wheel_side.py"))],
    }
    results: dict[str, float] = {}
    for model, dimension in (("smollm2", 128), ("gemma", 640)):
        vectors = folder / f"d{dimension}"
        data.write_graph_set(data.read_states(options.states / model), dimension, QUERIES, vectors)
        results |= compare_graphs(vectors, dimension, sides, options.rounds)
    return results


def measure(part: str, options: argparse.Namespace, folder: pathlib.Path) -> dict[str, float]:
    """One of PARTS; `folder` is for vectors."""
    if part == "graphs":
        return measure_graphs(options, folder)
    rows, held_out = LISTS[part]
    vectors = folder / part
    states = data.read_states(options.states / "smollm2")
    if rows == 0:
        data.write_graph_set(states, 256, QUERIES, vectors)
    else:
        data.write_mixture_set(states, rows, QUERIES, vectors)
    programs = options.build / "tests/bench/contexts"
    if rows == 0:
        return search_lists(programs / "bench_ivf", vectors, held_out, part)
    store = folder / "store"
    store.mkdir()
    more = (str(store), str(ENGINE_MIB))
    return search_lists(programs / "bench_context_engine", vectors, held_out, part, *more)
