"""BlockService of the real daemon, through the blocking client."""

import os
import threading

import numpy
import pytest

from mnemod import (
    Block,
    DType,
    Durability,
    EventKind,
    Fingerprint,
    Group,
    GroupKind,
    Layout,
    Level,
    NotFoundError,
    Part,
    PutOutcome,
    ReadOrder,
    Space,
    Verdict,
    chain,
    hash_chain,
)

MIB = 1 << 20


def model_space(name, layout=Layout.LAYER_MAJOR):
    """A hybrid: full, a window of two blocks, and a state."""
    return Space(
        name,
        tokens_per_block=16,
        groups=(
            Group("full", GroupKind.FULL, 3, 2, 32, 16, DType.F16, layout=layout),
            Group("window", GroupKind.WINDOW, 2, 2, 32, 32, DType.F16, window_tokens=32),
            Group("state", GroupKind.STATE, 2, fixed_bytes=1000),
        ),
        fingerprint=Fingerprint(weights_digest="sha256:1"),
    )


@pytest.mark.parametrize("size", [1, 4097, MIB - 1, MIB + 1, 3 * MIB + 7, 40 * MIB])
def test_bytes_come_back_as_they_went(any_client, name, size):
    handle = any_client.open_space(Space.opaque(name, tokens_per_block=16))
    payload = os.urandom(size)
    (stored,) = handle.put([Block(b"key", payload)])
    assert stored.outcome is PutOutcome.STORED, stored
    buffer = bytearray(size)
    (read,) = handle.get([b"key"], into=[buffer])
    assert read.ok, read.error
    assert buffer == payload and (read.size, read.digest) == (size, stored.digest)
    assert handle.delete([b"key"]) == 1
    assert handle.get([b"key"])[0].missing


def test_many_parts_of_odd_sizes_share_a_call(handle):
    sizes = [1, 1000, 65_537, 700_001, 2 * MIB + 1, 3, 1_500_000]
    blocks = [Block(b"k%d" % i, os.urandom(size)) for i, size in enumerate(sizes)]
    assert all(result.ok for result in handle.put(blocks))
    keys = [block.key for block in blocks]
    reads = handle.get([b"none", *keys, b"k"])
    assert [read.data for read in reads[1:-1]] == [block.data for block in blocks]
    assert reads[0].missing and reads[-1].missing


def test_the_first_bytes_of_a_key_stay(handle):
    (first,) = handle.put([Block(b"k", b"first")])
    (same,) = handle.put([Block(b"k", b"first")])
    (other,) = handle.put([Block(b"k", b"other")])
    assert same.outcome is PutOutcome.ALREADY_PRESENT and same.digest == first.digest
    assert other.outcome is PutOutcome.CONFLICT and other.digest == first.digest
    assert not other.ok and handle.get([b"k"])[0].data == b"first"


def test_an_offer_reserves_for_whoever_offered(handle):
    block = Block(b"k", b"x" * 100)
    offer = handle.offer([block], reserve=30)
    assert offer.verdicts[0].verdict is Verdict.WANT and offer.reservation
    assert handle.offer([block]).verdicts[0].verdict is Verdict.PENDING
    assert handle.match([b"k"], bitmap=True).pending == (0,)
    assert handle.put([block], reservation=offer.reservation)[0].ok
    assert handle.offer([block]).verdicts[0].verdict is Verdict.PRESENT


def test_salts_do_not_see_each_other(handle):
    one, two = handle.with_salt(b"one"), handle.with_salt(b"two")
    one.put([Block(b"k", b"1")])
    assert two.get([b"k"])[0].missing and two.match([b"k"]).blocks == 0
    two.put([Block(b"k", b"2")])
    assert (one.get([b"k"])[0].data, two.get([b"k"])[0].data) == (b"1", b"2")
    assert one.delete_all() == 1
    assert two.get([b"k"])[0].data == b"2"
    assert handle.delete_all(every_salt=True) == 1


