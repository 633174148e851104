"""The hand-written half of the wire format, held against protobuf."""

import random

import pytest

from mnemod._contract import pb
from mnemod._wire import MAX_PAYLOAD, as_bytes_view, as_segments, decode_get_data, encode_put_data


@pytest.mark.parametrize("index", [0, 1, 127, 128, 1023, 2**32 - 1])
@pytest.mark.parametrize("offset", [0, 1, 300, 64 << 20, 2**40])
@pytest.mark.parametrize("size", [1, 127, 128, 70_000, MAX_PAYLOAD])
def test_put_data_is_read_by_protobuf_as_it_was_written(index, offset, size):
    payload = random.Random(size).randbytes(size)
    view = memoryview(payload)
    encoded = encode_put_data(index, offset, [view[: size // 2], view[size // 2 :]])
    expected = pb.PutRequest(data=pb.PutData(index=index, offset=offset, data=payload))
    assert pb.PutRequest.FromString(encoded) == expected


@pytest.mark.parametrize("index", [0, 1, 128, 16383, 2**32 - 1])
@pytest.mark.parametrize("offset", [0, 1 << 20, 2**40])
@pytest.mark.parametrize("size", [1, 128, MAX_PAYLOAD])
def test_get_data_of_protobuf_is_found_without_it(index, offset, size):
    payload = random.Random(size).randbytes(size)
    message = pb.GetResponse(data=pb.GetData(index=index, offset=offset, data=payload))
    found = decode_get_data(message.SerializeToString())
    assert found is not None
    assert (found[0], found[1], bytes(found[2])) == (index, offset, payload)


def test_what_is_not_plain_data_is_left_to_protobuf():
    header = pb.GetResponse(header=pb.GetHeader(index=3, size=5)).SerializeToString()
    assert decode_get_data(header) is None
    assert decode_get_data(b"") is None
    data = pb.GetResponse(data=pb.GetData(data=b"abc")).SerializeToString()
    # Twice the same field: protobuf merges, so it has to read it.
    assert decode_get_data(data + data) is None
    # A field that a later contract may add.
    later = bytes([2 << 3 | 2, 7, 4 << 3 | 0, 1, 3 << 3 | 2, 3]) + b"abc"
    assert decode_get_data(later) is None
    assert pb.GetResponse.FromString(later).data.data == b"abc"


def test_lengths_that_lie_and_endless_numbers_are_refused():
    with pytest.raises(ValueError, match="are left"):
        decode_get_data(bytes([2 << 3 | 2, 2, 3 << 3 | 2, 9]))
    with pytest.raises(ValueError, match="10 bytes"):
        decode_get_data(bytes([2 << 3 | 2, 12, 1 << 3 | 0]) + b"\xff" * 11)
    with pytest.raises(ValueError, match="ends inside"):
        decode_get_data(bytes([2 << 3 | 2, 2, 1 << 3 | 0]) + b"\xff")


def test_random_bytes_never_do_worse_than_a_value_error():
    """Nor are they ever read otherwise than protobuf reads them."""
    random_source = random.Random(20240607)
    seed = pb.GetResponse(data=pb.GetData(index=5, offset=900, data=b"payload")).SerializeToString()
    for _ in range(20_000):
        message = bytearray(seed)
        for _ in range(random_source.randrange(1, 4)):
            message[random_source.randrange(len(message))] = random_source.randrange(256)
        try:
            found = decode_get_data(bytes(message))
        except ValueError:
            continue
        if found is None:
            continue
        try:
            theirs = pb.GetResponse.FromString(bytes(message)).data
        except Exception:  # protobuf has several kinds of decode error
            continue
        assert (found[0] & 0xFFFFFFFF, found[1] & (2**64 - 1)) == (theirs.index, theirs.offset)
        assert bytes(found[2]) == theirs.data


def test_segments_are_views_of_the_caller_s_memory():
    numpy = pytest.importorskip("numpy")
    pool = numpy.zeros((4, 8, 16), dtype=numpy.float16)
    rows = pool[1:3, :, :4]  # 16 runs of 4 values
    segments = as_segments(rows)
    assert [len(segment) for segment in segments] == [8] * 16
    for segment in segments:
        segment[:] = b"\xff" * 8
    assert numpy.isnan(rows).all()
    assert numpy.count_nonzero(pool) == rows.size
    assert len(as_segments(pool)) == 1
    assert [len(s) for s in as_segments((b"ab", [bytearray(3), memoryview(b"")], pool))] == [2, 3, 1024]


def test_memory_with_gaps_between_elements_is_refused():
    numpy = pytest.importorskip("numpy")
    with pytest.raises(ValueError, match="side by side"):
        as_segments(numpy.zeros((4, 4), dtype=numpy.uint8)[:, ::2])
    with pytest.raises(ValueError, match="contiguous"):
        as_bytes_view(memoryview(bytearray(8))[::2])
    with pytest.raises(TypeError):
        as_segments("text")
