"""The FAISS wheel as a side of the comparison: see side.h for the protocol.

One query a call, as the others. A call from Python costs microseconds that are
not FAISS's: the same call on an index of one vector is measured beside every
pass and taken off.
"""

from __future__ import annotations

import json
import sys
import time

import faiss
import numpy as np

RESULTS = 10


class WheelSide:
    """IndexHNSWFlat, called through its thinnest binding."""

    def __init__(self, folder: str, dimension: int, links: int, ef_construction: int) -> None:
        faiss.omp_set_num_threads(1)
        self._queries = np.fromfile(f"{folder}/queries.f32", np.float32).reshape(-1, dimension)
        self._truth = np.fromfile(f"{folder}/truth.i32", np.int32).reshape(-1, RESULTS)
        self._distances = np.empty(RESULTS, np.float32)
        self._found = np.empty((len(self._queries), RESULTS), np.int64)
        base = np.fromfile(f"{folder}/base.f32", np.float32).reshape(-1, dimension)
        self.index = faiss.IndexHNSWFlat(dimension, links)
        self.index.hnsw.efConstruction = ef_construction
        self.index.add(base)
        self._empty = faiss.IndexHNSWFlat(dimension, links)
        self._empty.add(base[:1])

    def _pass(self, index: "faiss.IndexHNSWFlat") -> float:
        """Seconds of one pass over all queries."""
        pointers = [
            (faiss.swig_ptr(self._queries[i : i + 1]), faiss.swig_ptr(self._found[i]))
            for i in range(len(self._queries))
        ]
        distances, search = faiss.swig_ptr(self._distances), index.search_c
        began = time.perf_counter()
        for query, found in pointers:
            search(1, query, RESULTS, distances, found)
        return time.perf_counter() - began

    def recall(self, ef: int) -> float:
        self.index.hnsw.efSearch = ef
        self._pass(self.index)
        return float(np.mean([np.isin(f, t).mean() for f, t in zip(self._found, self._truth)]))

    def least_ef(self, recall: float) -> int:
        low, high = RESULTS, 2048
        while low < high:
            middle = (low + high) // 2
            if self.recall(middle) >= recall:
                high = middle
            else:
                low = middle + 1
        return low

    def microseconds(self) -> float:
        overhead = self._pass(self._empty)
        return (self._pass(self.index) - overhead) * 1e6 / len(self._queries)


def main() -> None:
    folder, dimension, links, ef_construction, recall = sys.argv[1:]
    began = time.perf_counter()
    side = WheelSide(folder, int(dimension), int(links), int(ef_construction))
    print(json.dumps({"build_s": round(time.perf_counter() - began, 3)}), flush=True)
    ef = side.least_ef(float(recall))
    print(json.dumps({"ef": ef, "recall": side.recall(ef)}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"us": side.microseconds()}), flush=True)


if __name__ == "__main__":
    main()
