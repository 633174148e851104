"""Payload in the streams of both clients, against a server that does what a test says."""

import asyncio
import random
import socket
import ssl
import struct
import threading

import grpc
import pytest

from fake_lane import FakeLane
from fake_server import FakeServer
from lanes import LONG, SHORT, counts, fill
from mnemod import (
    AsyncClient,
    Block,
    Client,
    DeadlineExceededError,
    FailedPreconditionError,
    MnemoError,
    Plane,
    Space,
    UnavailableError,
)
from mnemod import _stream
from mnemod._aio_fast_lane import AsyncFastLane
from mnemod._breaker import BreakerOptions, CircuitBreaker
from mnemod._channel import Tls
from mnemod._contract import pb
from mnemod._buffers import Sink, Source, digest_of
from mnemod._lane import LaneRequest, LaneState, Pending
from mnemod._payload import Receiving, Sending
from mnemod._retry import TimeLimit
from mnemod._socket import Reach, Way, connect, way_of
from mnemod._stream import Scope, Type
from tests.support.python.certificates import Authority

KEY = [b"k"]


def data_of(request, index, offset, payload):
    """A DATA frame of the server."""
    body = struct.pack("<IQ", index, offset)
    return _stream.frame(Type.DATA + 128, request.id, body, payload=len(payload)) + payload


def credit(request, size, wanted=()):
    body = struct.pack(f"<QI{len(wanted)}I", size, len(wanted), *wanted)
    return _stream.frame(Type.CREDIT + 128, request.id, body)


def get(*targets, digests=True):
    """A GET into buffers, and what it receives."""
    receiving = Receiving([Sink(target) for target in targets], digests)
    body = _stream.get(Scope(1), KEY, [], [])
    return LaneRequest(Type.GET, lambda _: body, payload=receiving), receiving


def put(*payloads):
    body = _stream.put(Scope(1), [], [])
    sending = Sending([Source(payload) for payload in payloads])
    return LaneRequest(Type.PUT, lambda _: body, payload=sending)


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def carry(lane, request, timeout=LONG):
    return lane.carry(lambda *_: request, timeout)


def test_payload_goes_straight_into_the_callers_memory(lanes):
    first, second = noise(300_000), noise(5, 2)

    def serve(connection):
        connection.welcome()
        request = connection.receive()
        connection.send(data_of(request, 0, 0, first[:200_000]))
        connection.send(data_of(request, 0, 200_000, first[200_000:]))
        connection.send(data_of(request, 2, 0, second))
        connection.answer(request, b"got")

    lane, _ = lanes.serve(serve, Plane.BULK)
    # In pieces, and with more room than there is to come.
    pieces = [bytearray(100_001), bytearray(150_000), bytearray(60_000)]
    untouched, small = bytearray(4), bytearray(10)
    request, receiving = get(pieces, untouched, small)
    assert carry(lane, request) == b"\x00got"
    assert b"".join(pieces)[:300_000] == first and small[:5] == second
    assert untouched == bytes(4) and small[5:] == bytes(5)
    assert [receiving.received(i) for i in range(3)] == [300_000, 0, 5]
    assert receiving.digest(0) == digest_of([memoryview(first)])
    assert lane.state.calls() == counts(bulk=1)


WRONG = {
    "a part that was not asked for": (1, 0, b"x"),
    "an offset that does not come next": (0, 1, b"x"),
    "more than there is room for": (0, 0, bytes(11)),
}


@pytest.mark.parametrize("how", WRONG)
def test_payload_that_does_not_belong_ends_the_stream(lanes, how):
    def serve(connection):
        connection.welcome()
        request = connection.receive()
        connection.send(data_of(request, *WRONG[how]))
        while True:
            connection.receive()

    lane, _ = lanes.serve(serve, Plane.BULK)
    target = bytearray(10)
    with pytest.raises(UnavailableError, match="the stream is broken"):
        carry(lane, get(target)[0])
    assert target == bytes(10)


def test_payload_for_a_request_that_has_none_ends_the_stream(lanes):
    def serve(connection):
        connection.welcome()
        connection.send(data_of(connection.receive(), 0, 0, b"x"))
        while True:
            connection.receive()

    lane, _ = lanes.serve(serve, Plane.BULK)
    with pytest.raises(UnavailableError, match="the stream is broken"):
        carry(lane, put(b"abc"))


