"""Vectors for the search benchmarks: real contextual states, and a mixture fitted to them."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

RESULTS = 10
COMPONENTS = 64
# How much of a component's covariance is taken from all components together: a
# component has fewer states than its covariance has entries.
SHRINKAGE = 0.2


def read_states(folder: pathlib.Path) -> Array:
    """What hidden_states.py wrote, mean-centred."""
    facts = json.loads((folder / "states.json").read_text())
    states = np.fromfile(folder / "states.f32", np.float32).reshape(-1, facts["width"])
    if len(states) != facts["tokens"]:
        raise RuntimeError(f"{folder} holds {len(states)} states, not {facts['tokens']}")
    return states - states.mean(0)


def project(states: Array, dimension: int) -> Array:
    """The `dimension` first principal components of mean-centred states."""
    if dimension == states.shape[1]:
        return states
    covariance = (states.T @ states).astype(np.float64)
    _, vectors = np.linalg.eigh(covariance)
    return states @ vectors[:, ::-1][:, :dimension].astype(np.float32)


def exact(base: Array, queries: Array) -> npt.NDArray[np.int32]:
    """The RESULTS nearest rows of `base` by L2, in no order."""
    norms = (base**2).sum(1)
    found = []
    for begin in range(0, len(queries), 256):
        distances = norms[None] - 2 * queries[begin : begin + 256] @ base.T
        found.append(np.argpartition(distances, RESULTS, axis=1)[:, :RESULTS])
    return np.concatenate(found).astype(np.int32)


def write_graph_set(states: Array, dimension: int, queries: int, folder: pathlib.Path) -> None:
    """base.f32, queries.f32, truth.i32: the last states are the queries."""
    folder.mkdir(parents=True, exist_ok=True)
    vectors = np.ascontiguousarray(project(states, dimension))
    base, held_out = vectors[:-queries], vectors[-queries:]
    base.tofile(folder / "base.f32")
    held_out.tofile(folder / "queries.f32")
    exact(base, held_out).tofile(folder / "truth.i32")


class Mixture:
    """A Gaussian mixture: k-means for the means, shrunk covariances around them."""

    def __init__(self, states: Array, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        means = states[self._random.choice(len(states), COMPONENTS, replace=False)]
        for _ in range(15):
            nearest = self._nearest(states, means)
            for c in range(COMPONENTS):
                if (nearest == c).any():
                    means[c] = states[nearest == c].mean(0)
        nearest = self._nearest(states, means)
        pooled = np.cov((states - means[nearest]).T)
        self._means, self._factors, shares = means, [], []
        for c in range(COMPONENTS):
            own = states[nearest == c]
            covariance = np.cov(own.T) if len(own) > 1 else pooled
            mixed = (1 - SHRINKAGE) * covariance + SHRINKAGE * pooled
            ridge = 1e-6 * np.trace(mixed) / len(mixed) * np.eye(len(mixed))
            self._factors.append(np.linalg.cholesky(mixed + ridge).astype(np.float32))
            shares.append(len(own) / len(states))
        self._shares = np.array(shares) / sum(shares)

    @staticmethod
    def _nearest(states: Array, means: Array) -> npt.NDArray[np.int64]:
        return np.asarray(((means**2).sum(1)[None] - 2 * states @ means.T).argmin(1))

    def draw(self, count: int) -> Array:
        """No two alike, in random order of components."""
        chosen = self._random.choice(COMPONENTS, count, p=self._shares)
        drawn = self._random.standard_normal((count, self._means.shape[1]), dtype=np.float32)
        for c in range(COMPONENTS):
            mine = chosen == c
            drawn[mine] = self._means[c] + drawn[mine] @ self._factors[c].T
        return drawn


def write_mixture_set(states: Array, rows: int, queries: int, folder: pathlib.Path) -> None:
    """base.f32 and queries.f32 of dimension 256, drawn from a mixture fitted to `states`."""
    folder.mkdir(parents=True, exist_ok=True)
    mixture = Mixture(np.ascontiguousarray(project(states, 256)), seed=1)
    with open(folder / "base.f32", "wb") as file:
        for begin in range(0, rows, 262_144):
            mixture.draw(min(262_144, rows - begin)).tofile(file)
    mixture.draw(queries).tofile(folder / "queries.f32")
