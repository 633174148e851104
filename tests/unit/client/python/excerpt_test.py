"""Excerpts of envelopes that are decoded here: their shapes, damage, and calibrations.

What the numbers decode to is held against the daemon in tests/integration.
"""

import random
import struct

import numpy
import pytest
import xxhash

from mnemod import Code, Digest, Part, Space
from mnemod._buffers import digest_of
from mnemod._contract import pb
from mnemod._excerpt import CalibrationCache, Damaged, Excerpt, decode
from mnemod._meter import FetchMeter
from mnemod._sessions import GetSession
from mnemod._tensors import KIVI, PROGRESSIVE, ROTATED, Calibration, MissingCalibration, read_header
from mnemod.errors import NotFoundError
from mnemod.spaces import SpaceInfo

SEED = 99  # of the checksums of sections: that of a stored key
TOKENS, HEADS, DIMENSION = 40, 2, 20


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def calibration(layers=2):
    """Plain statistics, no positions."""
    channels = layers * HEADS * DIMENSION
    body = struct.pack("<IIIIII", 0x434E454D, 1, layers, HEADS, DIMENSION, DIMENSION)
    body += struct.pack("<dQ", 0, 0) * layers
    for _ in range(2):
        for value in (0.5, 1.0, -3.0, 3.0):
            body += numpy.full(channels, value, "<f4").tobytes()
    return body + xxhash.xxh3_64_intdigest(body).to_bytes(8, "little")


