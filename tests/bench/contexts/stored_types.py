#!/usr/bin/env python3
"""What contexts of each stored type take and find: the table "In fewer bits" of docs/contexts.md.

usage: stored_types.py MNEMOD

Appends 400,000 vectors about 512 centres, as hard to tell apart as random ones, searches
100 of them again, and prints JSON a type: tokens a second, bytes of the data directory a
token, recall@10 of the exact neighbours.
"""

import json
import os
import pathlib
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "client" / "python")]

from mnemod import Client, Context, DType, Durability, Tokens  # noqa: E402
from tests.integration.operate.daemon import Daemon  # noqa: E402

DIMENSION = 256
TOKENS = 400_000
BATCH = 4_000
QUERIES = 100
NEAREST = 10
UNINDEXED = 40_000  # fewer are left for a scan


def batches(rows: np.ndarray, ids: np.ndarray, times: np.ndarray):
    for first in range(0, TOKENS, BATCH):
        part = slice(first, first + BATCH)
        yield Tokens(rows[part], ids=ids[part], times_unix_us=times[part],
                     importances=np.full(BATCH, 0.5, np.float32))


def measure(dtype: DType, rows: np.ndarray, queries: np.ndarray, exact: list) -> dict:
    noise = np.random.default_rng(2)
    ids = noise.integers(0, 49_152, TOKENS)
    times = 1_700_000_000_000_000 + np.arange(TOKENS) * 3_000
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with Daemon(folder) as daemon, Client(daemon.ready["grpc"], deadline=300.0) as client:
            context = client.create_context(
                Context("c", DIMENSION, stored_dtype=dtype, durability=Durability.INTERVAL))
            began = time.perf_counter()
            context.append(batches(rows, ids, times))
            seconds = time.perf_counter() - began
            while context.search(queries[0]).work.unindexed_tokens >= UNINDEXED:
                pass
            found = [{hit.position for hit in context.search(query).hits[0]} for query in queries]
        size = sum(os.path.getsize(file) for file in folder.rglob("*") if file.is_file())
    right = sum(len(a & b) for a, b in zip(exact, found))
    return {"appended_per_second": int(TOKENS / seconds), "bytes_per_token": round(size / TOKENS),
            "recall_at_10": right / (QUERIES * NEAREST)}


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    os.environ["MNEMOD_BINARY"] = sys.argv[1]
    noise = np.random.default_rng(1)
    normal = lambda *shape: noise.standard_normal(shape, np.float32)  # noqa: E731
    rows = normal(512, DIMENSION)[noise.integers(0, 512, TOKENS)] + 0.6 * normal(TOKENS, DIMENSION)
    queries = rows[noise.integers(0, TOKENS, QUERIES)] + 0.3 * normal(QUERIES, DIMENSION)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    exact = [set(np.argpartition(-(unit @ query), NEAREST)[:NEAREST]) for query in queries]
    print(json.dumps({dtype.name: measure(dtype, rows, queries, exact)
                      for dtype in (DType.F16, DType.INT8, DType.INT4)}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