def test_a_stream_that_ends_in_a_payload_fails_its_call_alone(lanes):
    def serve(connection):
        connection.welcome()
        request = connection.receive()
        if server.opened == 1:
            connection.send(data_of(request, 0, 0, bytes(100))[:-1])
            return
        connection.send(data_of(request, 0, 0, bytes(range(100))))
        connection.answer(request, b"")
        connection.receive()

    lane, server = lanes.serve(serve, Plane.BULK)
    target = bytearray(100)
    with pytest.raises(UnavailableError):
        carry(lane, get(target)[0])
    carry(lane, get(target)[0])
    assert target == bytes(range(100)) and server.opened == 2


def test_a_put_sends_what_is_wanted_as_far_as_it_is_credited(lanes):
    payloads = [noise(3000, 1), noise(4000, 2), noise((1 << 20) + 5, 3)]
    came = []

    def take(connection, bytes_):
        while bytes_:
            frame = connection.receive()
            assert frame.type == Type.DATA
            index, offset = struct.unpack("<IQ", frame.body[:12])
            came.append((index, offset, frame.body[12:]))
            bytes_ -= len(frame.body) - 12
        assert bytes_ == 0

    def serve(connection):
        connection.welcome()
        request = connection.receive()
        connection.send(credit(request, 1000, (0, 2)))
        take(connection, 1000)
        connection.send(credit(request, 3001))
        take(connection, 2001)
        connection.send(credit(request, 3000 + len(payloads[2])))
        take(connection, len(payloads[2]) - 1)
        connection.answer(request, b"stored")

    lane, _ = lanes.serve(serve, Plane.BULK)
    assert carry(lane, put(payloads[0], payloads[1], [payloads[2][:7], payloads[2][7:]])) == b"\x00stored"
    for index in (0, 2):
        parts = [(offset, piece) for part, offset, piece in came if part == index]
        at = 0
        for offset, piece in parts:
            assert offset == at
            at += len(piece)
        assert b"".join(piece for _, piece in parts) == payloads[index]
    assert [part for part, _, _ in came] == sorted(part for part, _, _ in came)


def test_credit_for_more_than_is_wanted_is_an_error_of_the_call(lanes):
    def serve(connection):
        connection.welcome()
        request = connection.receive()
        connection.send(credit(request, 100, (0,)))
        while True:
            connection.receive()

    lane, _ = lanes.serve(serve, Plane.BULK)
    with pytest.raises(MnemoError, match="credits more than it wants"):
        carry(lane, put(b"abc"))


def test_a_put_that_is_given_up_sends_nothing_behind_its_cancel(lanes):
    seen = []

    def serve(connection):
        connection.welcome()
        request = connection.receive()
        cancel = connection.receive()
        seen.append((cancel.type, cancel.id == request.id))
        connection.send(credit(request, 3, (0,)))  # crossed the cancel
        connection.answer(request, b"cancelled", code=1)
        following = connection.receive()
        seen.append(following.type)
        connection.answer(following, struct.pack("<I", 1))

    lane, server = lanes.serve(serve, Plane.BULK)
    with pytest.raises(DeadlineExceededError):
        carry(lane, put(b"abc"), SHORT)
    carry(lane, LaneRequest(Type.TOUCH, lambda _: _stream.touch(Scope(1), KEY)))
    assert seen == [(Type.CANCEL, True), Type.TOUCH] and server.opened == 1


def test_a_get_that_is_given_up_takes_its_payload_until_the_answer(lanes):
    def serve(connection):
        connection.welcome()
        request = connection.receive()
        connection.send(data_of(request, 0, 0, b"abc"))
        assert connection.receive().type == Type.CANCEL
        connection.send(data_of(request, 0, 3, b"def"))
        connection.answer(request, b"cancelled", code=1)
        following = connection.receive()
        connection.answer(following, struct.pack("<I", 1))

    lane, server = lanes.serve(serve, Plane.BULK)
    target = bytearray(6)
    with pytest.raises(DeadlineExceededError):
        carry(lane, get(target)[0], SHORT)
    assert target == b"abcdef"
    carry(lane, LaneRequest(Type.TOUCH, lambda _: _stream.touch(Scope(1), KEY)))
    assert server.opened == 1


