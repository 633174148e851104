"""What puts and gets ask of the fast lane, and what they make of its answers."""

import struct

import pytest

from mnemod import Block, Code, Digest, DType, Group, GroupKind, Layout, MnemoError, Part, Plane
from mnemod import PutOutcome, Space, alloc
from mnemod import _stream
from mnemod._buffers import Source, digest_of
from mnemod._contract import pb
from mnemod._meter import FetchMeter
from mnemod._sessions import GetSession, PutSession
from mnemod._stream import Place, Scope, Slice, Type
from mnemod.memory import MemoryMap
from mnemod.spaces import SpaceInfo

INFO = SpaceInfo(7, Space.opaque("opaque", tokens_per_block=4), 0, ())
LAYERED = SpaceInfo(
    7,
    Space(
        "layered",
        tokens_per_block=4,
        groups=(Group("full", GroupKind.FULL, 4, 1, 8, 8, DType.F16, layout=Layout.LAYER_MAJOR),),
    ),
    0,
    (),
)
LAYER = 4 * 1 * (8 + 8) * 2


@pytest.fixture
def pool():
    memory = alloc(1 << 16)
    yield memory
    memory.close()


@pytest.fixture
def known(pool):
    registered = MemoryMap()
    registered.add(pool)
    return registered


def get(into, keys=(b"a", b"b"), parts=(Part(),), info=INFO, verify=False, **fields):
    request = pb.GetRequest(space=pb.SpaceRef(id=7), salt=b"s", **fields)
    return GetSession(request, info, list(keys), list(parts), into, verify, FetchMeter())


def body_of(request, pool):
    return request.body({pool: 3})


def test_a_get_names_the_slices_of_its_buffers(pool, known):
    session = get([pool.view[:100], [pool.view[200:250], pool.view[300:350]]], lease=5)
    request = session.lane_request(Plane.FAST, known)
    assert (request.type, request.memories) == (Type.GET, (pool,))
    assert body_of(request, pool) == _stream.get(
        Scope(7, b"s"),
        [b"a", b"b"],
        [Part()],
        [Place(3, [Slice(0, 100)]), Place(3, [Slice(200, 50, 100, 2)])],
        lease=5,
    )


def test_a_get_without_registered_buffers_has_no_frame(pool, known):
    assert get(None).lane_request(Plane.FAST, known) is None
    assert get([pool.view[:10], bytearray(10)]).lane_request(Plane.FAST, known) is None
    assert get([pool.view[:10], pool.view[10:20]]).lane_request(Plane.FAST, MemoryMap()) is None


def test_a_layer_range_has_a_frame_if_it_is_packed(pool, known):
    fields = {"first_layer": 1, "layer_count": 2, "keys": (b"a",), "info": LAYERED}
    packed = get([pool.view[: 2 * LAYER]], **fields)
    assert body_of(packed.lane_request(Plane.FAST, known), pool) == _stream.get(
        Scope(7, b"s"), [b"a"], [Part()], [Place(3, [Slice(0, 2 * LAYER)])], layers=(1, 2)
    )
    # Each byte at its own place is what gRPC's client does.
    assert get([pool.view[: 4 * LAYER]], **fields).lane_request(Plane.FAST, known) is None


def got(*parts):
    return b"\x00" + struct.pack("<I", len(parts)) + b"".join(parts)


def good(data, level=1, written=None):
    digest = digest_of([memoryview(data)])
    written = len(data) if written is None else written
    return b"\x00" + struct.pack(
        "<QQQQBIB", len(data), written, digest.low, digest.high, level, 4, 0
    )


def failed(code, message):
    return bytes([code]) + struct.pack("<H", len(message)) + message


