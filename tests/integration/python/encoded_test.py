"""Parts that come encoded and are decoded with numpy, against the daemon's own decoding."""

import asyncio
import dataclasses

import numpy
import pytest

from mnemod import (
    Block,
    Client,
    DType,
    Fingerprint,
    Group,
    GroupKind,
    Layout,
    Plane,
    ReadOrder,
    Rope,
    RopePairing,
    Space,
    alloc,
)
from mnemod.aio import AsyncClient
from tests.integration.operate.daemon import Daemon

TOKENS = 16
CALIBRATING = 70  # 1,120 tokens: 1,024 calibrate a group
BLOCKS = 6
HEADS, DIMENSION = 3, 64

GROUP = Group(
    name="full",
    kind=GroupKind.FULL,
    layers=2,
    kv_heads=HEADS,
    k_dimension=DIMENSION,
    v_dimension=DIMENSION,
    dtype=DType.F16,
    layout=Layout.LAYER_MAJOR,
)
HALF = Rope(theta=1e4, rotary_dimensions=DIMENSION, pairing=RopePairing.HALF)
INTERLEAVED = Rope(theta=1e5, rotary_dimensions=DIMENSION, pairing=RopePairing.INTERLEAVED)

# What differs from GROUP, and the floor.
SPACES = {
    # Too wide for axes, so that 2 and 3 bits are rotated codes.
    "f16-2": ({"k_dimension": 1032}, 2),
    "f16-3-half": ({"rope": HALF, "v_dimension": 1032}, 3),
    "f16-4": ({}, 4),
    "f16-5-interleaved": ({"rope": INTERLEAVED}, 5),
    "f16-8": ({}, 8),
    "bf16-4-half": ({"dtype": DType.BF16, "rope": HALF}, 4),
    "f32-4": ({"dtype": DType.F32}, 4),
    "fp8-4": ({"dtype": DType.FP8_E4M3}, 4),
    "fp8-5": ({"dtype": DType.FP8_E5M2}, 5),
    "kv-major": ({"layout": Layout.KV_MAJOR, "rope": HALF}, 4),
    "token-major": ({"layout": Layout.TOKEN_MAJOR}, 4),
    "odd-dimension": ({"k_dimension": 20, "v_dimension": 36}, 4),
}


def space_of(name):
    changes, floor = SPACES[name]
    return Space(
        name=name,
        tokens_per_block=TOKENS,
        groups=(dataclasses.replace(GROUP, **changes),),
        fingerprint=Fingerprint(weights_digest="sha256:1"),
        floor_bits=floor,
    )


def as_floats(data, dtype):
    raw = numpy.frombuffer(data, "u1")
    if dtype is DType.F16:
        return raw.view("f2").astype("f8")
    if dtype is DType.F32:
        return raw.view("f4").astype("f8")
    if dtype is DType.BF16:
        return (raw.view("u2").astype("u4") << 16).view("f4").astype("f8")
    mantissa, bias = (3, 7) if dtype is DType.FP8_E4M3 else (2, 15)
    exponent = ((raw & 0x7F) >> mantissa).astype("f8")
    fraction = (raw & (1 << mantissa) - 1) / (1 << mantissa)
    normal = (1 + fraction) * 2 ** (exponent - bias)
    magnitude = numpy.where(exponent == 0, fraction * 2.0 ** (1 - bias), normal)
    return numpy.where(raw & 0x80, -magnitude, magnitude)


def payloads(space, seed):
    """Blocks of values as the dtype has them."""
    group = space.groups[0]
    noise = numpy.random.default_rng(seed)
    count = 2 * TOKENS * HEADS * (group.k_dimension + group.v_dimension)
    made = []
    for _ in range(CALIBRATING + BLOCKS):
        values = (noise.standard_normal(count) + noise.standard_normal(1)).astype("f4")
        if group.dtype is DType.F16:
            made.append(values.astype("f2").tobytes())
        elif group.dtype is DType.F32:
            made.append(values.tobytes())
        elif group.dtype is DType.BF16:
            made.append((values.view("u4") >> 16).astype("u2").tobytes())
        else:
            # Codes around 1, either sign.
            one = 0x38 if group.dtype is DType.FP8_E4M3 else 0x3C
            codes = noise.integers(one - 10, one + 5, count) | noise.integers(0, 2, count) << 7
            made.append(codes.astype("u1").tobytes())
    return made


def put(handle, prefix, data):
    keys = [b"%s-%03d" % (prefix, i) for i in range(len(data))]
    chain = [
        Block(keys[i], data[i], depth=i, parent=keys[i - 1] if i else b"")
        for i in range(len(data))
    ]
    assert all(result.ok for result in handle.put(chain))
    handle.flush()


KEYS = [b"b-%03d" % i for i in range(BLOCKS)]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """A daemon whose blocks all lie on disk, encoded."""
    folder = tmp_path_factory.mktemp("encoded")
    with Daemon(folder) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        for seed, name in enumerate(SPACES):
            space = space_of(name)
            data = payloads(space, seed)
            handle = client.open_space(space)
            # What calibrates the group stays exact at first, and is not read here.
            put(handle, b"a", data[:CALIBRATING])
            put(handle, b"b", data[CALIBRATING:])
        daemon.kill()
    with Daemon(folder, "--streams-listen=127.0.0.1:0") as daemon:
        yield daemon


