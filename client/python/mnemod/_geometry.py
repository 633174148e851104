"""From what a model says of each layer to the groups of a space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from .spaces import DType, Group, GroupKind, Layout, Rope


@dataclass(frozen=True)
class LayerShape:
    """What one layer keeps of a token, or of a sequence."""

    kind: GroupKind
    kv_heads: int = 0
    k_dimension: int = 0
    v_dimension: int = 0
    window_tokens: int = 0
    state_bytes: int = 0
    """Of all tensor-parallel ranks together."""
    rope: Optional[Rope] = None


_NAMES = {
    GroupKind.FULL: "full",
    GroupKind.WINDOW: "window",
    GroupKind.STATE: "state",
    GroupKind.LATENT: "latent",
}


def make_groups(
    layers: "List[Tuple[LayerShape, ...]]",
    *,
    dtype: DType,
    layout: Layout,
    tensor_parallel_size: int,
) -> Tuple[Group, ...]:
    """Returns a group for each shape that occurs, in order of first layer.

    `layers` lists each layer's shapes: usually one; none for a layer that
    keeps nothing (it shares another's); two for one that keeps both attention
    and recurrent state. Errors: ValueError (nothing is kept, or the heads
    cannot be split over the ranks).
    """
    members: Dict[LayerShape, List[int]] = {}
    for index, shapes in enumerate(layers):
        for shape in shapes:
            members.setdefault(shape, []).append(index)
    if not members:
        raise ValueError("the model has no layer that keeps state")
    names = _unique_names(list(members))
    return tuple(
        _make_group(name, shape, indexes, dtype, layout, tensor_parallel_size)
        for name, (shape, indexes) in zip(names, members.items())
    )


def _unique_names(shapes: List[LayerShape]) -> List[str]:
    kinds = [shape.kind for shape in shapes]
    return [
        _NAMES[kind] if kinds.count(kind) == 1 else f"{_NAMES[kind]}{kinds[:i].count(kind)}"
        for i, kind in enumerate(kinds)
    ]


def _make_group(
    name: str, shape: LayerShape, indexes: List[int], dtype: DType, layout: Layout, tp_size: int
) -> Group:
    common: Dict[str, Any] = {
        "name": name,
        "kind": shape.kind,
        "layers": len(indexes),
        "layer_indexes": tuple(indexes),
    }
    if shape.kind is GroupKind.STATE:
        if shape.state_bytes % tp_size:
            raise ValueError(
                f"state of {shape.state_bytes} bytes cannot be split over {tp_size} ranks"
            )
        common["fixed_bytes"] = shape.state_bytes // tp_size
        return Group(tensor_parallel_size=tp_size, **common)
    if shape.kind is GroupKind.LATENT:
        # Every rank holds the whole latent, so it is stored once.
        tp_size = 1
    if shape.kv_heads % tp_size:
        raise ValueError(f"{shape.kv_heads} KV heads cannot be split over {tp_size} ranks")
    return Group(
        kv_heads=shape.kv_heads,
        k_dimension=shape.k_dimension,
        v_dimension=shape.v_dimension,
        dtype=dtype,
        layout=layout,
        window_tokens=shape.window_tokens,
        tensor_parallel_size=tp_size,
        rope=shape.rope,
        **common,
    )
