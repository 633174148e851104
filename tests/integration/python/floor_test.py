"""A space's floor: what is kept in fewer bits says so, on every plane, and never lies."""

import dataclasses
import time

import numpy
import pytest

from mnemod import (
    Block,
    Client,
    DType,
    Durability,
    Fingerprint,
    Group,
    GroupKind,
    InvalidArgumentError,
    Layout,
    LevelBits,
    Plane,
    ReadOrder,
    Space,
    alloc,
)
from tests.integration.operate.daemon import Daemon

TOKENS = 16
BLOCKS = 80  # 1,280 tokens: 1,024 calibrate the group
SHAPE = (2, 2, TOKENS, 3, 64)  # layers, K and V, tokens, heads, dimension


def model_space(name, floor_bits):
    return Space(
        name=name,
        tokens_per_block=TOKENS,
        groups=(
            Group(
                name="full",
                kind=GroupKind.FULL,
                layers=SHAPE[0],
                kv_heads=SHAPE[3],
                k_dimension=SHAPE[4],
                v_dimension=SHAPE[4],
                dtype=DType.F16,
                layout=Layout.LAYER_MAJOR,
            ),
        ),
        fingerprint=Fingerprint(weights_digest="sha256:1"),
        floor_bits=floor_bits,
    )


def payloads():
    noise = numpy.random.default_rng(7)
    return [noise.standard_normal(SHAPE).astype("f2").tobytes() for _ in range(BLOCKS)]


def keys():
    return [b"block-%03d" % i for i in range(BLOCKS)]


def blocks(data):
    chain = keys()
    return [
        Block(chain[i], data[i], depth=i, parent=chain[i - 1] if i else b"") for i in range(BLOCKS)
    ]


def relative_error(was, now):
    x = numpy.frombuffer(was, "f2").astype("f8")
    y = numpy.frombuffer(now, "f2").astype("f8")
    return numpy.linalg.norm(x - y) / numpy.linalg.norm(x)


@pytest.fixture(scope="module")
def restarted(tmp_path_factory):
    """A daemon whose blocks all lie on disk, encoded; and what was put."""
    folder = tmp_path_factory.mktemp("floor")
    data = payloads()
    with Daemon(folder) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        handle = client.open_space(model_space("model", 4))
        assert all(result.ok for result in handle.put(blocks(data)))
        handle.flush()
        # In RAM all is as it was put.
        for read, put in zip(handle.get(keys(), verify=True), data):
            assert read.fidelity is None and read.data == put
        daemon.kill()
    with Daemon(folder) as daemon:
        yield daemon, data


def test_a_read_says_what_was_lost(restarted):
    daemon, data = restarted
    with Client(daemon.ready["grpc"], deadline=60, plane=Plane.INLINE) as client:
        handle = client.open_space(model_space("model", 4))
        for order in (ReadOrder.BLOCK_MAJOR, ReadOrder.LAYER_MAJOR):
            reads = handle.get(keys(), order=order, verify=True)
            assert [read.error for read in reads] == [None] * BLOCKS
            encoded = [i for i, read in enumerate(reads) if read.fidelity is not None]
            assert encoded == [i for i, read in enumerate(reads) if read.data != data[i]]
            assert len(encoded) >= BLOCKS - 64
            for i in encoded:
                said = reads[i].fidelity
                # Four of the first block's sixteen tokens are exact.
                most = 4.5 if i else 7.5
                assert said.codec == "rotated4" and 4 < said.bits_per_value < most
                assert 0.01 < said.error < 0.12
                # Of what is not exact.
                found = relative_error(data[i], reads[i].data)
                assert found == pytest.approx(said.error, rel=0.05 if i else 0.2)
        last = max(encoded)
        (layer,) = handle.get([keys()[last]], layers=(1, 1))
        half = len(data[last]) // 2
        assert layer.data == reads[last].data[half:]
        assert layer.fidelity == reads[last].fidelity and layer.digest is None
        (info,) = handle.describe([keys()[last]])
        assert info.codec == "rotated4" and info.size == 2 * half
        assert info.stored_bytes * 3 < info.size


def test_the_fast_plane_verifies_what_it_answers(restarted):
    daemon, data = restarted
    with Client(daemon.ready["grpc"], deadline=60, plane=Plane.FAST) as client:
        handle = client.open_space(model_space("model", 4))
        with alloc(BLOCKS * len(data[0])) as memory:
            client.register(memory)
            rows = memory.numpy().reshape(BLOCKS, len(data[0]))
            reads = handle.get(keys(), into=list(rows), verify=True)
            assert [read.error for read in reads] == [None] * BLOCKS
            for read, row, put in zip(reads, rows, data):
                assert relative_error(put, row.tobytes()) < 0.12
                assert (read.fidelity is None) == (row.tobytes() == put)
                assert read.fidelity is None or read.fidelity.codec == "rotated4"
            del reads, rows, row


