"""The blocking client against the fake server."""

import os
import threading

import grpc
import numpy
import pytest

from mnemod import (
    Block,
    CancelledError,
    Client,
    DType,
    Digest,
    Durability,
    EventKind,
    FailedPreconditionError,
    Fingerprint,
    Group,
    GroupKind,
    InvalidArgumentError,
    Layout,
    Level,
    NotFoundError,
    Part,
    PrefetchResult,
    PutOutcome,
    Rope,
    RopePairing,
    Scales,
    Space,
    Tls,
    Verdict,
    chain,
)

MIB = 1 << 20
RICH = Space(
    name="rich",
    tokens_per_block=4,
    groups=(
        Group("full", GroupKind.FULL, 4, 2, 8, 4, DType.F16, layout=Layout.KV_MAJOR),
        Group("window", GroupKind.WINDOW, 2, 2, 8, 8, DType.F16, window_tokens=6),
        Group("state", GroupKind.STATE, 3, fixed_bytes=10, optional=True),
        Group(
            "scaled", GroupKind.FULL, 2, 2, 8, 8, DType.INT4, tensor_parallel_size=2,
            pipeline_layers=(1, 1), optional=True, scales=Scales(6, "per run"),
            rope=Rope(500.5, 8, RopePairing.HALF, "yarn", 4.0),
        ),
    ),
    fingerprint=Fingerprint("sha256:1", "Q4", "lora", "x2", "f16", "engine 1"),
    durability=Durability.SYNC,
    time_to_live=60,
)  # fmt: skip


def test_a_space_comes_back_as_it_was_written(client):
    handle = client.open_space(RICH)
    assert handle.created and handle.space == RICH
    again = client.open_space(RICH)
    assert not again.created and again.info.id == handle.info.id
    assert client.get_space("rich").space == RICH
    assert client.get_space(handle.info.id).info == again.info
    with pytest.raises(FailedPreconditionError):
        client.open_space(Space.opaque("rich", tokens_per_block=4))
    with pytest.raises(NotFoundError):
        client.open_space(Space.opaque("none", tokens_per_block=4), must_exist=True)


def test_spaces_are_listed_over_pages_updated_and_deleted(client):
    names = [f"space{i}" for i in range(7)]
    for name in names:
        client.open_space(Space.opaque(name, tokens_per_block=4))
    assert [info.space.name for info, _ in client.list_spaces(page_size=3)] == names
    info = client.update_space("space1", durability=Durability.SYNC, time_to_live=9)
    assert (info.space.durability, info.space.time_to_live) == (Durability.SYNC, 9)
    client.get_space("space2").put([Block(b"k", b"x")])
    assert client.space_info("space2")[1].parts == 1
    assert client.delete_space("space2") == 1
    assert client.delete_space("space2") == 0


@pytest.mark.parametrize("size", [1, 1000, MIB - 1, MIB, MIB + 1, 5 * MIB + 17])
def test_bytes_come_back_as_they_went(handle, size):
    payload = os.urandom(size)
    (stored,) = handle.put([Block(b"key", payload)])
    assert stored.ok and stored.outcome is PutOutcome.STORED
    (read,) = handle.get([b"key"])
    assert read.ok and read.data == payload
    assert (read.size, read.digest, read.level) == (size, stored.digest, Level.L1)


def test_payload_waits_for_its_grant(server, handle):
    """More than the first MiB goes out only as the server frees memory."""
    server.grant_step = 700_000
    payloads = [os.urandom(1_500_000), os.urandom(400_000), os.urandom(2_000_000)]
    results = handle.put([Block(bytes([i]), data) for i, data in enumerate(payloads)])
    assert [result.ok for result in results] == [True] * 3
    assert [read.data for read in handle.get([b"\0", b"\1", b"\2"])] == payloads


def test_no_message_carries_more_than_a_mebibyte(server, handle):
    handle.put([Block(b"a", bytes(5 * MIB)), Block(b"b", bytes(10))])
    assert sum(size for _, size in server.put_messages) == 5 * MIB + 10
    assert max(size for _, size in server.put_messages) == MIB