def assert_same(name, decoded, encoded):
    """Equal but for what processors round otherwise."""
    dtype = space_of(name).groups[0].dtype
    for ours, theirs in zip(encoded, decoded):
        assert ours.error is None and theirs.error is None
        assert ours.fidelity == theirs.fidelity and ours.fidelity is not None
        assert (ours.size, ours.depth) == (theirs.size, theirs.depth)
        assert 0 < ours.bytes_received < len(theirs.data) and theirs.bytes_received == 0
        x, y = as_floats(theirs.data, dtype), as_floats(ours.data, dtype)
        assert x.shape == y.shape
        assert numpy.linalg.norm(x - y) < 1e-3 * numpy.linalg.norm(x)
        if dtype is not DType.F32:
            same = numpy.frombuffer(theirs.data, "u1") == numpy.frombuffer(ours.data, "u1")
            assert same.mean() > 0.98


@pytest.mark.parametrize("name", SPACES)
def test_inline_reads_give_what_the_daemon_decodes(daemon, name):
    with Client(daemon.ready["grpc"], deadline=60, plane=Plane.INLINE) as client:
        handle = client.open_space(space_of(name))
        decoded = handle.get(KEYS)
        assert_same(name, decoded, handle.get(KEYS, decode_at_client=True))
        # Once more, with the calibration at hand, into the caller's memory.
        into = [bytearray(len(each.data)) for each in decoded]
        assert_same(name, decoded, handle.get(KEYS, into=into, decode_at_client=True))
        assert bytes(into[0]) != bytes(len(into[0]))


@pytest.mark.parametrize("name", ["f16-4", "kv-major"])
def test_layers_come_encoded_too(daemon, name):
    with Client(daemon.ready["grpc"], deadline=60, plane=Plane.INLINE) as client:
        handle = client.open_space(space_of(name))
        decoded = handle.get(KEYS, layers=(1, 1))
        encoded = handle.get(KEYS, layers=(1, 1), decode_at_client=True)
        assert_same(name, decoded, encoded)
        assert all(each.digest is None for each in encoded)
        # Whoever asks layer by layer has them decoded.
        by_layer = handle.get(KEYS, order=ReadOrder.LAYER_MAJOR, decode_at_client=True)
        assert all(each.ok and each.bytes_received == 0 for each in by_layer)


def test_the_fast_plane_carries_encoded_parts(daemon):
    with Client(daemon.ready["grpc"], deadline=60, plane=Plane.FAST) as client:
        handle = client.open_space(space_of("bf16-4-half"))
        size = handle.info.part_bytes[0]
        with alloc(2 * BLOCKS * size) as memory:
            client.register(memory)
            rows = memory.numpy().reshape(2, BLOCKS, size)
            decoded = handle.get(KEYS, into=list(rows[0]))
            encoded = handle.get(KEYS, into=list(rows[1]), decode_at_client=True)
            assert all(each.plane is Plane.FAST for each in encoded)
            assert_same("bf16-4-half", decoded, encoded)
            (layer,) = handle.get(
                KEYS[:1], layers=(1, 1), into=[rows[0][1][: size // 2]], decode_at_client=True
            )
            assert layer.plane is Plane.FAST and 0 < layer.bytes_received < size // 2
            del decoded, encoded, layer, rows


def test_streams_of_tcp_carry_encoded_parts(daemon):
    with Client(daemon.ready["grpc"], deadline=60, plane=Plane.BULK) as client:
        handle = client.open_space(space_of("bf16-4-half"))
        size = handle.info.part_bytes[0]

        def read(**options):
            results = handle.get(KEYS, into=[bytearray(size) for _ in KEYS], **options)
            assert all(each.plane is Plane.BULK for each in results)
            return results

        assert_same("bf16-4-half", read(), read(decode_at_client=True))


def test_the_asynchronous_client_decodes_likewise(daemon):
    async def read():
        async with AsyncClient(daemon.ready["grpc"], deadline=60, plane=Plane.INLINE) as client:
            handle = await client.open_space(space_of("f16-4"))
            decoded = await handle.get(KEYS)
            assert_same("f16-4", decoded, await handle.get(KEYS, decode_at_client=True))

    asyncio.run(read())


def test_missing_parts_and_exact_ones_are_answered_as_ever(daemon):
    with Client(daemon.ready["grpc"], deadline=60) as client:
        handle = client.open_space(space_of("f16-4"))
        (missing,) = handle.get([b"none"], decode_at_client=True)
        assert missing.missing
        data = payloads(space_of("f16-4"), 99)[0]
        handle.put([Block(b"fresh", data)])
        (fresh,) = handle.get([b"fresh"], decode_at_client=True)
        assert fresh.data == data and fresh.fidelity is None and fresh.bytes_received == 0
