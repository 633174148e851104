"""Between the values of this package and the messages of the contract."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from . import blocks, spaces
from ._buffers import Source
from ._contract import pb
from ._meter import FetchMeter, Share, together
from .blocks import Digest, Level, Part
from .errors import MnemoError, make_error


def to_space(space: spaces.Space) -> Any:
    """The space, as Open takes it."""
    message = pb.Space(
        name=space.name,
        tokens_per_block=space.tokens_per_block,
        salt_required=space.salt_required,
        chain_affinity=space.chain_affinity,
        policy=to_policy(
            space.durability, space.time_to_live, space.floor_bits, space.level_bits
        ),
    )
    for name in spaces.Fingerprint.__dataclass_fields__:
        setattr(message.fingerprint, name, getattr(space.fingerprint, name))
    for group in space.groups:
        message.groups.append(to_group(group))
    return message


def to_policy(
    durability: spaces.Durability,
    time_to_live: int,
    floor_bits: Optional[int],
    level_bits: Optional[spaces.LevelBits],
) -> Any:
    """What of a space may change; without `floor_bits` and `level_bits` these do not."""
    policy = pb.SpacePolicy(durability=int(durability), time_to_live_seconds=time_to_live)
    if floor_bits is not None:
        policy.floor.bits_per_value = floor_bits
    if level_bits is not None:
        policy.levels.SetInParent()
        for name in ("l2", "l3", "archive"):
            bits = getattr(level_bits, name)
            if bits is not None:
                getattr(policy.levels, name).bits_per_value = bits
                getattr(policy.levels, name).SetInParent()  # also where they are 0
    return policy


def from_levels(levels: Any) -> spaces.LevelBits:
    """What levels keep."""
    return spaces.LevelBits(
        *(
            getattr(levels, name).bits_per_value if levels.HasField(name) else None
            for name in ("l2", "l3", "archive")
        )
    )


def to_group(group: spaces.Group) -> Any:
    """A group, without what only the client knows of it."""
    message = pb.Group(
        name=group.name,
        kind=int(group.kind),
        layers=group.layers,
        kv_heads=group.kv_heads,
        k_dimension=group.k_dimension,
        v_dimension=group.v_dimension,
        dtype=int(group.dtype),
        layout=int(group.layout),
        window_tokens=group.window_tokens,
        fixed_bytes=group.fixed_bytes,
        tensor_parallel_size=group.tensor_parallel_size,
        pipeline_layers=group.pipeline_layers,
        optional=group.optional,
    )
    if group.scales is not None:
        message.scales.bytes_per_run = group.scales.bytes_per_run
        message.scales.description = group.scales.description
    if group.rope is not None:
        message.rope.theta = group.rope.theta
        message.rope.rotary_dimensions = group.rope.rotary_dimensions
        message.rope.pairing = int(group.rope.pairing)
        message.rope.scaling_kind = group.rope.scaling_kind
        message.rope.scaling_factor = group.rope.scaling_factor
    return message


def from_group(message: Any) -> spaces.Group:
    """A group as the server keeps it."""
    rope = message.rope
    return spaces.Group(
        name=message.name,
        kind=spaces.GroupKind(message.kind),
        layers=message.layers,
        kv_heads=message.kv_heads,
        k_dimension=message.k_dimension,
        v_dimension=message.v_dimension,
        dtype=spaces.DType(message.dtype),
        layout=spaces.Layout(message.layout),
        window_tokens=message.window_tokens,
        fixed_bytes=message.fixed_bytes,
        tensor_parallel_size=message.tensor_parallel_size or 1,
        pipeline_layers=tuple(message.pipeline_layers),
        optional=message.optional,
        scales=spaces.Scales(message.scales.bytes_per_run, message.scales.description)
        if message.HasField("scales")
        else None,
        rope=spaces.Rope(
            rope.theta,
            rope.rotary_dimensions,
            spaces.RopePairing(rope.pairing),
            rope.scaling_kind,
            rope.scaling_factor,
        )
        if message.HasField("rope")
        else None,
    )


def from_space(message: Any) -> spaces.SpaceInfo:
    """A space as it stands."""
    fingerprint = {
        name: getattr(message.fingerprint, name)
        for name in spaces.Fingerprint.__dataclass_fields__
    }
    space = spaces.Space(
        name=message.name,
        tokens_per_block=message.tokens_per_block,
        groups=tuple(from_group(group) for group in message.groups),
        fingerprint=spaces.Fingerprint(**fingerprint),
        salt_required=message.salt_required,
        chain_affinity=message.chain_affinity,
        durability=spaces.Durability(message.policy.durability),
        time_to_live=message.policy.time_to_live_seconds,
        floor_bits=message.policy.floor.bits_per_value,
        level_bits=from_levels(message.policy.levels),
    )
    return spaces.SpaceInfo(
        message.id, space, message.created_unix_us, tuple(message.part_bytes)
    )


def from_usage(message: Any) -> spaces.SpaceUsage:
    """What a space holds."""
    return spaces.SpaceUsage(
        message.parts,
        message.bytes,
        message.tokens,
        tuple(message.level_bytes),
        (message.reencoding.looked_at, message.reencoding.parts)
        if message.HasField("reencoding")
        else None,
    )


def to_part(part: Tuple[int, int, int]) -> Any:
    """A part's numbers."""
    group, tp_rank, pp_rank = part
    return pb.PartId(group=group, tp_rank=tp_rank, pp_rank=pp_rank)