def test_what_is_there_is_not_sent_again(server, handle):
    handle.put([Block(b"a", bytes(2 * MIB))])
    server.put_messages.clear()
    results = handle.put([Block(b"a", bytes(2 * MIB)), Block(b"b", bytes(3 * MIB))])
    assert [r.outcome for r in results] == [PutOutcome.ALREADY_PRESENT, PutOutcome.STORED]
    # The first message may be on its way before the verdicts are known.
    assert sum(size for _, size in server.put_messages) <= 4 * MIB


def test_data_may_be_given_in_pieces_and_with_gaps(handle):
    pool = numpy.arange(4 * 8 * 6, dtype=numpy.float32).reshape(4, 8, 6)
    rows = pool[:, 2:5, :4]
    assert handle.put([Block(b"a", rows), Block(b"b", [b"12", bytearray(b"3"), rows[0, 0]])])
    a, b = handle.get([b"a", b"b"])
    assert a.data == rows.tobytes()
    assert b.data == b"123" + rows[0, 0].tobytes()


def test_reads_go_into_the_caller_s_memory(handle):
    payload = os.urandom(3 * MIB)
    handle.put([Block(b"a", payload), Block(b"b", payload[:100])])
    buffer = numpy.zeros(3 * MIB, dtype=numpy.uint8)
    first, second = numpy.zeros(60, dtype=numpy.uint8), bytearray(50)
    results = handle.get([b"a", b"b"], into=[buffer, [first, second]])
    assert all(result.ok for result in results)
    assert buffer.tobytes() == payload and results[0].data.obj is not None
    assert first.tobytes() + bytes(second[:40]) == payload[:100]
    assert bytes(second[40:]) == bytes(10)
    pool = numpy.zeros((10, 4, 6), dtype=numpy.uint8)
    handle.put([Block(b"c", bytes(range(1, 81)))])
    (read,) = handle.get([b"c"], into=[pool[:, :, :2]])
    assert read.ok and pool[:, :, :2].tobytes() == bytes(range(1, 81))
    assert not pool[:, :, 2:].any()


def test_memory_that_does_not_fit_fails_alone(handle):
    handle.put([Block(b"a", bytes(100)), Block(b"b", bytes(100))])
    small, right = bytearray(99), bytearray(b"x" * 100)
    a, b = handle.get([b"a", b"b"], into=[small, right])
    assert isinstance(a.error, InvalidArgumentError) and "99 bytes" in str(a.error)
    assert b.ok and right == bytes(100)
    with pytest.raises(ValueError, match="1 buffers"):
        handle.get([b"a", b"b"], into=[small])
    with pytest.raises(TypeError, match="read-only"):
        handle.get([b"a"], into=[bytes(100)])


def test_a_missing_part_never_fails_the_others(handle):
    parts = [Part(0, 0), Part(0, 1)]
    handle.put([Block(b"a", b"00", parts[0]), Block(b"a", b"01", parts[1]), Block(b"b", b"10")])
    results = handle.get([b"a", b"none", b"b"], parts=parts)
    assert [(r.key, r.part.tp_rank, r.ok) for r in results] == [
        (b"a", 0, True), (b"a", 1, True), (b"none", 0, False),
        (b"none", 1, False), (b"b", 0, True), (b"b", 1, False),
    ]  # fmt: skip
    assert results[1].data == b"01"
    assert results[2].missing and isinstance(results[2].error, NotFoundError)


def layers_of(payload, group, tokens, first, count):
    """The bytes of a layer range, in order of offset, by numpy's own slicing."""
    values = numpy.frombuffer(payload, dtype=numpy.uint8)
    k, v = group.run_bytes(tokens)
    if group.layout is Layout.KV_MAJOR:
        keys = values[: group.layers * k].reshape(group.layers, k)
        rest = values[group.layers * k :].reshape(group.layers, v)
        return keys[first : first + count].tobytes() + rest[first : first + count].tobytes()
    rows = values.reshape(group.layers, k + v)
    return rows[first : first + count].tobytes()