@pytest.mark.parametrize("layout", [Layout.LAYER_MAJOR, Layout.KV_MAJOR])
@pytest.mark.parametrize("order", [ReadOrder.BLOCK_MAJOR, ReadOrder.LAYER_MAJOR])
def test_layer_ranges_hold_the_rows_of_their_layers(client, name, layout, order):
    space = model_space(name, layout)
    handle = client.open_space(space)
    group = space.groups[0]
    k_run, v_run = group.run_bytes(16)
    # Every byte tells whether it is of K or V and of which layer.
    runs = {(half, i): bytes([10 * half + i]) * size
            for half, size in ((1, k_run), (2, v_run)) for i in range(3)}
    if layout is Layout.KV_MAJOR:
        wanted = sorted(runs)
    else:
        wanted = sorted(runs, key=lambda run: (run[1], run[0]))
    payload = b"".join(runs[run] for run in wanted)
    assert handle.info.part_bytes[0] == space.part_bytes(0) == len(payload)
    assert all(r.ok for r in handle.put([Block(b"a", payload), Block(b"b", payload)]))
    for first, count in ((0, 1), (1, 1), (1, 2), (0, 3)):
        expected = b"".join(runs[run] for run in wanted if first <= run[1] < first + count)
        for read in handle.get([b"a", b"b"], layers=(first, count), order=order):
            assert read.ok, read.error
            assert read.data == expected


def test_a_match_needs_full_window_and_state(client, name):
    handle = client.open_space(model_space(name))
    sizes = handle.info.part_bytes
    keys = hash_chain(range(16 * 6), block=16)
    handle.put(chain(keys[:5], [os.urandom(sizes[0]) for _ in range(5)]))
    assert handle.match(keys).blocks == 0
    assert handle.match(keys, groups=[0]).blocks == 5
    handle.put(chain(keys, [os.urandom(sizes[1])] * 2, part=Part(1), first=2))
    assert handle.match(keys, groups=[0, 1]).blocks == 4
    handle.put(chain(keys, [os.urandom(sizes[2])], part=Part(2), first=3))
    match = handle.match(keys, bitmap=True)
    assert (match.blocks, match.tokens) == (4, 64)
    assert [match.has(i) for i in range(6)] == [False, False, False, True, False, False]
    assert dict(match.group_blocks) == {0: 5, 1: 4, 2: 4}
    assert match.fetch_bytes == 4 * sizes[0] + 2 * sizes[1] + sizes[2]
    assert sum(run.count for run in match.runs) == 4


def test_all_ranks_are_counted_unless_some_are_named(client, name):
    group = Group("full", GroupKind.FULL, 4, 4, 8, 8, DType.F16,
                  tensor_parallel_size=2, pipeline_layers=(3, 1))  # fmt: skip
    handle = client.open_space(Space(name, 16, (group,), Fingerprint("sha256:1")))
    parts = [Part(0, tp, pp) for tp in range(2) for pp in range(2)]
    blocks = [Block(b"k", os.urandom(group.part_bytes(16, p.pp_rank)), p) for p in parts]
    assert handle.put(blocks[:3])[2].ok
    assert handle.match([b"k"]).blocks == 0
    assert handle.match([b"k"], tp_ranks=[0]).blocks == 1
    assert handle.match([b"k"], tp_ranks=[1], pp_ranks=[0]).blocks == 1
    handle.put(blocks[3:])
    assert handle.match([b"k"]).blocks == 1
    assert [r.data for r in handle.get([b"k"], parts=parts)] == [b.data for b in blocks]


def test_leases_are_prolonged_released_and_fulfilled(handle):
    handle.put(chain([b"a", b"b"], [b"1", b"2"]))
    match = handle.match([b"a", b"b"], lease=20)
    assert match.lease and 0 < match.lease_seconds <= 20
    assert all(info.leased for info in handle.describe([b"a", b"b"]))
    assert handle.renew(match.lease, 30) == 30
    handle.release(match.lease)
    with pytest.raises(NotFoundError):
        handle.renew(match.lease, 1)
    lease = handle.match([b"a"], lease=20).lease
    assert handle.get([b"a"], lease=lease)[0].ok
    with pytest.raises(NotFoundError):
        handle.release(lease)
    assert not any(info.leased for info in handle.describe([b"a", b"b"]))


def test_pins_hold_until_they_end(handle):
    handle.put([Block(b"a", b"1"), Block(b"b", b"2")])
    pinned = handle.pin([b"a", b"none", b"b"])
    assert (pinned.parts_pinned, pinned.missing) == (2, (1,))
    infos = handle.describe([b"a", b"b"])
    assert all(info.pinned and info.on_disk for info in infos)
    assert handle.unpin([b"a", b"b"]) == 2
    assert handle.unpin([b"a", b"b"]) == 0


