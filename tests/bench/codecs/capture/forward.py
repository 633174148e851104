"""A forward pass in numpy that keeps K, V and Q of every layer.

Two architectures: `llama` (SmolLM2) and `gemma3`, as llama.cpp computes them
(src/models/llama.cpp, src/models/gemma3-iswa.cpp), in float32 throughout. K and
Q are those that meet in attention: normalised where the model does, and
rotated.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from weights import Array, Weights

# Gemma 3: every sixth layer attends to everything, the others to a window.
_GEMMA_PERIOD = 6
_GEMMA_LOCAL_THETA = 10_000.0
_QUERIES_AT_ONCE = 512


@dataclasses.dataclass(frozen=True)
class Layer:
    """What attention of one layer is; `window` 0 means everything before."""

    theta: float
    window: int


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Of a model's attention. `pairing` is of RoPE: "interleaved" or "half"."""

    architecture: str
    embedding: int
    heads: int
    kv_heads: int
    dim: int
    epsilon: float
    scale: float
    pairing: str
    layers: tuple[Layer, ...]


@dataclasses.dataclass
class LayerState:
    """float32 [tokens, heads, dim]; q has all heads, k and v those of KV."""

    k: Array
    v: Array
    q: Array


def geometry_of(metadata: dict[str, object]) -> Geometry:
    """Raises ValueError for an architecture that is not known."""
    name = str(metadata["general.architecture"])
    if name not in ("llama", "gemma3"):
        raise ValueError(f"architecture {name}; llama and gemma3 are known")

    def number(key: str, default: float | None = None) -> float:
        value = metadata.get(f"{name}.{key}", default)
        if value is None:
            raise ValueError(f"{name}.{key} is missing")
        return float(value)  # type: ignore[arg-type]

    embedding, heads = int(number("embedding_length")), int(number("attention.head_count"))
    dim = int(number("attention.key_length", embedding // heads))
    theta, window = number("rope.freq_base"), int(number("attention.sliding_window", 0))
    layers = []
    for index in range(int(number("block_count"))):
        if name == "gemma3" and index % _GEMMA_PERIOD != _GEMMA_PERIOD - 1:
            layers.append(Layer(_GEMMA_LOCAL_THETA, window))
        else:
            layers.append(Layer(theta, 0))
    return Geometry(
        name, embedding, heads, int(number("attention.head_count_kv")), dim,
        number("attention.layer_norm_rms_epsilon"), 1 / math.sqrt(dim),
        "interleaved" if name == "llama" else "half", tuple(layers),
    )  # fmt: skip


def _normed(x: Array, weight: Array, epsilon: float) -> Array:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight


def rotate(x: Array, positions: npt.NDArray[np.int64], theta: float, pairing: str) -> Array:
    """RoPE over all of the last axis of [tokens, heads, dim]."""
    half = x.shape[-1] // 2
    angles = positions[:, None] * theta ** (-np.arange(half) / half)
    cos = np.cos(angles).astype(np.float32)[:, None]
    sin = np.sin(angles).astype(np.float32)[:, None]
    out = np.empty_like(x)
    if pairing == "half":
        a, b = np.s_[..., :half], np.s_[..., half:]
    else:
        a, b = np.s_[..., 0::2], np.s_[..., 1::2]
    out[a] = x[a] * cos - x[b] * sin
    out[b] = x[a] * sin + x[b] * cos
    return out


def attention_mask(first: int, count: int, keys: int, window: int) -> npt.NDArray[np.bool_]:
    """True where query `first` + i may see key j."""
    distance = np.arange(first, first + count)[:, None] - np.arange(keys)[None, :]
    return (distance >= 0) & (distance < window) if window else distance >= 0


def _attention(state: LayerState, geometry: Geometry, window: int) -> Array:
    tokens = len(state.k)
    out = np.empty((tokens, geometry.heads, geometry.dim), np.float32)
    shared = geometry.heads // geometry.kv_heads
    for first in range(0, tokens, _QUERIES_AT_ONCE):
        end = min(first + _QUERIES_AT_ONCE, tokens)
        least = max(0, first - window + 1) if window else 0
        seen = attention_mask(first, end - first, end, window)[:, least:]
        for head in range(geometry.heads):
            k = state.k[least:end, head // shared]
            logits = state.q[first:end, head] @ k.T * np.float32(geometry.scale)
            logits[~seen] = -np.inf
            logits -= logits.max(axis=1, keepdims=True)
            np.exp(logits, out=logits)
            logits /= logits.sum(axis=1, keepdims=True)
            out[first:end, head] = logits @ state.v[least:end, head // shared]
    return out


def _silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Model:
    """A model's weights with its geometry."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.geometry = geometry_of(weights.metadata)

    def run(
        self, tokens: Sequence[int], on_layer: Callable[[int, LayerState], None]
    ) -> Array:
        """Runs `tokens` from position 0; calls `on_layer` with each layer's state.

        Returns: float32 [vocabulary], the logits behind the last token.
        """
        g, w = self.geometry, self.weights
        gemma = g.architecture == "gemma3"
        table = w.get("token_embd.weight")
        x = table[list(tokens)]
        if gemma:
            x = x * np.float32(math.sqrt(g.embedding))
        for index in range(len(g.layers)):
            x = self._layer(index, x, on_layer)
        last = _normed(x[-1], w.get("output_norm.weight"), g.epsilon)
        output = w.get("output.weight") if "output.weight" in w else table
        return output @ last

    def _layer(self, index: int, x: Array, on_layer: Callable[[int, LayerState], None]) -> Array:
        g, w = self.geometry, self.weights
        gemma = g.architecture == "gemma3"

        def get(part: str) -> Array:
            return w.get(f"blk.{index}.{part}.weight")

        positions = np.arange(len(x))
        inner = _normed(x, get("attn_norm"), g.epsilon)
        q = (inner @ get("attn_q").T).reshape(len(x), g.heads, g.dim)
        k = (inner @ get("attn_k").T).reshape(len(x), g.kv_heads, g.dim)
        v = (inner @ get("attn_v").T).reshape(len(x), g.kv_heads, g.dim)
        if gemma:
            q = _normed(q, get("attn_q_norm"), g.epsilon)
            k = _normed(k, get("attn_k_norm"), g.epsilon)
        layer = g.layers[index]
        q = rotate(q, positions, layer.theta, g.pairing)
        k = rotate(k, positions, layer.theta, g.pairing)
        state = LayerState(k, v, q)
        on_layer(index, state)
        out = _attention(state, g, layer.window).reshape(len(x), -1) @ get("attn_output").T
        if gemma:
            out = _normed(out, get("post_attention_norm"), g.epsilon)
        x = x + out
        inner = _normed(x, get("ffn_norm"), g.epsilon)
        gate = (_gelu if gemma else _silu)(inner @ get("ffn_gate").T)
        out = (gate * (inner @ get("ffn_up").T)) @ get("ffn_down").T
        if gemma:
            out = _normed(out, get("post_ffw_norm"), g.epsilon)
        return x + out
