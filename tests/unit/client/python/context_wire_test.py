"""The hand-written half of the wire format of contexts, held against protobuf."""

import random

import pytest

from mnemod._context_wire import decode_stored, encode_batch
from mnemod._contract import pb


@pytest.mark.parametrize("size", [0, 1, 127, 128, 70_000, 1 << 20])
def test_a_batch_is_read_by_protobuf_as_it_was_written(size):
    embeddings = random.Random(size).randbytes(size)
    batch = pb.TokenBatch(first_position=2**47, count=5, ids=b"abcd", kind=3)
    batch.payloads.add(first_position=1, count=2, data=b"text")
    encoded = encode_batch(batch.SerializeToString(), memoryview(embeddings))
    batch.embeddings = embeddings
    assert pb.AppendRequest.FromString(encoded) == pb.AppendRequest(tokens=batch)


@pytest.mark.parametrize("size", [0, 1, 128, 1 << 20])
def test_stored_tokens_of_protobuf_are_taken_apart(size):
    embeddings = random.Random(size).randbytes(size)
    batch = pb.TokenBatch(first_position=7, count=5, ids=b"abcd", embeddings=embeddings, kind=2)
    batch.payloads.add(first_position=7, count=2, data=b"text")
    stored = pb.StoredTokens(tokens=batch, level=3, bits_per_value=8)
    parts = decode_stored(pb.ReadContextResponse(tokens=stored).SerializeToString())
    assert bytes(parts.embeddings) == embeddings
    batch.ClearField("embeddings")
    stored.ClearField("tokens")
    assert pb.TokenBatch.FromString(parts.batch) == batch
    assert pb.StoredTokens.FromString(parts.stored) == stored


def test_other_answers_have_no_tokens():
    summaries = pb.SummaryBatch(summaries=[pb.RangeSummary(count=1)])
    assert decode_stored(pb.ReadContextResponse(summaries=summaries).SerializeToString()) is None
    assert decode_stored(b"") is None


def test_random_damage_is_a_value_error_at_worst():
    random_source = random.Random(20260731)
    batch = pb.TokenBatch(first_position=7, count=5, embeddings=b"x" * 40)
    stored = pb.StoredTokens(tokens=batch, level=3)
    seed = pb.ReadContextResponse(tokens=stored).SerializeToString()
    for _ in range(20_000):
        message = bytearray(seed)
        for _ in range(random_source.randint(1, 4)):
            message[random_source.randrange(len(message))] = random_source.randrange(256)
        try:
            parts = decode_stored(bytes(message[: random_source.randint(0, len(message))]))
        except ValueError:
            continue
        assert parts is None or len(parts.embeddings) <= len(message)