def test_the_same_bytes_are_still_present_and_others_conflict(restarted):
    daemon, data = restarted
    with Client(daemon.ready["grpc"], deadline=60) as client:
        handle = client.open_space(model_space("model", 4))
        again = handle.put(blocks(data))
        assert [result.outcome.name for result in again] == ["ALREADY_PRESENT"] * BLOCKS
        (other,) = handle.put([Block(keys()[-1], data[0], depth=BLOCKS - 1)])
        assert other.outcome.name == "CONFLICT"


def test_a_raised_floor_drops_what_is_below_it(tmp_path):
    data = payloads()
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        handle = client.open_space(model_space("model", 4))
        handle.put(blocks(data))
        handle.flush()
        daemon.kill()
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        info = client.update_space("model", durability=Durability.CACHE, floor_bits=8)
        assert info.space.floor_bits == 8
        reads = client.open_space(model_space("model", 8)).get(keys())
        assert sum(read.missing for read in reads) >= BLOCKS - 64
        for read, put in zip(reads, data):
            if read.fidelity is not None:  # was exact until now
                assert read.fidelity.codec == "progressive8"
                assert relative_error(put, read.data) < 0.02
            else:
                assert read.missing or read.data == put


def test_a_lowered_floor_is_applied_to_what_is_there(tmp_path):
    data = payloads()
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        space = dataclasses.replace(model_space("model", 0), durability=Durability.SYNC)
        handle = client.open_space(space)
        handle.put(blocks(data))
        before = handle.usage().level_bytes[2]
        assert before > sum(len(each) for each in data)
        client.update_space("model", durability=Durability.SYNC, floor_bits=4)
        end = time.monotonic() + 120
        while handle.usage().level_bytes[2] * 3 > before:
            assert time.monotonic() < end
        daemon.kill()
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        reads = client.get_space("model").get(keys())
        assert all(read.ok for read in reads)
        for read, put in zip(reads, data):
            assert relative_error(put, read.data) < 0.12


def test_an_update_without_a_floor_leaves_it(tmp_path):
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        client.open_space(model_space("model", 4))
        kept = client.update_space("model", durability=Durability.SYNC, time_to_live=9)
        assert (kept.space.floor_bits, kept.space.time_to_live) == (4, 9)
        exact = client.update_space("model", durability=Durability.SYNC, floor_bits=0)
        assert (exact.space.floor_bits, exact.space.time_to_live) == (0, 0)


def test_levels_keep_bits_of_their_own_and_planes_go(tmp_path):
    """What a chain of bits by level makes of parts, and a changed one of what is there."""
    data = payloads()
    space = dataclasses.replace(
        model_space("model", 2), level_bits=LevelBits(l2=8, l3=5), durability=Durability.SYNC
    )

    def codecs(handle):
        return {info.codec for info in handle.describe(keys())}

    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        handle = client.open_space(space)
        assert client.get_space("model").info.space.level_bits == LevelBits(l2=8, l3=5)
        handle.put(blocks(data))
        # Encoded where they lie, behind the answer.
        before = handle.usage().level_bytes[2]
        end = time.monotonic() + 120
        while handle.usage().level_bytes[2] * 2 > before or handle.usage().reencoding:
            assert time.monotonic() < end
        daemon.kill()
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        handle = client.get_space("model")
        assert codecs(handle) == {"progressive5"}
        client.update_space(
            "model", durability=Durability.SYNC, level_bits=LevelBits(l2=8, l3=3)
        )
        end = time.monotonic() + 120
        while codecs(handle) != {"progressive3"}:
            assert time.monotonic() < end
        kept = client.update_space("model", durability=Durability.SYNC)
        assert kept.space.level_bits == LevelBits(l2=8, l3=3)
        with pytest.raises(InvalidArgumentError) as caught:
            client.update_space("model", durability=Durability.SYNC, floor_bits=4)
        assert "policy.levels.l3" in caught.value.message
        daemon.kill()
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        handle = client.get_space("model")
        assert codecs(handle) == {"progressive3"}
        # Of what both ends decode.
        for options in ({}, {"decode_at_client": True}):
            for read, put in zip(handle.get(keys(), **options), data):
                assert read.ok and read.fidelity.codec == "progressive3"
                found = relative_error(put, read.data)
                assert found == pytest.approx(read.fidelity.error, rel=0.05 if read.depth else 0.2)


def test_a_floor_needs_tensors(tmp_path):
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        opaque = Space.opaque("bytes", tokens_per_block=1, floor_bits=4)
        with pytest.raises(InvalidArgumentError) as caught:
            client.open_space(opaque)
        assert "floating-point tensors" in caught.value.message
