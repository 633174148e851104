#!/usr/bin/env python3
"""Product codebooks on real passage embeddings, beside rotated codes of the same size.

What decision 0104 left open: 256 centroids for each 2 values take an eighth of the
bytes of fp32, as rotated codes of 4 bits do. Reads what passages.py wrote, and the
rotated codes that `make bench-codecs` decoded. Prints JSON.

usage: product_codebooks.py FOLDER
"""

import json
import pathlib
import sys

import numpy as np

DIMENSION = 384
CENTROIDS = 256
WIDTH = 2  # values of one code of 8 bits
ROUNDS = 15
NEAREST = 10


def read(folder: pathlib.Path, name: str) -> np.ndarray:
    return np.fromfile(folder / f"{name}.f32", np.float32).reshape(-1, DIMENSION)


def assign(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return np.argmin((centroids**2).sum(1) - 2 * rows @ centroids.T, axis=1)


def centroids_of(rows: np.ndarray) -> np.ndarray:
    """By Lloyd's algorithm."""
    centroids = rows[np.random.default_rng(0).choice(len(rows), CENTROIDS, replace=False)].copy()
    for _ in range(ROUNDS):
        nearest = assign(rows, centroids)
        counts = np.bincount(nearest, minlength=CENTROIDS)
        sums = np.zeros_like(centroids)
        np.add.at(sums, nearest, rows)
        centroids[counts > 0] = sums[counts > 0] / counts[counts > 0, None]
    return centroids


def coded(train: np.ndarray, rows: np.ndarray) -> np.ndarray:
    decoded = np.empty_like(rows)
    for begin in range(0, DIMENSION, WIDTH):
        columns = slice(begin, begin + WIDTH)
        centroids = centroids_of(train[:, columns])
        decoded[:, columns] = centroids[assign(rows[:, columns], centroids)]
    return decoded


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = pathlib.Path(sys.argv[1])
    exact, questions = read(folder, "passages"), read(folder, "questions")

    def nearest(rows: np.ndarray) -> np.ndarray:
        return np.argpartition(-(questions @ rows.T), NEAREST, axis=1)[:, :NEAREST]

    def right(found: np.ndarray) -> float:
        return float(np.mean([i in row for i, row in enumerate(found)]))

    reference = nearest(exact)
    facts = {}
    for name, rows in (
        ("rotated4", read(folder, "decoded_rotated4")),
        ("product_trained_on_others", coded(read(folder, "calibration"), exact)),
        ("product_trained_on_themselves", coded(exact, exact)),
    ):
        found = nearest(rows)
        shared = np.mean([len(set(a) & set(b)) / NEAREST for a, b in zip(reference, found)])
        facts[name] = {
            "right_answers_lost": round(right(reference) - right(found), 4),
            "nearest_lost": round(1 - float(shared), 4),
            "relative_error": round(
                float(np.linalg.norm(rows - exact) / np.linalg.norm(exact)), 4
            ),
        }
    print(json.dumps(facts, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
