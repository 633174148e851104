"""The frames of the stream protocol against their golden bytes, and against noise."""

import pathlib
import random

import pytest

from mnemod import Code, Digest, MnemoError, Part, PartFidelity, PutOutcome
from mnemod import _stream
from mnemod._stream import Kind, Malformed, Offered, Place, Scope, Slice, Type, Unfit

FILE = pathlib.Path(__file__).resolve().parents[3] / "data" / "stream" / "version_1.txt"
GOLDEN = {
    name: bytes.fromhex(text) for name, text in (line.split() for line in FILE.open())
}
DIGEST = Digest(high=0x100F0E0D0C0B0A09, low=0x0807060504030201)
OFFERED = [
    Offered(b"a", Part(), 1024, 0, b"", b"", DIGEST),
    Offered(b"b", Part(1), 2048, 1, b"a", b"s", None),
]
REQUESTS = {
    "hello": (Type.HELLO, _stream.hello(b"0123456789abcdef", True, "golden")),
    "hello-by-uid": (Type.HELLO, _stream.hello(b"", False, "golden")),
    "register": (Type.REGISTER, _stream.register(Kind.FILE, 1 << 20)),
    "register-process": (Type.REGISTER, _stream.register(Kind.PROCESS, 4096, 0x7F0000001000)),
    "unregister": (Type.UNREGISTER, _stream.unregister(3)),
    "match": (
        Type.MATCH,
        _stream.match(
            Scope(5, b"pepper"), [b"k0", b"k1"], [b"s0", b"s0"],
            bitmap=True, lease_ms=1500, groups=[0, 2], tp_ranks=[1],
        ),
    ),
    "offer": (Type.OFFER, _stream.offer(Scope(5), OFFERED, 5000)),
    "get": (
        Type.GET,
        _stream.get(
            Scope(0, name=b"llama"), [b"key"], [Part(1, 2, 3), Part()],
            [
                Place(4, [Slice(4096, 128, 256, 8), Slice(65536, 1024)]),
                Place(1, [Slice(0, 2048)]),
            ],
            layers=(1, 2), lease=9, takes=30,
        ),
    ),
    "put": (
        Type.PUT,
        _stream.put(
            Scope(5), OFFERED, [Place(1, [Slice(0, 1024)]), Place(1, [Slice(1024, 2048)])],
            reservation=77, durability=3, time_to_live=3600,
        ),
    ),
    "touch": (Type.TOUCH, _stream.touch(Scope(5), [b"a", b"b"])),
    "prefetch": (
        Type.PREFETCH,
        _stream.prefetch(Scope(5), [b"a", b"b"], parts=[Part(1, 2, 3)], cancel=9),
    ),
}  # fmt: skip
DECODERS = {
    "welcome": _stream.welcome,
    "registered": _stream.registered,
    "unregistered": _stream.done,
    "matched": _stream.matched,
    "offered": _stream.offered,
    "got": _stream.got,
    "stored": _stream.stored,
    "touched": _stream.touched,
    "prefetched": _stream.prefetched,
}


def body_of(name):
    reader = _stream.AnswerReader()
    reader.feed(GOLDEN[name])
    return reader.next()[1]


def test_every_golden_frame_is_known_here():
    made_elsewhere = {"cancel", "close", "error"}
    over_tcp_only = {"credit", "data"}
    assert set(GOLDEN) == set(REQUESTS) | set(DECODERS) | made_elsewhere | over_tcp_only


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_have_their_golden_bytes(name):
    type_, body = REQUESTS[name]
    assert _stream.frame(type_, 42, body, 1000).hex() == GOLDEN[name].hex()


@pytest.mark.parametrize("bitmap, peek, bits", ((0, 0, 0), (1, 0, 1), (0, 1, 2), (1, 1, 3)))
def test_what_a_match_wants_is_two_bits(bitmap, peek, bits):
    plain = _stream.match(Scope(5), [b"k"])
    asked = _stream.match(Scope(5), [b"k"], bitmap=bool(bitmap), peek=bool(peek))
    assert asked == plain[:10] + bytes([bits]) + plain[11:]


def test_frames_without_an_answer_have_their_golden_bytes():
    assert _stream.frame(Type.CANCEL, 42, b"") == GOLDEN["cancel"]
    assert _stream.frame(Type.CLOSE, 0, _stream.close(2, "stopping")) == GOLDEN["close"]