def test_answers_become_results(pool, known):
    session = get([pool.view[:4], pool.view[4:8]], verify=True)
    session.lane_request(Plane.FAST, known)
    pool.view[:4] = b"data"
    session.on_lane_answer(got(good(b"data"), failed(5, b"no such part")))
    first, second = session.finish(None)
    assert first.ok and bytes(first.data) == b"data" and first.plane is Plane.FAST
    assert (first.size, first.level, first.depth) == (4, 1, 4)
    assert first.digest == digest_of([memoryview(b"data")])
    assert second.missing and second.error.message == "no such part" and second.data is None


def test_bytes_that_differ_from_their_digest_are_no_result(pool, known):
    session = get([pool.view[:4]], keys=(b"a",), verify=True)
    session.lane_request(Plane.FAST, known)
    pool.view[:4] = b"dada"
    session.on_lane_answer(got(good(b"data")))
    (result,) = session.finish(None)
    assert result.error.code is Code.DATA_LOSS


@pytest.mark.parametrize(
    "answer", (got(), got(good(b"data")), got(good(b"data"), good(b"data", written=5)), b"\x00")
)
def test_answers_that_break_the_protocol_are_errors(pool, known, answer):
    session = get([pool.view[:4], pool.view[4:8]])
    session.lane_request(Plane.FAST, known)
    with pytest.raises(MnemoError) as raised:
        session.on_lane_answer(answer)
    assert raised.value.code is Code.INTERNAL


def test_a_second_try_asks_for_the_rest_only(pool, known):
    session = get([pool.view[:4], pool.view[4:8]])
    session.lane_request(Plane.FAST, known)
    session.on_lane_answer(got(good(b"data"), failed(14, b"busy")))
    # A part that failed has ended; nothing is left.
    assert not session.retry()
    session = get([pool.view[:4], pool.view[4:8]])
    session.lane_request(Plane.FAST, known)
    assert session.retry()
    assert session.lane_request(Plane.FAST, known) is not None


def put(blocks):
    start = pb.PutStart(
        space=pb.SpaceRef(id=7), salt=b"s", reservation=9, durability=2, time_to_live_seconds=60
    )
    return PutSession(start, blocks, [Source(block.data) for block in blocks])


def test_a_put_names_its_parts_and_where_they_lie(pool, known):
    pool.view[:4] = b"data"
    digest = digest_of([memoryview(b"data")])
    blocks = [
        Block(b"a", pool.view[:4], Part(0, 1, 2), depth=3, parent=b"p", stretch=b"t"),
        Block(b"b", pool.view[8:10], digest=Digest(1, 2)),
    ]
    session = put(blocks)
    request = session.lane_request(Plane.FAST, known)
    assert request.type == Type.PUT
    offered = [
        _stream.Offered(b"a", Part(0, 1, 2), 4, 3, b"p", b"t", digest),
        _stream.Offered(b"b", Part(), 2, 0, b"", b"", Digest(1, 2)),
    ]
    assert body_of(request, pool) == _stream.put(
        Scope(7, b"s"),
        offered,
        [Place(3, [Slice(0, 4)]), Place(3, [Slice(8, 2)])],
        reservation=9,
        durability=2,
        time_to_live=60,
    )
    stored = b"\x01" + struct.pack("<QQ", digest.low, digest.high)
    session.on_lane_answer(got(stored, b"\x00" + failed(8, b"no room")))
    first, second = session.finish(None)
    assert (first.outcome, first.digest, first.plane) == (PutOutcome.STORED, digest, Plane.FAST)
    assert second.error.code is Code.RESOURCE_EXHAUSTED and not second.ok


def test_a_put_from_elsewhere_has_no_frame(pool, known):
    blocks = [Block(b"a", pool.view[:4]), Block(b"b", b"elsewhere")]
    assert put(blocks).lane_request(Plane.FAST, known) is None
    assert put(blocks[:1]).lane_request(Plane.FAST, known) is not None
    session = put(blocks[:1])
    session.lane_request(Plane.FAST, known)
    with pytest.raises(MnemoError, match="not one for each part"):
        session.on_lane_answer(got())