def test_threads_get_and_put_at_once_over_one_stream(lanes):
    def serve(connection):
        connection.welcome()
        puts, came = {}, {}
        while True:
            frame = connection.receive()
            if frame.type == Type.GET:
                connection.send(data_of(frame, 0, 0, noise(100_000, 7)))
                connection.answer(frame, b"")
            elif frame.type == Type.PUT:
                puts[frame.id], came[frame.id] = frame, b""
                connection.send(credit(frame, 50_000, (0,)))
            else:
                came[frame.id] += frame.body[12:]
                if len(came[frame.id]) == 50_000:
                    connection.answer(puts[frame.id], came[frame.id][:4])

    lane, server = lanes.serve(serve, Plane.BULK)
    failed = []

    def run(number):
        mine = noise(50_000, number)
        for _ in range(20):
            target = bytearray(100_000)
            carry(lane, get(target)[0])
            if target != noise(100_000, 7) or carry(lane, put(mine)) != b"\x00" + mine[:4]:
                failed.append(number)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and server.opened == 1


def test_a_task_that_is_cancelled_leaves_its_memory_and_the_stream_whole():
    going_on = threading.Event()

    def serve(connection):
        connection.welcome()
        request = connection.receive()
        connection.send(data_of(request, 0, 0, b"abc"))
        assert connection.receive().type == Type.CANCEL
        going_on.wait(LONG)
        connection.send(data_of(request, 0, 3, b"def"))
        connection.answer(request, b"cancelled", code=1)
        following = connection.receive()
        connection.answer(following, struct.pack("<I", 1))

    async def run(path):
        async def open_(plane, timeout):
            return Way(path, b"")

        lane = AsyncFastLane(LaneState(Plane.BULK), open_)
        target = bytearray(6)
        request, receiving = get(target)
        task = asyncio.ensure_future(lane.carry(lambda *_: request, LONG))
        while receiving.received(0) < 3:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        going_on.set()
        touch = LaneRequest(Type.TOUCH, lambda _: _stream.touch(Scope(1), KEY))
        await lane.carry(lambda *_: touch, LONG)
        lane.close()
        return target

    server = FakeLane(serve)
    try:
        assert asyncio.run(run(server.path)) == b"abc\x00\x00\x00"
        assert server.opened == 1
    finally:
        server.close()


def test_frames_may_be_cut_anywhere():
    dice = random.Random(5)
    for _ in range(200):
        pending = Pending()
        target = bytearray(1000)
        request, receiving = get(target)
        limit = TimeLimit(LONG)
        first, _ = pending.begin(Type.GET, b"", limit, request.payload)
        second, _ = pending.begin(Type.TOUCH, b"", limit)
        payload = dice.randbytes(dice.randrange(2, 1000))
        cut = dice.randrange(1, len(payload))
        asked = type("Asked", (), {"id": first})
        stream = (
            data_of(asked, 0, 0, payload[:cut])
            + _stream.frame(Type.TOUCH + 128, second, b"touched")
            + data_of(asked, 0, cut, payload[cut:])
            + _stream.frame(Type.GET + 128, first, b"got")
        )
        while stream:
            count = dice.randrange(1, 300)
            fill(pending, stream[:count])
            stream = stream[count:]
        assert pending.error is None
        assert target[: len(payload)] == payload
        assert receiving.digest(0) == digest_of([memoryview(payload)])
        assert pending.take(first) == b"got" and pending.take(second) == b"touched"


def test_an_announced_length_beyond_the_limit_is_refused_before_it_comes():
    for size in (0, _stream.MAX_DATA_BYTES + 1):
        pending = Pending()
        request, _ = get(bytearray(10))
        first, _ = pending.begin(Type.GET, b"", TimeLimit(LONG), request.payload)
        body = struct.pack("<IQ", 0, 0)
        fill(pending, _stream.frame(Type.DATA + 128, first, body, payload=size))
        assert "was announced" in pending.error.message


WAYS = {
    ("10.0.0.7:7070", "0.0.0.0:7073"): (("10.0.0.7", 7073), "10.0.0.7"),
    ("node:7070", "[::]:7073"): (("node", 7073), "node"),
    ("[fd00::1]:7070", "[::]:7073"): (("fd00::1", 7073), "fd00::1"),
    ("node:7070", "10.0.0.7:7073"): (("10.0.0.7", 7073), "node"),
    ("unix:/run/s", "0.0.0.0:7073"): (("127.0.0.1", 7073), "127.0.0.1"),
    ("unix:/run/s", "[::]:7073"): (("::1", 7073), "::1"),
    ("unix:/run/s", "10.0.0.7:7073"): (("10.0.0.7", 7073), "10.0.0.7"),
}