def test_answers_say_what_the_server_said():
    welcome = _stream.welcome(body_of("welcome"))
    assert welcome == (64, 256, 1 << 30, "mnemo-token", 600.0)
    assert _stream.registered(body_of("registered")) == (3, 1)
    _stream.done(body_of("unregistered"))
    matched = _stream.matched(body_of("matched"))
    assert (matched.blocks, matched.tokens, matched.lease, matched.lease_ms) == (3, 48, 12, 1000)
    assert (matched.fetch_bytes, matched.present) == (98304, b"\x07")
    assert [(run.first, run.count, run.level) for run in matched.runs] == [(0, 2, 1), (2, 1, 3)]
    assert list(matched.pending) == [4, 5]
    assert [(group.group, group.blocks) for group in matched.groups] == [(0, 3)]
    offered = _stream.offered(body_of("offered"))
    assert offered.reservation == 77
    assert [each.verdict for each in offered.verdicts] == [1, 2, 3, 4]
    assert offered.verdicts[1].digest.high == DIGEST.high
    assert offered.verdicts[3].reason.message == "size is 0"
    good, missing, encoded = _stream.got(body_of("got"))
    assert (good.size, good.written, good.digest, good.level, good.depth) == (
        4096, 2048, DIGEST, 2, 6,
    )  # fmt: skip
    assert good.fidelity is None and not good.encoded
    assert (missing.error.code, missing.error.message) == (Code.NOT_FOUND, "no such part")
    assert encoded.encoded and encoded.runs == [(2, 4)] and encoded.written == 600
    assert encoded.fidelity == PartFidelity("rotated4", 4.25, 0.0625)
    assert encoded.put_digest == Digest(8, 7)
    stored, failed = _stream.stored(body_of("stored"))
    assert (stored.outcome, stored.digest) == (PutOutcome.STORED, DIGEST)
    assert failed.error.code is Code.RESOURCE_EXHAUSTED
    assert _stream.touched(body_of("touched")).found == 2
    prefetched = _stream.prefetched(body_of("prefetched"))
    assert (prefetched.prefetch, prefetched.queued, prefetched.in_ram) == (11, 4, 3)
    assert (prefetched.absent, prefetched.dropped) == (2, 1)
    closed = _stream.closed(body_of("close"))
    assert closed.code is Code.UNAVAILABLE and "stopping" in closed.message


@pytest.mark.parametrize("decode", DECODERS.values())
def test_an_error_is_raised_whatever_was_asked(decode):
    with pytest.raises(MnemoError, match="queue is full") as raised:
        decode(body_of("error"))
    assert raised.value.code is Code.UNAVAILABLE


@pytest.mark.parametrize("name", DECODERS)
def test_bodies_that_are_cut_or_too_long_are_refused(name):
    body = body_of(name)
    for end in range(len(body)):
        with pytest.raises(Malformed):
            DECODERS[name](body[:end])
    with pytest.raises(Malformed):
        DECODERS[name](body + b"\x00")


@pytest.mark.parametrize("name", DECODERS)
def test_noise_is_read_or_refused_and_nothing_else(name):
    noise = random.Random(17)
    body = body_of(name)
    for _ in range(2000):
        changed = bytearray(body)
        for _ in range(noise.randint(1, 4)):
            changed[noise.randrange(len(changed))] = noise.choice((0, 1, 255, noise.randrange(256)))
        try:
            DECODERS[name](bytes(changed))
        except (Malformed, MnemoError):
            pass


def test_frames_are_put_together_from_pieces():
    reader = _stream.AnswerReader()
    stream = GOLDEN["got"] + GOLDEN["touched"]
    found = []
    for byte in stream:
        reader.feed(bytes([byte]))
        frame = reader.next()
        if frame is not None:
            found.append(frame[0].type)
    assert found == [Type.GET + 128, Type.TOUCH + 128]
    reader.feed(stream)
    assert [reader.next()[0].id, reader.next()[0].id, reader.next()] == [42, 42, None]


@pytest.mark.parametrize("at", range(32))
def test_a_damaged_header_is_refused(at):
    frame = bytearray(GOLDEN["touched"])
    frame[at] ^= 1
    reader = _stream.AnswerReader()
    reader.feed(bytes(frame))
    with pytest.raises(Malformed):
        reader.next()


def test_a_damaged_body_is_refused():
    frame = bytearray(GOLDEN["touched"])
    frame[-1] ^= 1
    reader = _stream.AnswerReader()
    reader.feed(bytes(frame))
    with pytest.raises(Malformed, match="body is damaged"):
        reader.next()


def test_a_body_that_is_too_long_is_refused_before_it_is_here():
    frame = _stream.frame(Type.GET + 128, 1, bytes(_stream.MAX_BODY_BYTES + 1))
    reader = _stream.AnswerReader()
    reader.feed(frame[:32])
    with pytest.raises(Malformed, match="bytes was announced"):
        reader.next()


def test_what_has_no_room_in_its_field_is_refused():
    with pytest.raises(Unfit):
        _stream.touch(Scope(1), [bytes(65536)])
    with pytest.raises(Unfit):
        _stream.get(Scope(1), [b"k"], [Part(256)], [])
