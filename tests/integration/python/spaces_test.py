"""SpaceService and AdminService of the real daemon."""

import dataclasses
import threading

import pytest

from mnemod import (
    Block,
    Client,
    Durability,
    FailedPreconditionError,
    Fingerprint,
    InvalidArgumentError,
    Level,
    NotFoundError,
    Space,
)
from tests.integration.python.blocks_test import model_space


def test_a_space_is_opened_once_and_found_again(client, name):
    space = dataclasses.replace(model_space(name), durability=Durability.SYNC, time_to_live=60)
    handle = client.open_space(space)
    assert handle.created and handle.space == space and handle.info.id
    assert handle.info.part_bytes == tuple(space.part_bytes(i) for i in range(3))
    again = client.open_space(space)
    assert not again.created and again.info == handle.info
    assert client.get_space(name).info == client.get_space(handle.info.id).info == handle.info


def test_eight_workers_open_one_space(daemon, name):
    start, found, lock = threading.Barrier(8), [], threading.Lock()

    def work():
        with Client(daemon.ready["grpc"]) as client:
            start.wait()
            handle = client.open_space(Space.opaque(name, tokens_per_block=16))
            with lock:
                found.append((handle.info.id, handle.created))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len({number for number, _ in found}) == 1
    assert sorted(created for _, created in found) == [False] * 7 + [True]


@pytest.mark.parametrize(
    "change, field, values",
    [
        ({"tokens_per_block": 32}, "tokens_per_block", ("16", "32")),
        ({"fingerprint": Fingerprint("sha256:2")}, "weights_digest", ("sha256:1", "sha256:2")),
        ({"salt_required": True}, "salt_required", ("true", "false")),
    ],
)
def test_a_field_that_differs_is_named_with_both_values(client, name, change, field, values):
    space = model_space(name)
    client.open_space(space)
    with pytest.raises(FailedPreconditionError) as caught:
        client.open_space(dataclasses.replace(space, **change))
    assert field in caught.value.message
    for value in values:
        assert value in caught.value.message


def test_spaces_are_listed_over_pages(client, name):
    names = [f"{name}-{i:02d}" for i in range(12)]
    for each in names:
        client.open_space(Space.opaque(each, tokens_per_block=1))
    listed = [info.space.name for info, _ in client.list_spaces(page_size=5)]
    assert [each for each in listed if each in names] == names
    assert listed == sorted(listed) and len(set(listed)) == len(listed)


def test_a_policy_holds_for_later_writes(client, name):
    handle = client.open_space(Space.opaque(name, tokens_per_block=1))
    handle.put([Block(b"before", b"x")])
    info = client.update_space(name, durability=Durability.SYNC, time_to_live=100)
    assert (info.space.durability, info.space.time_to_live) == (Durability.SYNC, 100)
    handle.put([Block(b"after", b"x")])
    before, after = handle.describe([b"before", b"after"])
    assert before.durability is Durability.CACHE and before.expires_unix_us == 0
    assert after.durability is Durability.SYNC and after.expires_unix_us > 0


def test_a_deleted_space_is_gone_and_its_name_free(client, name):
    handle = client.open_space(Space.opaque(name, tokens_per_block=1))
    handle.put([Block(b"a", b"x"), Block(b"b", b"x")])
    assert client.delete_space(name) == 2
    assert client.delete_space(name) == 0
    with pytest.raises(NotFoundError):
        handle.get([b"a"])
    with pytest.raises(NotFoundError):
        client.get_space(name)
    anew = client.open_space(Space.opaque(name, tokens_per_block=1))
    assert anew.created and anew.info.id != handle.info.id
    assert anew.get([b"a"])[0].missing


def test_a_salt_that_is_required_must_be_given(client, name):
    handle = client.open_space(Space.opaque(name, tokens_per_block=1, salt_required=True))
    for call in (
        lambda: handle.put([Block(b"k", b"x")]),
        lambda: handle.get([b"k"]),
        lambda: handle.match([b"k"]),
        lambda: handle.touch([b"k"]),
        lambda: handle.delete([b"k"]),
    ):
        with pytest.raises(InvalidArgumentError, match="salt"):
            call()
    salted = handle.with_salt(b"s")
    assert salted.put([Block(b"k", b"x")])[0].ok and salted.get([b"k"])[0].ok


def test_chain_affinity_wants_a_stretch_for_each_key(client, name):
    handle = client.open_space(Space.opaque(name, tokens_per_block=16, chain_affinity=True))
    with pytest.raises(InvalidArgumentError, match="stretch"):
        handle.match([b"k"])
    assert handle.put([Block(b"k", b"x", stretch=b"s"), Block(b"l", b"y", stretch=b"s")])[1].ok
    assert handle.match([b"k", b"l"], stretches=[b"s", b"s"]).blocks == 2
    assert handle.get([b"l"], stretches=[b"s"])[0].data == b"y"
    (one,), (two,) = handle.explain(b"k", stretch=b"s"), handle.explain(b"l", stretch=b"s")
    assert one.shard == two.shard


def test_the_node_tells_what_it_is(client, daemon, handle):
    handle.put([Block(b"k", b"x" * 1000)])
    handle.get([b"k"])
    status = client.node_status()
    assert status.ready and status.node_id and status.version and status.spaces >= 1
    assert daemon.ready["grpc"] in status.addresses.values()
    assert status.parts >= 1 and status.resident_bytes > 0
    levels = client.levels()
    assert [level.level for level in levels] == [Level.L1, Level.L2, Level.L3, Level.DISK]
    assert levels[0].parts >= 1 and levels[0].hits >= 1 and levels[0].capacity_bytes > 0
    tiers = client.tiers()
    assert len(tiers) == 12 and tiers[0].name == "FOCUS" and any(tier.active for tier in tiers)
    config = {entry.key: entry for entry in client.config()}
    assert config["memory.total"].origin == "flag" and config["memory.total"].value == "256MiB"
    assert list(config) == sorted(config)