def test_what_is_known_of_a_part_is_described_and_listed(handle):
    payload = os.urandom(5000)
    (stored,) = handle.put([Block(b"key", payload, depth=7, parent=b"before")])
    (info,) = handle.describe([b"none", b"key"])
    assert (info.key, info.size, info.digest) == (b"key", 5000, stored.digest)
    assert (info.depth, info.parent, info.level) == (7, b"before", Level.L1)
    assert info.created_unix_us > 1_600_000_000_000_000 and info.expires_unix_us == 0
    assert not (info.pinned or info.leased or info.pending)
    (listed,) = handle.list()
    assert (listed.key, listed.size) == (b"key", 5000)
    (placed,) = handle.explain(b"key")
    assert Level.L1 in placed.copies and placed.rule and placed.explanation
    assert 0 <= placed.shard < 256
    with pytest.raises(NotFoundError):
        handle.explain(b"none")


def test_lists_come_in_pages_without_gap_or_repeat(handle):
    keys = {b"%s%04d" % (prefix, i) for prefix in (b"a", b"b") for i in range(120)}
    handle.put_many(Block(key, key) for key in keys)
    listed = [info.key for info in handle.list(page_size=7)]
    assert len(listed) == 240 and set(listed) == keys
    assert {i.key for i in handle.list(prefix=b"a", page_size=50)} == {k for k in keys if k[:1] == b"a"}
    assert handle.usage().parts == 240
    assert handle.touch([*keys, b"none"]) == 240


def test_time_to_live_is_of_the_put_or_of_the_space(client, name):
    handle = client.open_space(Space.opaque(name, tokens_per_block=1, time_to_live=1000))
    handle.put([Block(b"space", b"x")])
    handle.put([Block(b"own", b"x")], time_to_live=50)
    space, own = handle.describe([b"space", b"own"])
    assert space.expires_unix_us - space.created_unix_us == pytest.approx(1000e6, abs=2e6)
    assert own.expires_unix_us - own.created_unix_us == pytest.approx(50e6, abs=2e6)


def test_a_watch_gives_a_snapshot_then_changes_and_goes_on(handle):
    handle.put([Block(b"before", b"x")])
    with handle.watch(deadline=60) as watch:
        assert [(e.kind, e.key) for e in (next(watch), next(watch))] == [
            (EventKind.STORED, b"before"), (EventKind.SNAPSHOT_END, b""),
        ]  # fmt: skip
        handle.put([Block(b"after", b"x", depth=3)])
        stored = next(watch)
        assert (stored.kind, stored.key, stored.depth) == (EventKind.STORED, b"after", 3)
        handle.delete([b"before"])
        removed = next(watch)
        assert (removed.kind, removed.key) == (EventKind.REMOVED, b"before")
        assert removed.sequence == stored.sequence + 1
    with handle.watch(from_sequence=stored.sequence, deadline=60) as later:
        again = next(later)
        assert (again.kind, again.key) == (EventKind.REMOVED, b"before")
        assert again.sequence == removed.sequence


def test_sixteen_threads_store_and_read_at_once(handle):
    errors = []

    def work(number):
        source = numpy.random.default_rng(number)
        for turn in range(6):
            key = b"%d-%d" % (number, turn)
            payload = source.bytes(int(source.integers(1, 1_500_000)))
            if not handle.put([Block(key, payload)])[0].ok:
                errors.append(f"put {key!r}")
            read = handle.get([key])[0]
            if not read.ok or read.data != payload:
                errors.append(f"get {key!r}: {read.error}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_writers_of_one_key_agree_on_its_bytes(handle):
    """Whoever wins, everyone who is told a digest is told the same."""
    digests, start = set(), threading.Barrier(8)

    def write(number):
        start.wait()
        (result,) = handle.put([Block(b"k", bytes([number]) * 50_000)])
        if result.digest is not None:
            digests.add(result.digest)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = handle.get([b"k"])[0]
    assert read.ok and digests == {read.digest}
    assert len(set(bytes(read.data))) == 1


@pytest.mark.parametrize("durability", list(Durability)[1:])
def test_flush_puts_every_class_on_disk(client, name, durability):
    handle = client.open_space(Space.opaque(name, tokens_per_block=1))
    handle.put([Block(b"k", os.urandom(9000))], durability=durability)
    handle.flush()
    (info,) = handle.describe([b"k"])
    assert info.on_disk and info.durability is durability
