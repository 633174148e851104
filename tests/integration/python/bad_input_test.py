"""What bad input gets: a status with the field and its range, and no effect."""

import dataclasses

import pytest

from mnemod import (
    Block,
    Client,
    Code,
    DType,
    Group,
    GroupKind,
    InvalidArgumentError,
    Layout,
    MnemoError,
    NotFoundError,
    Part,
    Space,
)
from mnemod._contract import METHODS, pb
from mnemod.blocks import Digest
from tests.integration.python.blocks_test import model_space

BAD_KEYS = [b"", b"x" * 65]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_out_of_range_is_named_by_its_index(handle, key):
    keys = [b"good", key]
    for call in (
        lambda: handle.get(keys),
        lambda: handle.match(keys),
        lambda: handle.touch(keys),
        lambda: handle.pin(keys),
        lambda: handle.unpin(keys),
        lambda: handle.delete(keys),
        lambda: handle.describe(keys),
    ):
        with pytest.raises(InvalidArgumentError, match=r"(?s)keys.*1.*64"):
            call()
    with pytest.raises(InvalidArgumentError, match=r"key.*64"):
        handle.explain(key)


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_bad_key_in_a_put_stores_nothing_of_it(handle, key):
    try:
        results = handle.put([Block(b"good", b"x"), Block(key, b"y")])
    except InvalidArgumentError as error:
        assert "64" in error.message
    else:
        assert results[1].error.code is Code.INVALID_ARGUMENT and "64" in str(results[1].error)
    assert b"" not in [info.key for info in handle.list()]


def refused(handle, block):
    """The error of a put of one part, whether the call's or the part's."""
    try:
        (result,) = handle.put([block])
    except MnemoError as error:
        return error
    assert not result.ok
    return result.error


def test_a_part_that_contradicts_its_space_is_refused(client, name):
    handle = client.open_space(model_space(name))
    size = handle.info.part_bytes[0]
    for block, word in (
        (Block(b"k", bytes(size + 1)), "size"),
        (Block(b"k", bytes(size - 1)), "size"),
        (Block(b"k", b""), "size"),
        (Block(b"k", bytes(size), Part(3)), "group"),
        (Block(b"k", bytes(size), Part(0, 1)), "tp_rank"),
        (Block(b"k", bytes(size), Part(0, 0, 1)), "pp_rank"),
        (Block(b"k", bytes(size), parent=b"p" * 65), "parent"),
    ):
        error = refused(handle, block)
        assert error.code is Code.INVALID_ARGUMENT and word in error.message, (word, error)
    assert list(handle.list()) == []


def test_bytes_that_differ_from_their_digest_are_not_stored(handle):
    error = refused(handle, Block(b"k", b"payload", digest=Digest(1, 2)))
    assert error.code is Code.DATA_LOSS
    assert handle.get([b"k"])[0].missing


def raw_put(daemon, messages):
    """A Put stream as no client of ours would send it."""
    import grpc

    with grpc.insecure_channel(daemon.ready["grpc"]) as channel:
        method = METHODS["BlockService.Put"]
        call = channel.stream_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )(iter(messages), timeout=30)
        results = {}
        try:
            for response in call:
                if response.HasField("result"):
                    results[response.result.index] = response.result
        except grpc.RpcError as error:
            return error.code().name, error.details(), results
        return "OK", "", results


def start_of(handle, *sizes):
    start = pb.PutStart(space=pb.SpaceRef(id=handle.info.id))
    for index, size in enumerate(sizes):
        start.parts.append(pb.PartOffer(key=b"k%d" % index, size=size))
    return pb.PutRequest(start=start)


def data(index, offset, payload):
    return pb.PutRequest(data=pb.PutData(index=index, offset=offset, data=payload))


def test_a_stream_that_ends_early_leaves_whole_parts_only(daemon, handle):
    messages = [start_of(handle, 100, 200), data(0, 0, bytes(100)), data(1, 0, bytes(150))]
    raw_put(daemon, messages)
    first, second = handle.get([b"k0", b"k1"])
    assert first.ok and second.missing
    # The key is free for the next writer at once.
    assert handle.put([Block(b"k1", bytes(200))])[0].ok


