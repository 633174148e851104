"""A space from a Hugging Face `config.json`."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from ._geometry import LayerShape, make_groups
from .gguf import file_digest
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

MAX_CONFIG_BYTES = 16 << 20
MAX_LAYERS = 4096

_DTYPES = {
    "float32": DType.F32,
    "float16": DType.F16,
    "bfloat16": DType.BF16,
    "float8_e4m3fn": DType.FP8_E4M3,
    "float8_e5m2": DType.FP8_E5M2,
}
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# Where config.json names a window but not the layers: every n-th sees all.
_WINDOW_PATTERNS = {"gemma2": 2, "gemma3_text": 6, "gemma3": 6, "cohere2": 4}
_WINDOW_KINDS = frozenset(("sliding_attention", "chunked_attention", "sliding"))
_STATE_KINDS = frozenset(("mamba", "mamba2", "linear_attention", "recurrent", "conv"))
_FULL_KINDS = frozenset(("full_attention", "attention", "full", "global"))


class ConfigError(ValueError):
    """A field of the config is missing or out of its range."""


class _Config:
    """A config by field, the text model's where there are several."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        text = fields.get("text_config")
        self._outer = fields
        self._fields = text if isinstance(text, Mapping) else fields

    def get(self, *names: str) -> Any:
        """The first of these that is there and not null."""
        for name in names:
            value = self._fields.get(name, self._outer.get(name))
            if value is not None:
                return value
        return None

    def integer(self, *names: str, default: Optional[int] = None, high: int = 1 << 24) -> int:
        value = self.get(*names)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
            raise ConfigError(f"{names[0]} is {value!r}; 0 to {high}")
        return value

    @property
    def kind(self) -> str:
        value = self.get("model_type")
        return value if isinstance(value, str) else ""


def space_from_hf_config(
    config: Union[Mapping[str, Any], str, "os.PathLike[str]"],
    *,
    name: str,
    weights_digest: str = "",
    tokens_per_block: int = 256,
    dtype: Optional[DType] = None,
    layout: Layout = Layout.LAYER_MAJOR,
    tensor_parallel_size: int = 1,
    state_bytes_per_layer: int = 0,
    quantization: str = "",
    adapter: str = "",
    rope_override: str = "",
    kv_cache_dtype: str = "",
    state_format: str = "",
    durability: Durability = Durability.UNSPECIFIED,
    time_to_live: int = 0,
    salt_required: bool = False,
) -> Space:
    """Returns the space of the model that `config` describes.

    `config` is a config's fields, a config.json, or a model's folder; of a
    folder the weight files give `weights_digest`. `dtype` is the KV cache's
    (default: the model's own). `state_bytes_per_layer` overrides what a
    recurrent layer keeps, for engines that keep it in another type.
    Errors: OSError, ConfigError (names the field and its range).
    """
    fields, folder = _load(config)
    reader = _Config(fields)
    if not weights_digest:
        if folder is None:
            raise ConfigError("weights_digest: required unless config is a model's folder")
        weights_digest = _weights_digest(folder)
    torch_dtype = reader.get("dtype", "torch_dtype") or "bfloat16"
    cache_dtype = dtype if dtype is not None else _DTYPES.get(torch_dtype)
    if cache_dtype is None:
        raise ConfigError(f"torch_dtype is {torch_dtype!r}; give dtype, one of {sorted(_DTYPES)}")
    method = reader.get("quantization_config") or {}
    shapes = _layer_shapes(reader, state_bytes_per_layer, _BYTES.get(torch_dtype, 2))
    return Space(
        name=name,
        tokens_per_block=tokens_per_block,
        groups=make_groups(
            shapes, dtype=cache_dtype, layout=layout, tensor_parallel_size=tensor_parallel_size
        ),
        fingerprint=Fingerprint(
            weights_digest=weights_digest,
            quantization=quantization or str(method.get("quant_method", "")),
            adapter=adapter,
            rope_override=rope_override,
            kv_cache_dtype=kv_cache_dtype or cache_dtype.name.lower(),
            state_format=state_format,
        ),
        salt_required=salt_required,
        durability=durability,
        time_to_live=time_to_live,
    )