def from_part(message: Any) -> Part:
    """A part's numbers."""
    return Part(message.group, message.tp_rank, message.pp_rank)


def from_fidelity(header: Any) -> Optional[blocks.PartFidelity]:
    """What a header of Get says of a part that lost something."""
    if not header.HasField("fidelity"):
        return None
    said = header.fidelity
    return blocks.PartFidelity(said.codec, said.bits_per_value, said.error)


def from_digest(message: Any) -> Digest:
    """A digest."""
    return Digest(message.high, message.low)


def from_item_error(message: Any) -> MnemoError:
    """Why one key failed."""
    return make_error(message.code, message.message)


def to_offer(block: blocks.Block, source: Source) -> Any:
    """A part to be stored, without its bytes."""
    message = pb.PartOffer(
        key=block.key,
        part=to_part(block.part),
        size=source.size,
        depth=block.depth,
        parent=block.parent,
        stretch=block.stretch,
    )
    digest = block.digest or source.digest()
    if digest is not None:
        message.digest.high, message.digest.low = digest
    return message


def from_verdict(message: Any) -> blocks.OfferVerdict:
    """The answer for one offered part."""
    return blocks.OfferVerdict(
        blocks.Verdict(message.verdict),
        from_item_error(message.reason) if message.HasField("reason") else None,
        from_digest(message.digest) if message.HasField("digest") else None,
    )


def from_put_result(message: Any, key: bytes, part: Part) -> blocks.PutResult:
    """How one part ended."""
    return blocks.PutResult(
        key,
        part,
        blocks.PutOutcome(message.outcome),
        from_digest(message.digest) if message.HasField("digest") else None,
        from_item_error(message.error) if message.HasField("error") else None,
    )


def from_match(message: Any, want_bitmap: bool, meter: FetchMeter) -> blocks.MatchResult:
    """The longest prefix, and how long reading it may take."""
    present: Optional[bytes] = message.present if want_bitmap else None
    matched = sum(run.count for run in message.runs)
    each = message.fetch_bytes / matched if matched else 0
    shares = [Share(Level(run.level), run.count, int(run.count * each)) for run in message.runs]
    return blocks.MatchResult(
        blocks=message.blocks,
        tokens=message.tokens,
        runs=tuple(blocks.MatchRun(r.first, r.count, Level(r.level)) for r in message.runs),
        pending=tuple(message.pending),
        present=present,
        lease=message.lease,
        lease_seconds=message.lease_ms / 1000,
        fetch_bytes=message.fetch_bytes,
        fetch_seconds=meter.estimate(together(shares)) if shares else None,
        group_blocks=tuple((g.group, g.blocks) for g in message.groups),
    )


def from_prefetch(message: Any) -> blocks.PrefetchResult:
    return blocks.PrefetchResult(
        message.prefetch, message.queued, message.in_ram, message.absent, message.dropped
    )


def from_part_info(message: Any) -> blocks.PartInfo:
    """What is known of a part."""
    return blocks.PartInfo(
        key=message.key,
        part=from_part(message.part),
        size=message.size,
        stored_bytes=message.stored_bytes,
        digest=from_digest(message.digest),
        level=Level(message.level),
        on_disk=message.on_disk,
        depth=message.depth,
        parent=message.parent,
        durability=spaces.Durability(message.durability),
        pinned=message.pinned,
        leased=message.leased,
        pending=message.pending,
        codec=message.codec,
        created_unix_us=message.created_unix_us,
        expires_unix_us=message.expires_unix_us,
        uses=message.uses,
    )


def from_event(message: Any) -> blocks.BlockEvent:
    """One event of a watch."""
    return blocks.BlockEvent(
        message.sequence,
        blocks.EventKind(message.kind),
        message.key,
        from_part(message.part),
        message.depth,
        Level(message.level),
        message.salt_digest,
    )