def section(codec, bits, *, values=False, number=0, tail=0, token_major=False, layers=1, tokens=TOKENS):
    """A section of random codes, and how many bytes it stands for."""
    noise = random.Random(bits * 10 + codec)
    flags = 2 | values << 4 | token_major << 5 | bool(number) << 6
    data = bytes([1, codec, bits, flags])
    for field in (layers, tokens, HEADS, DIMENSION, tail, 4, 0, 0, 16):
        data += varint(field)
    if number:
        data += struct.pack("<I", number)
    header = read_header(memoryview(data))
    exact = layers * 4 * HEADS * DIMENSION * 2
    data += noise.randbytes(exact + layers * tail)
    rows = layers * (tokens - 4) * HEADS
    if codec == KIVI:
        groups = HEADS * DIMENSION * ((tokens - 4 + 31) // 32)
        if values:
            groups = (tokens - 4) * HEADS
        steps = 0 if number else layers * groups * 2
        data += numpy.full(steps, 0.25, "<f2").tobytes() + noise.randbytes(rows * 3 * bits)
    else:
        data += numpy.full(rows, 0.25, "<f2").tobytes() + noise.randbytes(rows * 3 * bits)
    return data, header.bytes


def envelope(sections, runs=()):
    """An excerpt with the sections of `runs` of an envelope of lossy sections."""
    payload = sum(size for _, size in sections)
    header_bytes = 64 + 32 * len(sections)
    table, offset = b"", header_bytes
    for data, size in sections:
        checksum = xxhash.xxh3_64_intdigest(data, SEED)
        table += struct.pack(
            "<QIIQBBBBf", offset, len(data), size, checksum, data[1], 2, data[2], 0, 0.1
        )
        offset += len(data)
    front = struct.pack(
        "<IHHIfQQQQQ", 0x56454E4D, 2, 0, len(sections), 0.1, SEED, 5, 6, payload, offset
    )
    seed = xxhash.xxh3_64_intdigest(table, 0x6D6E656D6F686472)
    front += struct.pack("<Q", xxhash.xxh3_64_intdigest(front, seed))
    wanted = [i for first, count in runs for i in range(first, first + count)]
    wanted = wanted or range(len(sections))
    return front + table + b"".join(sections[i][0] for i in wanted)


FORMS = [
    (ROTATED, 1, {}),
    (ROTATED, 3, {"values": True}),
    (ROTATED, 5, {"token_major": True, "layers": 2}),
    (PROGRESSIVE, 8, {"tail": 6, "layers": 2}),
    (PROGRESSIVE, 4, {"tokens": 5}),
    (KIVI, 2, {}),
    (KIVI, 4, {"values": True, "tail": 3}),
    (KIVI, 8, {"tokens": 37, "layers": 2}),
]


@pytest.mark.parametrize("codec, bits, shape", FORMS)
def test_a_section_of_every_shape_keeps_its_exact_tokens_and_tails(codec, bits, shape):
    data, size = section(codec, bits, **shape)
    whole = envelope([(data, size)])
    excerpt = Excerpt(memoryview(whole), [])
    assert excerpt.whole and excerpt.lossy and excerpt.payload_bytes == size
    decoded = bytes(decode(excerpt.sections[0], {}))
    assert len(decoded) == size
    header = read_header(memoryview(data))
    exact = data[header.size :]
    row = HEADS * DIMENSION * 2
    if header.token_major:
        # [token, layer, ...]; stored layer by layer.
        first = decoded[: 2 * row]
        assert first == exact[:row] + exact[4 * row : 5 * row]
    else:
        assert decoded[: 4 * row] == exact[: 4 * row]
    if header.tail:
        tails = exact[header.layers * 4 * row :][: header.layers * header.tail]
        layer = len(decoded) // header.layers
        for i in range(header.layers):
            end = (i + 1) * layer
            assert decoded[end - header.tail : end] == tails[i * header.tail :][: header.tail]
    values = numpy.frombuffer(decoded[4 * row : 5 * row], "<f2")
    assert numpy.isfinite(values).all()


@pytest.mark.parametrize("codec, bits, shape", FORMS)
def test_every_flipped_byte_is_damage(codec, bits, shape):
    whole = bytearray(envelope([section(codec, bits, **shape)]))
    for at in range(0, len(whole), 5):
        whole[at] ^= 0x11
        with pytest.raises(Damaged):
            excerpt = Excerpt(memoryview(whole), [])
            decode(excerpt.sections[0], {})
        whole[at] ^= 0x11


def test_headers_of_nonsense_are_damage_behind_right_checksums():
    noise = random.Random(3)
    good, size = section(ROTATED, 4)
    for _ in range(2000):
        bad = bytearray(good)
        for _ in range(noise.randrange(1, 4)):
            bad[noise.randrange(16)] = noise.randrange(256)
        bad = bytes(bad[: noise.choice((len(bad), noise.randrange(2, len(bad))))])
        excerpt = None
        try:
            excerpt = Excerpt(memoryview(envelope([(bad, size)])), [])
            decoded = bytes(decode(excerpt.sections[0], {}))
        except (Damaged, MissingCalibration):
            continue
        assert len(decoded) == size


def test_cuts_leftovers_and_runs():
    sections = [section(ROTATED, 4, values=i % 2 == 1) for i in range(4)]
    runs = [(0, 1), (2, 2)]
    part = envelope(sections, runs)
    excerpt = Excerpt(memoryview(part), runs)
    assert [each.number for each in excerpt.sections] == [0, 2, 3] and not excerpt.whole
    assert excerpt.sections[1].offset == 2 * sections[0][1]
    whole = Excerpt(memoryview(envelope(sections)), [])
    for each in excerpt.sections:
        assert bytes(decode(each, {})) == bytes(decode(whole.sections[each.number], {}))
    for wrong in ([(0, 5)], [(4, 1)], [(0, 0)], [(2, 1), (0, 1)], [(0, 2), (1, 1)], [(0, 1)]):
        with pytest.raises(Damaged):
            Excerpt(memoryview(part), wrong)
    for cut in (part[:-1], part[:63], part[:100], part + b"x", b""):
        with pytest.raises(Damaged):
            Excerpt(memoryview(cut), runs)


def test_calibrations_are_read_with_care():
    good = calibration()
    number = Calibration(good).number
    cache = CalibrationCache()
    cache.add(7, number, good)
    assert set(cache.find(7, {number, 1})) == {number}
    assert cache.find(8, {number}) == {}
    with pytest.raises(Damaged, match="is not calibration"):
        cache.add(7, number + 1, good)
    for at in range(0, len(good), 7):
        bad = bytearray(good)
        bad[at] ^= 0x40
        with pytest.raises(Damaged):
            Calibration(bytes(bad))
    with pytest.raises(Damaged):
        Calibration(good[:20])


def test_a_calibration_of_another_geometry_is_missing():
    known = Calibration(calibration(layers=1))
    data, size = section(ROTATED, 4, number=known.number, layers=2)
    excerpt = Excerpt(memoryview(envelope([(data, size)])), [])
    assert excerpt.calibrations() == {known.number}
    with pytest.raises(MissingCalibration, match="not here"):
        decode(excerpt.sections[0], {})
    with pytest.raises(MissingCalibration, match="of another space"):
        decode(excerpt.sections[0], {known.number: known})


class Read:
    """A Get of one part that comes encoded, message by message."""

    def __init__(self, data, size, cache, put_digest=Digest(6, 5), digest=None):
        info = SpaceInfo(7, Space.opaque("s", tokens_per_block=1), 0, ())
        request = pb.GetRequest(space=pb.SpaceRef(id=7))
        self.into = bytearray(size)
        self.session = GetSession(
            request, info, [b"k"], [Part()], [self.into], True, FetchMeter(), calibrations=cache
        )
        header = pb.GetHeader(index=0, size=size, bytes_following=len(data))
        said = digest or digest_of([memoryview(data)])
        header.digest.CopyFrom(pb.Digest(high=said.high, low=said.low))
        header.put_digest.CopyFrom(pb.Digest(high=put_digest.high, low=put_digest.low))
        header.encoded.SetInParent()
        self.send(pb.GetResponse(header=header))
        for at in range(0, len(data), 1000):
            piece = pb.GetData(index=0, offset=at, data=data[at : at + 1000])
            self.send(pb.GetResponse(data=piece))

    def send(self, message):
        self.session.on_message(message.SerializeToString())

    def result(self):
        (result,) = self.session.finish(None)
        return result


def test_a_read_waits_for_its_calibration_and_keeps_it():
    number = Calibration(calibration()).number
    data, size = section(ROTATED, 4, number=number)
    cache = CalibrationCache()
    read = Read(envelope([(data, size)]), size, cache)
    assert list(read.session.request().takes) == [KIVI, ROTATED, PROGRESSIVE]
    assert read.session.missing_calibrations() == [number]
    asked = read.session.calibration_request(number)
    assert (asked.space.id, asked.id) == (7, number)
    read.session.learn(number, pb.GetCalibrationResponse(calibration=calibration()))
    result = read.result()
    assert result.ok and result.data == read.into != bytes(size)
    assert result.bytes_received == len(data) + 96
    again = Read(envelope([(data, size)]), size, cache)
    assert again.session.missing_calibrations() == []
    assert again.result().data == result.data


def test_a_calibration_that_is_not_to_be_had_is_a_miss():
    number = Calibration(calibration()).number
    data, size = section(ROTATED, 4, number=number)
    read = Read(envelope([(data, size)]), size, CalibrationCache())
    read.session.learn(number, NotFoundError("no such calibration"))
    result = read.result()
    assert result.missing and result.data is None and read.into == bytes(size)
    read = Read(envelope([(data, size)]), size, CalibrationCache())
    read.session.learn(number, pb.GetCalibrationResponse(calibration=b"nothing"))
    assert read.result().error.code is Code.INTERNAL


def test_other_bytes_than_were_announced_are_damage():
    data, size = section(ROTATED, 4)
    whole = envelope([(data, size)])
    for changes in ({"digest": Digest(1, 1)}, {"put_digest": Digest(6, 6)}):
        read = Read(whole, size, CalibrationCache(), **changes)
        assert read.result().error.code is Code.DATA_LOSS
        assert read.into == bytes(size)
