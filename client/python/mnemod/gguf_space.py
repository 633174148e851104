"""A space from a GGUF file, as llama.cpp would lay out its caches."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, Union

from ._geometry import LayerShape, make_groups
from .gguf import GgufError, Path, file_digest, read_metadata
from .spaces import (
    DType,
    Durability,
    Fingerprint,
    GroupKind,
    Layout,
    Rope,
    RopePairing,
    Space,
)

MAX_LAYERS = 4096

# Which layers see a window, where the file says only how wide it is: every
# n-th layer sees all, the last of each n, or with True the first. As the models
# of llama.cpp set it (load_swa_pattern).
_WINDOW_PATTERNS: Dict[str, Tuple[int, bool]] = {
    "afmoe": (4, False),
    "cohere2": (4, False),
    "exaone4": (4, False),
    "gemma2": (2, False),
    "gemma3": (6, False),
    "gemma3n": (5, False),
    "gpt-oss": (2, False),
    "olmo2": (4, False),
    "phi3": (1, False),
    "plamo3": (8, False),
    "smallthinker": (4, True),
}
# Their files name a window that llama.cpp does not keep to: all layers see all.
_WINDOW_IGNORED = frozenset(("llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "mistral3"))
# Window layers turn with a base of their own where the file names none.
_WINDOW_ROPE_THETA = {"gemma3": 10000.0, "gemma3n": 10000.0}
# Pairs 2i with 2i + 1; all others pair i with i + d/2.
_INTERLEAVED = frozenset(
    ("llama", "llama4", "deci", "baichuan", "starcoder", "internlm2", "minicpm", "command-r",
     "cohere2", "olmo", "arctic", "deepseek", "deepseek2", "granite", "granitemoe", "mistral3",
     "smollm3", "ernie4_5")
)
# llama.cpp keeps recurrent state as f32.
_STATE_VALUE_BYTES = 4

_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 32: "BF16",
}  # fmt: skip


class _Model:
    """The entries of one architecture."""

    def __init__(self, metadata: Dict[str, Any]) -> None:
        self._metadata = metadata
        arch = metadata.get("general.architecture")
        if not isinstance(arch, str) or not arch:
            raise GgufError("general.architecture is missing")
        self.arch = arch
        self.layers = self.integer("block_count", 1, MAX_LAYERS)

    def get(self, name: str) -> Any:
        return self._metadata.get(f"{self.arch}.{name}")

    def integer(self, name: str, low: int, high: int, default: Optional[int] = None) -> int:
        value = self.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise GgufError(f"{self.arch}.{name} is {value!r}; {low} to {high}")
        return value

    def real(self, name: str, default: float) -> float:
        value = self.get(name)
        return float(value) if isinstance(value, (int, float)) else default

    def per_layer(self, name: str, low: int, high: int, default: Optional[int]) -> List[int]:
        """An entry that is one number for all layers, or one for each."""
        value = self.get(name)
        if not isinstance(value, tuple):
            return [self.integer(name, low, high, default)] * self.layers
        bad = [v for v in value if isinstance(v, float) or not low <= int(v) <= high]
        if len(value) < self.layers or bad:
            raise GgufError(f"{self.arch}.{name}: one for each of {self.layers} layers, {low} to {high}")
        return [int(v) for v in value[: self.layers]]


def space_from_gguf(
    path: Path,
    *,
    name: str,
    tokens_per_block: int = 256,
    dtype: DType = DType.F16,
    layout: Layout = Layout.LAYER_MAJOR,
    tensor_parallel_size: int = 1,
    state_format: str = "",
    kv_cache_dtype: str = "",
    weights_digest: str = "",
    adapter: str = "",
    rope_override: str = "",
    durability: Durability = Durability.UNSPECIFIED,
    time_to_live: int = 0,
    salt_required: bool = False,
) -> Space:
    """Returns the space of the model in `path`.

    Layers with a window, and recurrent ones, are groups of their own. `dtype`
    is that of the engine's KV cache. Without `weights_digest` the whole file
    is read for its SHA-256. Errors: OSError, GgufError (names the entry and
    its range).
    """
    metadata = read_metadata(path)
    fingerprint = Fingerprint(
        weights_digest=weights_digest or file_digest(path),
        quantization=_quantization(metadata.get("general.file_type")),
        adapter=adapter,
        rope_override=rope_override,
        kv_cache_dtype=kv_cache_dtype or dtype.name.lower(),
        state_format=state_format,
    )
    return Space(
        name=name,
        tokens_per_block=tokens_per_block,
        groups=make_groups(
            layer_shapes(metadata),
            dtype=dtype,
            layout=layout,
            tensor_parallel_size=tensor_parallel_size,
        ),
        fingerprint=fingerprint,
        salt_required=salt_required,
        durability=durability,
        time_to_live=time_to_live,
    )


def _quantization(file_type: Union[int, None]) -> str:
    return "" if file_type is None else _FILE_TYPES.get(file_type, f"file_type {file_type}")


def layer_shapes(metadata: Dict[str, Any]) -> "List[Tuple[LayerShape, ...]]":
    """What each layer keeps. Errors: GgufError."""
    model = _Model(metadata)
    recurrent = _recurrent_layers(model)
    attention = _attention_shapes(model)
    state = _state_shape(model) if any(recurrent) else None
    shapes: "List[Tuple[LayerShape, ...]]" = []
    for is_recurrent, shape in zip(recurrent, attention):
        kept = [shape] if shape is not None else []
        if is_recurrent and state is not None:
            kept.append(state)
        shapes.append(tuple(kept))
    return shapes


def _attention_shapes(model: _Model) -> List[Optional[LayerShape]]:
    embedding = model.integer("embedding_length", 1, 1 << 20)
    heads = model.per_layer("attention.head_count", 0, 1024, None)
    widest = max(heads)
    kv_heads = model.per_layer("attention.head_count_kv", 0, 1024, widest)
    default = embedding // widest if widest else 0
    k_dimension = model.integer("attention.key_length", 0, 16384, default)
    v_dimension = model.integer("attention.value_length", 0, 16384, default)
    window = model.integer("attention.sliding_window", 0, (1 << 31) - 1, 0)
    windowed = _window_layers(model, window)
    shared = model.integer("attention.shared_kv_layers", 0, model.layers, 0)
    interval = model.integer("full_attention_interval", 0, MAX_LAYERS, 0)

    shapes: List[Optional[LayerShape]] = []
    for i in range(model.layers):
        is_linear = interval and (i + 1) % interval
        if not kv_heads[i] or is_linear or i >= model.layers - shared:
            shapes.append(None)
        elif model.get("attention.kv_lora_rank"):
            shapes.append(_latent_shape(model))
        else:
            shapes.append(
                LayerShape(
                    kind=GroupKind.WINDOW if windowed[i] else GroupKind.FULL,
                    kv_heads=kv_heads[i],
                    k_dimension=k_dimension,
                    v_dimension=v_dimension,
                    window_tokens=window if windowed[i] else 0,
                    rope=_rope(model, k_dimension, windowed[i]),
                )
            )
    return shapes


def _latent_shape(model: _Model) -> LayerShape:
    rank = model.integer("attention.kv_lora_rank", 1, 16384)
    rotary = model.integer("rope.dimension_count", 0, 16384, 0)
    return LayerShape(
        kind=GroupKind.LATENT,
        kv_heads=1,
        k_dimension=rank + rotary,
        rope=_rope(model, rotary, False) if rotary else None,
    )


def _window_layers(model: _Model, window: int) -> List[bool]:
    if not window or model.arch in _WINDOW_IGNORED:
        return [False] * model.layers
    pattern = model.get("attention.sliding_window_pattern")
    if isinstance(pattern, tuple):
        flags = model.per_layer("attention.sliding_window_pattern", 0, 1, None)
        return [bool(flag) for flag in flags]
    every, full_first = _WINDOW_PATTERNS.get(model.arch, (0, False))
    every = model.integer("attention.sliding_window_pattern", 0, MAX_LAYERS, every)
    if every <= 1:
        return [True] * model.layers
    full = 0 if full_first else every - 1
    return [i % every != full for i in range(model.layers)]


def _rope(model: _Model, k_dimension: int, windowed: bool) -> Optional[Rope]:
    theta = model.real("rope.freq_base", 10000.0)
    if windowed:
        theta = model.real("rope.freq_base_swa", _WINDOW_ROPE_THETA.get(model.arch, theta))
    dimensions = model.integer("rope.dimension_count", 0, 16384, k_dimension)
    if not dimensions or not theta > 0:
        return None
    scaling = model.get("rope.scaling.type")
    kind = scaling if isinstance(scaling, str) and scaling != "none" and not windowed else ""
    return Rope(
        theta=theta,
        rotary_dimensions=min(dimensions, k_dimension),
        pairing=RopePairing.INTERLEAVED if model.arch in _INTERLEAVED else RopePairing.HALF,
        scaling_kind=kind,
        scaling_factor=model.real("rope.scaling.factor", 0.0) if kind else 0.0,
    )


def _recurrent_layers(model: _Model) -> List[bool]:
    if model.get("ssm.state_size") is None and model.get("shortconv.l_cache") is None:
        return [False] * model.layers
    if model.arch == "falcon-h1":
        # Each layer has attention and state side by side.
        return [True] * model.layers
    interval = model.integer("full_attention_interval", 0, MAX_LAYERS, 0)
    if interval:
        return [(i + 1) % interval != 0 for i in range(model.layers)]
    kv_heads = model.per_layer("attention.head_count_kv", 0, 1024, 0)
    feed_forward = model.per_layer("feed_forward_length", 0, 1 << 24, 0)
    # nemotron_h alternates with layers that are feed-forward only.
    only_where_no_feed_forward = model.arch.startswith("nemotron_h")
    return [
        not heads and not (only_where_no_feed_forward and width)
        for heads, width in zip(kv_heads, feed_forward)
    ]


def _state_shape(model: _Model) -> LayerShape:
    embedding = model.integer("embedding_length", 1, 1 << 20)
    if model.get("shortconv.l_cache") is not None:
        values = embedding * (model.integer("shortconv.l_cache", 1, 4096) - 1)
    else:
        inner = model.integer("ssm.inner_size", 1, 1 << 24)
        state = model.integer("ssm.state_size", 1, 1 << 16)
        groups = model.integer("ssm.group_count", 0, 1 << 16, 0)
        kernel = model.integer("ssm.conv_kernel", 1, 4096)
        # llama_hparams::n_embd_r and n_embd_s.
        values = (kernel - 1) * (inner + 2 * groups * state) + state * inner
    return LayerShape(kind=GroupKind.STATE, state_bytes=values * _STATE_VALUE_BYTES)