@pytest.mark.parametrize("layers", [(0, 1), (1, 2), (3, 1), (0, 4)])
def test_layer_ranges_come_packed_or_in_place(client, layers):
    handle = client.open_space(RICH)
    group = RICH.groups[0]
    payload = os.urandom(RICH.part_bytes(0))
    handle.put([Block(b"k", payload)])
    expected = layers_of(payload, group, 4, *layers)
    (read,) = handle.get([b"k"], layers=layers)
    assert read.ok and read.data == expected and read.size == len(payload)
    whole = bytearray(len(payload))
    (read,) = handle.get([b"k"], layers=layers, into=[whole])
    assert read.ok and layers_of(whole, group, 4, *layers) == expected
    # Nothing else was touched.
    assert sum(1 for byte in whole if byte) <= len(expected)


def test_match_tells_prefix_lease_and_bitmap(client, server):
    handle = client.open_space(RICH)
    keys = [bytes([i]) * 32 for i in range(6)]
    full, window = RICH.part_bytes(0), RICH.part_bytes(1)
    handle.put(chain(keys[:5], [bytes(full)] * 5))
    handle.put(chain(keys[:5], [bytes(window)] * 2, part=Part(1), first=2))
    match = handle.match(keys, lease=2.5, bitmap=True)
    # The window of 6 tokens needs the last two blocks of four.
    assert (match.blocks, match.tokens, match.lease_seconds) == (4, 16, 2.5)
    assert [match.has(i) for i in range(6)] == [False, False, True, True, False, False]
    assert match.lease in server.leases
    assert handle.renew(match.lease, 7) == 7
    handle.get(keys[:4], lease=match.lease)
    assert match.lease not in server.leases
    with pytest.raises(NotFoundError):
        handle.release(match.lease)
    assert handle.match(keys, groups=[0]).blocks == 5
    with pytest.raises(ValueError, match="bitmap"):
        handle.match(keys).has(0)


def test_lists_beyond_a_call_s_bound_are_split(server, handle):
    keys = [i.to_bytes(4, "big") for i in range(10_000)]
    results = handle.put_many(Block(key, key) for key in keys)
    assert len(results) == 10_000 and all(result.ok for result in results)
    assert server.calls["BlockService.Put"] == 10
    reads = handle.get(keys)
    assert [read.data for read in reads] == keys
    assert server.calls["BlockService.Get"] == 3
    assert [info.key for info in handle.describe(keys)] == keys
    assert handle.touch(keys) == 10_000
    assert [info.key for info in handle.list(page_size=999)] == keys
    pinned = handle.pin([b"none", *keys[:5]])
    assert (pinned.parts_pinned, pinned.missing) == (5, (0,))
    assert handle.unpin(keys[:5]) == 5
    assert handle.delete(keys[:4000]) == 4000
    assert handle.delete_all() == 6000


def test_prefetch_names_keys_parts_and_what_to_give_up(handle, server):
    handle.put([Block(b"a", b"1"), Block(b"b", b"2")])
    asked = handle.prefetch([b"a", b"b", b"c"], parts=[Part()], cancel=5)
    assert asked == PrefetchResult(prefetch=77, queued=2, in_ram=0, absent=1, dropped=5)
    assert handle.prefetch(cancel=77) == PrefetchResult(0, 0, 0, 0, 0)
    assert server.cancelled == [77]


def test_salts_are_apart(handle):
    other = handle.with_salt(b"salt")
    handle.put([Block(b"k", b"plain")])
    other.put([Block(b"k", b"salted")])
    assert handle.get([b"k"])[0].data == b"plain"
    assert other.get([b"k"])[0].data == b"salted"
    assert [info.size for info in other.list()] == [6]
    assert len(list(handle.list(every_salt=True))) == 2
    assert other.delete_all() == 1
    assert handle.delete_all(every_salt=True) == 1