def _load(config: Any) -> "Tuple[Mapping[str, Any], Optional[pathlib.Path]]":
    if isinstance(config, Mapping):
        return config, None
    path = pathlib.Path(config)
    folder = path if path.is_dir() else None
    file = path / "config.json" if folder else path
    if file.stat().st_size > MAX_CONFIG_BYTES:
        raise ConfigError(f"{file}: more than {MAX_CONFIG_BYTES} bytes")
    try:
        fields = json.loads(file.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{file}: not JSON: {error}") from None
    if not isinstance(fields, Mapping):
        raise ConfigError(f"{file}: not a JSON object")
    return fields, folder


def _weights_digest(folder: pathlib.Path) -> str:
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if not files:
        raise ConfigError(f"weights_digest: {folder} has no *.safetensors and no *.bin; give it")
    state = hashlib.sha256()
    for file in files:
        state.update(f"{file.name} {file_digest(file)}\n".encode())
    return f"sha256:{state.hexdigest()}"


def _layer_shapes(
    config: _Config, state_bytes: int, value_bytes: int
) -> "List[Tuple[LayerShape, ...]]":
    count = config.integer("num_hidden_layers", "n_layer", "n_layers", high=MAX_LAYERS)
    kinds = _layer_kinds(config, count)
    shapes: "List[Tuple[LayerShape, ...]]" = []
    shared = config.integer("num_kv_shared_layers", default=0, high=count)
    for i, kind in enumerate(kinds):
        if i >= count - shared:
            shapes.append(())
        elif kind is GroupKind.STATE:
            size = state_bytes or _state_bytes(config, value_bytes)
            shapes.append((LayerShape(kind=GroupKind.STATE, state_bytes=size),))
        elif config.get("kv_lora_rank") is not None:
            shapes.append((_latent_shape(config),))
        else:
            shapes.append((_attention_shape(config, kind),))
    return shapes


def _layer_kinds(config: _Config, count: int) -> List[GroupKind]:
    """FULL, WINDOW or STATE for each layer."""
    listed = config.get("layer_types", "layers_block_type")
    if listed is not None:
        return _listed_kinds(listed, count)
    attention = _mamba_attention_layers(config, count)
    if attention is not None:
        return [GroupKind.FULL if i in attention else GroupKind.STATE for i in range(count)]
    window = config.get("sliding_window")
    if not window or config.get("use_sliding_window") is False:
        return [GroupKind.FULL] * count
    if config.get("use_sliding_window") and config.get("max_window_layers") is not None:
        # Qwen2: the layers from this one on see a window.
        first = config.integer("max_window_layers")
        return [GroupKind.WINDOW if i >= first else GroupKind.FULL for i in range(count)]
    every = _WINDOW_PATTERNS.get(config.kind, 0)
    every = config.integer("sliding_window_pattern", "_sliding_window_pattern", default=every)
    if every <= 1:
        return [GroupKind.WINDOW] * count
    return [GroupKind.FULL if (i + 1) % every == 0 else GroupKind.WINDOW for i in range(count)]


def _listed_kinds(listed: Any, count: int) -> List[GroupKind]:
    if not isinstance(listed, (list, tuple)) or len(listed) != count:
        raise ConfigError(f"layer_types: a list of {count}, one for each layer")
    kinds = []
    for index, kind in enumerate(listed):
        if kind in _WINDOW_KINDS:
            kinds.append(GroupKind.WINDOW)
        elif kind in _STATE_KINDS:
            kinds.append(GroupKind.STATE)
        elif kind in _FULL_KINDS:
            kinds.append(GroupKind.FULL)
        else:
            known = sorted(_WINDOW_KINDS | _STATE_KINDS | _FULL_KINDS)
            raise ConfigError(f"layer_types[{index}] is {kind!r}; one of {known}")
    return kinds


def _mamba_attention_layers(config: _Config, count: int) -> Optional[List[int]]:
    """Which layers of a hybrid attend; None if the model is no hybrid."""
    indexes = config.get("attn_layer_indices")
    if isinstance(indexes, (list, tuple)):  # Bamba
        return [int(i) for i in indexes]
    period = config.get("attn_layer_period")
    if period:  # Jamba
        offset = config.integer("attn_layer_offset", default=0)
        return [i for i in range(count) if i % int(period) == offset]
    interval = config.get("full_attention_interval")
    if interval:  # Qwen3-Next
        return [i for i in range(count) if (i + 1) % int(interval) == 0]
    return None


def _attention_shape(config: _Config, kind: GroupKind) -> LayerShape:
    heads = config.integer("num_attention_heads", "n_head", high=1024)
    if not heads:
        raise ConfigError("num_attention_heads is 0; 1 to 1024")
    kv_heads = config.integer("num_key_value_heads", "n_head_kv", default=heads, high=1024)
    hidden = config.integer("hidden_size", "n_embd")
    dimension = config.integer("head_dim", default=hidden // heads, high=16384)
    windowed = kind is GroupKind.WINDOW
    return LayerShape(
        kind=kind,
        kv_heads=kv_heads,
        k_dimension=dimension,
        v_dimension=config.integer("v_head_dim", default=dimension, high=16384),
        window_tokens=config.integer("sliding_window", "attention_chunk_size", high=(1 << 31) - 1)
        if windowed
        else 0,
        rope=_rope(config, dimension, windowed),
    )


def _latent_shape(config: _Config) -> LayerShape:
    rank = config.integer("kv_lora_rank", high=16384)
    rotary = config.integer("qk_rope_head_dim", default=0, high=16384)
    rope = _rope(config, rotary, False) if rotary else None
    return LayerShape(
        kind=GroupKind.LATENT, kv_heads=1, k_dimension=rank + rotary, rope=rope
    )


def _rope(config: _Config, dimension: int, windowed: bool) -> Optional[Rope]:
    parameters = config.get("rope_parameters", "rope_scaling") or {}
    by_kind = parameters.get("sliding_attention" if windowed else "full_attention")
    if isinstance(by_kind, Mapping):
        parameters = by_kind
    theta = parameters.get("rope_theta") or config.get("rope_theta", "rotary_emb_base")
    if windowed and not isinstance(by_kind, Mapping):
        theta = config.get("rope_local_base_freq") or theta
        # Scaling lengthens the layers that see everything.
        parameters = {}
    if not isinstance(theta, (int, float)) or theta <= 0:
        return None
    kind = str(parameters.get("rope_type", parameters.get("type", "")) or "")
    kind = "" if kind == "default" else kind
    partial = parameters.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    return Rope(
        theta=float(theta),
        rotary_dimensions=max(int(dimension * partial), 1),
        pairing=RopePairing.INTERLEAVED
        if config.kind.startswith("deepseek") or config.get("rope_interleave")
        else RopePairing.HALF,
        scaling_kind=kind[:64],
        scaling_factor=float(parameters.get("factor", 0.0) or 0.0) if kind else 0.0,
    )


def _state_bytes(config: _Config, value_bytes: int) -> int:
    """Convolution and recurrent state of one layer, in the model's own type."""
    hidden = config.integer("hidden_size")
    values: Dict[str, int]
    if config.get("linear_num_value_heads") is not None:  # gated delta net
        key = config.integer("linear_num_key_heads") * config.integer("linear_key_head_dim")
        heads = config.integer("linear_num_value_heads")
        value = heads * config.integer("linear_value_head_dim")
        kernel = config.integer("linear_conv_kernel_dim", default=4)
        values = {
            "convolution": (kernel - 1) * (2 * key + value),
            "recurrent": value * config.integer("linear_key_head_dim"),
        }
    elif config.get("mamba_d_state") is None:
        raise ConfigError("state_bytes_per_layer: required, the config does not tell it")
    else:
        inner = config.integer("mamba_expand", default=2) * hidden
        state = config.integer("mamba_d_state")
        # Mamba 2 convolves B and C too.
        groups = config.integer("mamba_n_groups", default=0)
        kernel = config.integer("mamba_d_conv", default=4)
        values = {
            "convolution": (kernel - 1) * (inner + 2 * groups * state),
            "recurrent": inner * state,
        }
    return sum(values.values()) * value_bytes