@pytest.mark.parametrize(
    "messages",
    [
        [data(0, 0, b"first")],
        [],
        ["start", "start"],
        ["start", data(0, 5, b"gap")],
        ["start", data(9, 0, b"index")],
        ["start", data(0, 0, bytes(101))],
        ["start", data(0, 0, b"")],
        ["start", data(0, 0, bytes(60)), data(0, 0, bytes(40))],
        [pb.PutRequest()],
    ],
)
def test_a_stream_that_lies_is_refused(daemon, handle, messages):
    sent = [start_of(handle, 100) if message == "start" else message for message in messages]
    code, details, results = raw_put(daemon, sent)
    failed = [result.error for result in results.values() if result.HasField("error")]
    assert code == "INVALID_ARGUMENT" or failed, (code, details)
    assert details or failed
    assert handle.get([b"k0"])[0].missing


@pytest.mark.parametrize(
    "change, word",
    [
        ({"name": ""}, "name"),
        ({"name": "n" * 129}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"tokens_per_block": 0}, "tokens_per_block"),
        ({"tokens_per_block": 65_536}, "tokens_per_block"),
        ({"groups": ()}, "groups"),
        ({"time_to_live": 400_000_000}, "time_to_live"),
    ],
)
def test_a_space_out_of_range_is_refused(client, name, change, word):
    with pytest.raises(InvalidArgumentError, match=word):
        client.open_space(dataclasses.replace(model_space(name), **change))


@pytest.mark.parametrize(
    "group, word",
    [
        (Group("g", GroupKind.FULL, 0, 1, 8, 8, DType.F16), "layers"),
        (Group("g", GroupKind.FULL, 1, 0, 8, 8, DType.F16), "kv_heads"),
        (Group("g", GroupKind.FULL, 1, 1, 0, 8, DType.F16), "k_dimension"),
        (Group("g", GroupKind.FULL, 1, 1, 8, 8), "dtype"),
        (Group("", GroupKind.FULL, 1, 1, 8, 8, DType.F16), "name"),
        (Group("g", GroupKind.WINDOW, 1, 1, 8, 8, DType.F16), "window_tokens"),
        (Group("g", GroupKind.FULL, 1, 1, 8, 8, DType.F16, window_tokens=9), "window_tokens"),
        (Group("g", GroupKind.LATENT, 1, 1, 8, 8, DType.F16), "v_dimension"),
        (Group("g", GroupKind.STATE, 1), "fixed_bytes"),
        (Group("g", GroupKind.FULL, 2, 3, 8, 8, DType.F16, tensor_parallel_size=2), "kv_heads"),
        (Group("g", GroupKind.FULL, 2, 2, 8, 8, DType.F16, pipeline_layers=(1, 2)), "pipeline"),
    ],
)
def test_a_group_out_of_range_is_refused(client, name, group, word):
    space = dataclasses.replace(model_space(name), groups=(group,))
    with pytest.raises(InvalidArgumentError, match=word):
        client.open_space(space)


def test_reads_out_of_range_are_refused(client, name):
    handle = client.open_space(model_space(name, Layout.TOKEN_MAJOR))
    handle.put([Block(b"k", bytes(handle.info.part_bytes[0]))])
    handle.put([Block(b"k", bytes(2000), Part(2))])
    with pytest.raises(InvalidArgumentError, match="group"):
        handle.get([b"k"], parts=[(7, 0, 0)])
    with pytest.raises(InvalidArgumentError, match="lease"):
        handle.match([b"k"], lease=61)
    with pytest.raises(InvalidArgumentError, match="salt"):
        handle.with_salt(bytes(129)).match([b"k"])

    def code_of(parts, layers):
        try:
            return handle.get([b"k"], parts=parts, layers=layers)[0].error.code
        except MnemoError as error:
            return error.code

    assert code_of([Part(0)], (0, 1)) is Code.FAILED_PRECONDITION
    assert code_of([Part(2)], (0, 1)) is Code.FAILED_PRECONDITION
    assert code_of([Part(1)], (5, 1)) is Code.INVALID_ARGUMENT


def test_what_is_not_there_is_not_found(daemon, handle):
    with pytest.raises(NotFoundError):
        handle.renew(12345, 1)
    with Client(daemon.ready["grpc"]) as client:
        with pytest.raises(NotFoundError):
            client.get_space("never opened")
        with pytest.raises(NotFoundError):
            client.open_space(Space.opaque("never opened", tokens_per_block=1), must_exist=True)
        with pytest.raises(NotFoundError):
            client.update_space("never opened", durability=1)