def test_an_offer_tells_what_is_wanted(server, handle):
    handle.put([Block(b"here", b"x")])
    server.pending.add((handle.info.id, b"", b"busy"))
    blocks = [Block(b"here", b"x"), Block(b"busy", b"x"), Block(b"new", b"x"), Block(b"", b"x")]
    answer = handle.offer(blocks)
    assert [v.verdict for v in answer.verdicts] == [
        Verdict.PRESENT, Verdict.PENDING, Verdict.WANT, Verdict.REFUSED,
    ]  # fmt: skip
    assert isinstance(answer.verdicts[3].reason, InvalidArgumentError)
    assert isinstance(answer.verdicts[0].digest, Digest) and answer.reservation
    assert handle.put([blocks[2]], reservation=answer.reservation)[0].ok


def test_a_watch_streams_until_it_is_closed(handle):
    handle.put([Block(b"before", b"x")])
    with handle.watch() as watch:
        first, end = next(watch), next(watch)
        assert (first.kind, first.key) == (EventKind.STORED, b"before")
        assert end.kind is EventKind.SNAPSHOT_END
        handle.put([Block(b"after", b"x")])
        stored = next(watch)
        assert (stored.kind, stored.key, stored.level) == (EventKind.STORED, b"after", Level.L1)
        closer = threading.Thread(target=watch.close)
        closer.start()
        assert list(watch) == []
        closer.join()


def test_the_administration_is_told_as_values(client, handle):
    handle.put([Block(b"k", b"x", depth=3, parent=b"j")])
    status = client.node_status()
    assert status.ready and status.addresses["grpc"]
    assert client.levels()[0].level is Level.L1
    assert client.tiers()[0].name == "FOREGROUND"
    assert client.config()[0].key == "memory.total"
    (placement,) = handle.explain(b"k")
    assert placement.info.parent == b"j" and placement.signals == {"uses": 2.0}
    assert placement.copies == (Level.L1,)
    assert handle.flush() == 1 and client.flush() == 1
    assert handle.usage().bytes == 1
    with pytest.raises(NotFoundError):
        handle.explain(b"none")


def test_metadata_goes_with_every_call(server):
    with Client(server.target, metadata=[("authorization", "Bearer t")]) as client:
        client.node_status()
    assert ("authorization", "Bearer t") in server.metadata[-1]


def test_a_token_goes_with_every_call_beside_other_metadata(server):
    with Client(server.target, token="mnemo_1_a-._~+/=", metadata=[("x-tag", "1")]) as client:
        client.node_status()
        client.open_space(RICH)
    for metadata in server.metadata[-2:]:
        assert ("authorization", "Bearer mnemo_1_a-._~+/=") in metadata
        assert ("x-tag", "1") in metadata


@pytest.mark.parametrize("token", ["", "a b", "sec\nret", "s\u00e9cret"])
def test_a_token_that_is_none_is_refused_without_saying_it(server, token):
    with pytest.raises(ValueError, match="token: ") as error:
        Client(server.target, token=token)
    assert not token or token not in str(error.value)


def test_tls_wants_certificate_and_key_together_and_no_other_credentials(server):
    with pytest.raises(ValueError, match="certificate and key"):
        Tls(certificate=b"x")
    with pytest.raises(ValueError, match="not together with credentials"):
        Client(server.target, tls=Tls(), credentials=grpc.ssl_channel_credentials())
    assert "secret" not in repr(Tls(certificate=b"c", key=b"secret"))


def test_a_closed_client_says_so(server, handle, client):
    client.close()
    with pytest.raises(CancelledError, match="closed"):
        handle.get([b"k"])
    with pytest.raises(CancelledError, match="closed"):
        client.node_status()


@pytest.mark.parametrize("target", ["", "host", "host:", "host:0x1", "host:70000", "unix:rel", ":1"])
def test_a_target_that_is_none_is_refused(target):
    with pytest.raises(ValueError, match="target"):
        Client(target)