@pytest.mark.parametrize("target,said", WAYS)
def test_where_streams_of_tcp_are(target, said):
    answer = pb.OpenStreamResponse(tcp_address=said, ticket=b"t", tls=True)
    way = way_of(Plane.BULK, answer, Reach(target))
    assert (way.address, way.name) == WAYS[target, said]
    assert way.tls == Tls() and way.ticket == b"t"
    named = way_of(Plane.BULK, answer, Reach(target, Tls(server_name="other")))
    assert named.name == "other"


@pytest.mark.parametrize("reach", [Reach("node:7070", Tls()), Reach("node:7070", secure=True)])
def test_who_is_to_use_tls_sends_no_ticket_over_plain_tcp(reach):
    answer = pb.OpenStreamResponse(tcp_address="10.0.0.7:7073", ticket=b"t")
    with pytest.raises(FailedPreconditionError, match="are plain"):
        way_of(Plane.BULK, answer, reach)
    assert way_of(Plane.BULK, answer, Reach("node:7070")).tls is None


class PlainStreams(FakeServer):
    """Says that its streams are plain TCP, over a channel that is not."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        super().__init__(credentials=grpc.local_server_credentials())

    def _streamservice_open(self, request, context):
        host, port = self.listener.getsockname()
        return pb.OpenStreamResponse(tcp_address=f"{host}:{port}", ticket=b"secret")

    def stop(self):
        super().stop()
        self.listener.close()


@pytest.mark.parametrize("client", (Client, AsyncClient))
def test_a_client_with_credentials_puts_nothing_over_plain_tcp(client):
    async def run(server):
        made = client(server.target, deadline=LONG, credentials=grpc.local_channel_credentials())
        space = await _result(made.open_space(Space.opaque("s", tokens_per_block=16)))
        for _ in range(2):
            (stored,) = await _result(space.put([Block(b"k", b"abc")]))
            assert stored.ok and stored.plane is Plane.INLINE
        await _result(made.close())
        with pytest.raises(BlockingIOError):
            server.listener.accept()

    with PlainStreams() as server:
        asyncio.run(run(server))
        assert server.calls["StreamService.Open"] == 1


async def _result(given):
    return await given if asyncio.iscoroutine(given) else given


def test_where_there_are_no_streams_is_not_asked_again_soon():
    now = [0.0]
    breaker = CircuitBreaker(BreakerOptions(failures=1, initial_pause=0.5), lambda: now[0])
    assert breaker.allow()
    breaker.failure(60.0)
    now[0] = 59.0
    assert not breaker.allow()
    now[0] = 60.0
    assert breaker.allow()


class TlsServer:
    """Shows a certificate to one client, and sends back what it sends."""

    def __init__(self, certificate, key):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self._thread = threading.Thread(target=self._serve, args=(context,))
        self._thread.start()

    def _serve(self, context):
        accepted, _ = self._listener.accept()
        try:
            with context.wrap_socket(accepted, server_side=True) as secured:
                while True:
                    data = secured.recv(100)
                    if not data:
                        return
                    secured.sendall(data)
        except OSError:
            pass

    def close(self):
        self._thread.join()
        self._listener.close()


@pytest.mark.parametrize("who", ["its own", "another name", "another authority"])
def test_under_tls_the_certificate_must_be_the_hosts(tmp_path, who):
    nodes = Authority(tmp_path / "nodes")
    trusted = Authority(tmp_path / "others") if who == "another authority" else nodes
    server = TlsServer(*nodes.issue_server())
    tls = Tls(ca=trusted.certificate.read_bytes())
    way = Way(server.address, b"", tls, "other.example" if who == "another name" else "127.0.0.1")
    try:
        if who != "its own":
            with pytest.raises(ssl.SSLCertVerificationError):
                connect(way, LONG)
            return
        connected = connect(way, LONG)
        assert connected.send([memoryview(b"hello")]) == 5
        target, got = bytearray(5), 0
        while got < 5:
            got += connected.recv_into(memoryview(target)[got:]) or 0
        assert target == b"hello"
        connected.close()
    finally:
        server.close()
