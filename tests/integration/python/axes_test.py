"""A floor of few bits: real keys and values with axes, for a client that cannot decode them."""

import pathlib

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
    Rope,
    RopePairing,
    Space,
)
from tests.integration.operate.daemon import Daemon

DATA = pathlib.Path(__file__).parents[2] / "data" / "codecs"
TOKENS, LAYERS = 16, 2
BLOCKS = 64  # a captured book
READ = range(1, 17)
# Heads, their dimension, how positions turned keys.
MODELS = {
    "smollm2": (3, 64, Rope(theta=1e5, rotary_dimensions=64, pairing=RopePairing.INTERLEAVED)),
    # Its two layers have other bases; a group says one.
    "gemma": (1, 256, Rope(theta=1e6, rotary_dimensions=256, pairing=RopePairing.HALF)),
}


def space_of(model):
    heads, dimension, rope = MODELS[model]
    group = Group(
        name="full",
        kind=GroupKind.FULL,
        layers=LAYERS,
        kv_heads=heads,
        k_dimension=dimension,
        v_dimension=dimension,
        dtype=DType.BF16,
        layout=Layout.LAYER_MAJOR,
        rope=rope,
    )
    return Space(
        name=model,
        tokens_per_block=TOKENS,
        groups=(group,),
        fingerprint=Fingerprint(weights_digest="sha256:1"),
        floor_bits=2,
    )


def book(model, name):
    """Blocks: layer by layer, K and V."""
    heads, dimension, _ = MODELS[model]
    parts = [
        numpy.fromfile(DATA / f"{model}_{name}_{role}.bf16", "u2").reshape(
            LAYERS, BLOCKS, TOKENS * heads * dimension
        )
        for role in "kv"
    ]
    return [numpy.stack([part[:, i] for part in parts], axis=1).tobytes() for i in range(BLOCKS)]


def put(handle, chain, data):
    keys = [b"%s-%03d" % (chain, i) for i in range(len(data))]
    blocks = [
        Block(keys[i], data[i], depth=i, parent=keys[i - 1] if i else b"")
        for i in range(len(data))
    ]
    assert all(result.ok for result in handle.put(blocks))
    handle.flush()


def relative_error(was, now):
    x, y = (
        (numpy.frombuffer(each, "u2").astype("u4") << 16).view("f4").astype("f8")
        for each in (was, now)
    )
    return numpy.linalg.norm(x - y) / numpy.linalg.norm(x)


@pytest.mark.parametrize("model", MODELS)
def test_few_bits_are_kept_with_axes_and_decoded_by_the_daemon(tmp_path, model):
    held_out = book(model, "heldout")
    with Daemon(tmp_path) as daemon, Client(daemon.ready["grpc"], deadline=60) as client:
        handle = client.open_space(space_of(model))
        # 4,096 tokens of another book calibrate the group.
        for chain in (b"a", b"b", b"c", b"d"):
            put(handle, chain, book(model, "calibration"))
        put(handle, b"held-out", held_out)
        daemon.kill()
    keys = [b"held-out-%03d" % i for i in READ]
    with Daemon(tmp_path, "--streams-listen=127.0.0.1:0") as daemon:
        for plane in (Plane.INLINE, Plane.BULK):
            with Client(daemon.ready["grpc"], deadline=60, plane=plane) as client:
                handle = client.open_space(space_of(model))
                size = len(held_out[0])

                def read(**options):
                    into = [bytearray(size) for _ in keys]
                    return handle.get(keys, into=into, **options), into

                decoded, ours = read()
                asked, theirs = read(decode_at_client=True)
                assert ours == theirs
                for i, part, other in zip(READ, decoded, asked):
                    assert part.error is None and other.error is None
                    assert part.fidelity == other.fidelity
                    assert part.fidelity.codec == "transform2"
                    # numpy does not decode these: the daemon does, whoever asks.
                    assert other.bytes_received == 0
                    error = relative_error(held_out[i], ours[i - READ[0]])
                    assert error == pytest.approx(part.fidelity.error, rel=0.02)
                    assert error < 0.35
                bits = [part.fidelity.bits_per_value for part in decoded]
                assert sum(bits) / len(bits) < 3.3
