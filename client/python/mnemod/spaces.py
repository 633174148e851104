"""Spaces: one model's KV geometry, as the caller writes it and as it stands."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Optional, Sequence, Tuple


class Durability(IntEnum):
    """When a write is acknowledged, and so what a crash may lose."""

    UNSPECIFIED = 0
    CACHE = 1
    INTERVAL = 2
    SYNC = 3


class GroupKind(IntEnum):
    """How the layers of a group look back, and so which blocks a match needs."""

    FULL = 1
    WINDOW = 2
    STATE = 3
    LATENT = 4
    OPAQUE = 5


class DType(IntEnum):
    """How numbers are stored. UNSPECIFIED means bytes."""

    UNSPECIFIED = 0
    F32 = 1
    F16 = 2
    BF16 = 3
    FP8_E4M3 = 4
    FP8_E5M2 = 5
    INT8 = 6
    INT4 = 7

    @property
    def bits(self) -> int:
        """Bits of one value; 8 for bytes."""
        return _BITS[self]


_BITS = {
    DType.UNSPECIFIED: 8,
    DType.F32: 32,
    DType.F16: 16,
    DType.BF16: 16,
    DType.FP8_E4M3: 8,
    DType.FP8_E5M2: 8,
    DType.INT8: 8,
    DType.INT4: 4,
}


class Layout(IntEnum):
    """The order of a part's bytes: L layers, T tokens, H heads, D dimension."""

    UNSPECIFIED = 0
    LAYER_MAJOR = 1
    """[L, 2, T, H, D]"""
    KV_MAJOR = 2
    """[2, L, T, H, D], as LMCache and SGLang's layer_first."""
    TOKEN_MAJOR = 3
    """[2, T, L, H, D], as SGLang's page_first. Read whole."""


class RopePairing(IntEnum):
    """Which dimensions a rotary embedding turns together."""

    UNSPECIFIED = 0
    HALF = 1
    INTERLEAVED = 2


@dataclass(frozen=True)
class Rope:
    """The rotary position embedding of a group's keys."""

    theta: float
    rotary_dimensions: int
    pairing: RopePairing = RopePairing.UNSPECIFIED
    scaling_kind: str = ""
    scaling_factor: float = 0.0


@dataclass(frozen=True)
class Scales:
    """Bytes of scales behind each [T, H, D] run, and what they are."""

    bytes_per_run: int
    description: str = ""


@dataclass(frozen=True)
class Group:
    """Layers that behave alike, and how a part of them is laid out.

    `layer_indexes` says which of the model's layers these are; the server does
    not know it.
    """

    name: str
    kind: GroupKind
    layers: int
    kv_heads: int = 0
    k_dimension: int = 0
    v_dimension: int = 0
    dtype: DType = DType.UNSPECIFIED
    layout: Layout = Layout.LAYER_MAJOR
    window_tokens: int = 0
    fixed_bytes: int = 0
    tensor_parallel_size: int = 1
    pipeline_layers: Tuple[int, ...] = ()
    optional: bool = False
    scales: Optional[Scales] = None
    rope: Optional[Rope] = None
    layer_indexes: Tuple[int, ...] = field(default=(), compare=False)

    def run_bytes(self, tokens: int) -> Tuple[int, int]:
        """Bytes of one layer's K and V of `tokens` tokens, of one rank."""
        heads = self.kv_heads // max(self.tensor_parallel_size, 1)
        scales = self.scales.bytes_per_run if self.scales else 0

        def run(dimension: int) -> int:
            bits = tokens * heads * dimension * self.dtype.bits
            return (bits + 7) // 8 + scales if dimension else 0

        return run(self.k_dimension), run(self.v_dimension)

    def layers_of(self, pp_rank: int = 0) -> int:
        """Layers that a pipeline rank holds."""
        return self.pipeline_layers[pp_rank] if self.pipeline_layers else self.layers

    def part_bytes(self, tokens: int, pp_rank: int = 0) -> int:
        """Bytes of one part of `tokens` tokens; 0 where any size is allowed."""
        layers = self.layers_of(pp_rank)
        if self.kind is GroupKind.OPAQUE:
            return self.fixed_bytes
        if self.kind is GroupKind.STATE:
            return self.fixed_bytes * layers
        return layers * sum(self.run_bytes(tokens))


