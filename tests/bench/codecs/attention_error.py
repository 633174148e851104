"""The measure of a KV codec: relative error of the attention output.

||softmax(q K'^T s) V' - softmax(q K^T s) V|| / ||softmax(q K^T s) V|| for each
captured query and head, with the layer's own mask and scale
(algorithms.md, section 1).
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


class Captured:
    """A captured set, memory-mapped: k, v [layers, tokens, kv heads, dim],
    q [layers, queries, heads, dim]."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.facts: dict[str, Any] = json.loads((folder / "capture.json").read_text())
        f = self.facts
        self.layers = len(f["layers"])
        self.tokens, self.heads, self.kv_heads = f["tokens"], f["heads"], f["kv_heads"]
        self.dim, self.scale = f["dim"], f["scale"]
        kv = (self.layers, self.tokens, self.kv_heads, self.dim)
        self.k = np.memmap(folder / "k.f32", np.float32, "r", shape=kv)
        self.v = np.memmap(folder / "v.f32", np.float32, "r", shape=kv)
        self.q = np.memmap(
            folder / "q.f32", np.float32, "r", shape=(self.layers, f["queries"], self.heads, self.dim)
        )
        self.q_positions = f["query_first"] + f["query_stride"] * np.arange(f["queries"])

    def window(self, layer: int) -> int:
        return int(self.facts["layers"][layer]["window"])

    def theta(self, layer: int) -> float:
        return float(self.facts["layers"][layer]["theta"])


@dataclasses.dataclass(frozen=True)
class LayerProbe:
    """Queries of one layer with the exact outputs; made once, used for every codec."""

    q: Array  # [heads, queries, dim], scaled
    unseen: npt.NDArray[np.bool_]  # [queries, tokens]
    exact: Array  # [heads, queries, dim]
    shared: int  # heads that share a KV head


def _outputs(q: Array, unseen: npt.NDArray[np.bool_], k: Array, v: Array, shared: int) -> Array:
    out = np.empty((q.shape[0], q.shape[1], v.shape[-1]), np.float32)
    for kv_head in range(k.shape[1]):
        heads = slice(kv_head * shared, (kv_head + 1) * shared)
        logits = q[heads] @ k[:, kv_head].T
        logits[:, unseen] = -np.inf
        logits -= logits.max(axis=-1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=-1, keepdims=True)
        out[heads] = logits @ v[:, kv_head]
    return out


def probe(captured: Captured, layer: int, every: int = 1) -> LayerProbe:
    """Takes every `every`-th captured query of the layer, the last included."""
    chosen = np.arange(len(captured.q_positions) - 1, -1, -every)[::-1]
    q = np.ascontiguousarray(captured.q[layer][chosen].transpose(1, 0, 2)) * np.float32(captured.scale)
    distance = captured.q_positions[chosen][:, None] - np.arange(captured.tokens)[None, :]
    window = captured.window(layer)
    unseen = (distance < 0) | (distance >= window) if window else distance < 0
    shared = captured.heads // captured.kv_heads
    exact = _outputs(q, unseen, captured.k[layer], captured.v[layer], shared)
    return LayerProbe(q, unseen, exact, shared)


def errors(probed: LayerProbe, k: Array, v: Array) -> Array:
    """[heads, queries]; k and v are [tokens, kv heads, dim] as decoded."""
    out = _outputs(probed.q, probed.unseen, k, v, probed.shared)
    norm = np.linalg.norm(probed.exact, axis=-1)
    return np.linalg.norm(out - probed.exact, axis=-1) / np.maximum(norm, 1e-30)
