"""What the administration answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

from . import _convert
from .blocks import Level, PartInfo


@dataclass(frozen=True)
class NodeStatus:
    """What the node is and how it does; fields as in admin.proto."""

    node_id: str
    version: str
    format_version: int
    ready: bool
    problems: Tuple[str, ...]
    started_unix_us: int
    spaces: int
    parts: int
    resident_bytes: int
    memory_budget_bytes: int
    disk_budget_bytes: int
    disk_used_bytes: int
    disk_free_bytes: int
    addresses: Mapping[str, str]
    recovery: str
    insecure: bool
    context_l3_bytes: int
    context_l3_capacity_bytes: int
    context_archive_bytes: int
    contexts_waiting: int


@dataclass(frozen=True)
class LevelInfo:
    """One level; fields as in admin.proto."""

    level: Level
    label: str
    capacity_bytes: int
    used_bytes: int
    live_bytes: int
    parts: int
    lookups: int
    hits: int
    hit_ratio: float
    hit_ratio_objective: float
    p50_us: float
    p99_us: float
    p99_objective_us: float
    demoted: int
    promoted: int
    evicted: int
    high_watermark: float
    low_watermark: float
    exact_bytes: int


@dataclass(frozen=True)
class TierInfo:
    """One policy class; fields as in admin.proto."""

    name: str
    description: str
    level: Level
    bits_per_value: int
    moves_on_when: str
    active: bool
    parts: int
    bytes: int


@dataclass(frozen=True)
class Placement:
    """Where one part lies and why."""

    info: PartInfo
    shard: int
    tier: str
    copies: Tuple[Level, ...]
    rule: str
    explanation: str
    signals: Mapping[str, float]


@dataclass(frozen=True)
class ConfigEntry:
    """One setting in force."""

    key: str
    value: str
    origin: str
    description: str


def _fields(message: Any, kind: Any, **special: Any) -> Any:
    values: Dict[str, Any] = {
        name: special[name] if name in special else getattr(message, name)
        for name in kind.__dataclass_fields__
    }
    return kind(**values)


def from_node_status(message: Any) -> NodeStatus:
    """GetNodeStatusResponse."""
    addresses = dict(entry.partition("=")[::2] for entry in message.addresses)
    status: NodeStatus = _fields(
        message, NodeStatus, problems=tuple(message.problems), addresses=addresses
    )
    return status


def from_levels(message: Any) -> Tuple[LevelInfo, ...]:
    """ListLevelsResponse."""
    return tuple(
        _fields(level, LevelInfo, level=Level(level.level)) for level in message.levels
    )


def from_tiers(message: Any) -> Tuple[TierInfo, ...]:
    """ListTiersResponse."""
    return tuple(_fields(tier, TierInfo, level=Level(tier.level)) for tier in message.tiers)


def from_placements(message: Any) -> Tuple[Placement, ...]:
    """ExplainPlacementResponse."""
    return tuple(
        Placement(
            _convert.from_part_info(part.part),
            part.shard,
            part.tier,
            tuple(Level(level) for level in part.copies),
            part.rule,
            part.explanation,
            {signal.name: signal.value for signal in part.signals},
        )
        for part in message.parts
    )


def from_config(message: Any) -> Tuple[ConfigEntry, ...]:
    """GetConfigResponse."""
    return tuple(_fields(entry, ConfigEntry) for entry in message.entries)