@dataclass(frozen=True)
class Fingerprint:
    """Whatever must agree for state to be interchangeable."""

    weights_digest: str = ""
    quantization: str = ""
    adapter: str = ""
    rope_override: str = ""
    kv_cache_dtype: str = ""
    state_format: str = ""


@dataclass(frozen=True)
class LevelBits:
    """Bits of a value's code by level, 0 for exact; None for what the floor says.

    Each is at least the floor, and no deeper level has more than one above it.
    """

    l2: Optional[int] = None
    l3: Optional[int] = None
    archive: Optional[int] = None


@dataclass(frozen=True)
class Space:
    """What a space has to be. `Space.from_gguf`, `Space.from_hf_config` and
    `Space.opaque` fill it in; `dataclasses.replace` changes a field.
    """

    name: str
    tokens_per_block: int
    groups: Tuple[Group, ...]
    fingerprint: Fingerprint = Fingerprint()
    salt_required: bool = False
    chain_affinity: bool = False
    durability: Durability = Durability.UNSPECIFIED
    time_to_live: int = 0
    """Seconds; 0 for without end."""
    floor_bits: int = 0
    """The fewest bits of a value's code that the owner allows below L1: 2, 3, 4,
    5 or 8; 0 for exact."""
    level_bits: LevelBits = LevelBits()
    """What levels keep where that is more than the floor."""

    @staticmethod
    def from_gguf(path: Any, **options: Any) -> "Space":
        """Reads the geometry of a GGUF file; see `mnemod.gguf.space_from_gguf`."""
        from .gguf_space import space_from_gguf

        return space_from_gguf(path, **options)

    @staticmethod
    def from_hf_config(config: Any, **options: Any) -> "Space":
        """Reads a Hugging Face config; see `mnemod.hf_space.space_from_hf_config`."""
        from .hf_space import space_from_hf_config

        return space_from_hf_config(config, **options)

    @staticmethod
    def opaque(
        name: str,
        *,
        tokens_per_block: int,
        part_bytes: int = 0,
        tensor_parallel_size: int = 1,
        pipeline_size: int = 1,
        fingerprint: Fingerprint = Fingerprint(),
        **fields: Any,
    ) -> "Space":
        """A space of bytes that only the engine understands.

        `part_bytes` 0 allows any size up to 64 MiB. `fields` are Space's own.
        """
        group = Group(
            name="opaque",
            kind=GroupKind.OPAQUE,
            layers=pipeline_size,
            fixed_bytes=part_bytes,
            tensor_parallel_size=tensor_parallel_size,
            pipeline_layers=(1,) * pipeline_size if pipeline_size > 1 else (),
        )
        return Space(
            name=name,
            tokens_per_block=tokens_per_block,
            groups=(group,),
            fingerprint=fingerprint,
            **fields,
        )

    def part_bytes(self, group: int = 0, pp_rank: int = 0) -> int:
        """Bytes of a part of a whole block; 0 where any size is allowed."""
        return self.groups[group].part_bytes(self.tokens_per_block, pp_rank)

    def with_layout(self, layout: Layout) -> "Space":
        """This space with another order of bytes in its attention groups."""
        groups: Sequence[Group] = [
            replace(group, layout=layout) if group.k_dimension else group for group in self.groups
        ]
        return replace(self, groups=tuple(groups))


@dataclass(frozen=True)
class SpaceInfo:
    """A space as it stands on the server."""

    id: int
    space: Space
    created_unix_us: int
    part_bytes: Tuple[int, ...]
    """Bytes of a part of each group, of pipeline rank 0; 0 for any size."""


@dataclass(frozen=True)
class SpaceUsage:
    """What a space holds now."""

    parts: int
    bytes: int
    tokens: int
    level_bytes: Tuple[int, ...]
    """Bytes as stored, nearest level first."""
    reencoding: Optional[Tuple[int, int]] = None
    """While parts are brought into the form that the policy asks for: how many
    were looked at, of how many."""
