"""Deadlines, retries and what comes of calls that break off."""

import time

import grpc
import pytest

from resetting_server import ResettingServer

from mnemod import (
    AsyncClient,
    Block,
    Client,
    Code,
    DataLossError,
    DeadlineExceededError,
    InvalidArgumentError,
    MnemoError,
    RetryPolicy,
    Space,
    UnavailableError,
)
from mnemod._contract import pb
from mnemod._meter import FetchMeter
from mnemod._retry import Retrier, RetryBudget
from mnemod._sessions import DONE, WAIT, GetSession, PutSession
from mnemod._buffers import Source
from mnemod.errors import make_error
from mnemod.spaces import SpaceInfo

UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "shed", ())


def unavailable(retry_after=None):
    return UnavailableError("shed", retry_after=retry_after)


def test_backoff_grows_with_jitter_up_to_its_bound():
    policy = RetryPolicy(initial_backoff=0.1, multiplier=2, max_backoff=0.5)
    assert [policy.backoff(n, 1.0) for n in (1, 2, 3, 4)] == [0.1, 0.2, 0.4, 0.5]
    assert policy.backoff(2, 0.0) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="attempts"):
        RetryPolicy(attempts=0)


def test_only_what_is_idempotent_and_unavailable_is_retried_in_time():
    retrier = Retrier(RetryPolicy(attempts=3), RetryBudget(1000), lambda: 1.0)
    assert retrier.delay(unavailable(), 1, True, 10) == pytest.approx(0.1)
    assert retrier.delay(unavailable(), 3, True, 10) is None
    assert retrier.delay(unavailable(), 1, False, 10) is None
    assert retrier.delay(unavailable(), 1, True, 0.01) is None
    for code in Code:
        if code is not Code.UNAVAILABLE:
            assert retrier.delay(make_error(code, ""), 1, True, 10) is None


def test_the_server_s_pushback_rules():
    retrier = Retrier(RetryPolicy(), RetryBudget(1000), lambda: 1.0)
    assert retrier.delay(unavailable(3.5), 1, True, 10) == 3.5
    assert retrier.delay(unavailable(0.0), 1, True, 10) == 0
    assert retrier.delay(unavailable(-1.0), 1, True, 10) is None
    assert retrier.delay(unavailable(11), 1, True, 10) is None


def test_a_drained_budget_stops_retries_until_calls_succeed():
    budget = RetryBudget(capacity=10, ratio=0.5)
    assert [budget.failure() for _ in range(6)] == [True] * 4 + [False] * 2
    for _ in range(4):
        budget.success()
    assert not budget.failure()
    for _ in range(100):
        budget.success()
    assert budget.failure()


def test_a_call_is_retried_as_the_trailer_says(server, client):
    server.faults["AdminService.ListLevels"].put(
        (grpc.StatusCode.UNAVAILABLE, "shed", (("grpc-retry-pushback-ms", "120"),))
    )
    start = time.monotonic()
    assert client.levels()
    assert time.monotonic() - start >= 0.12
    assert server.calls["AdminService.ListLevels"] == 2


def test_a_call_that_the_server_does_not_want_again_is_not_retried(server, client):
    server.faults["AdminService.ListLevels"].put(
        (grpc.StatusCode.UNAVAILABLE, "draining", (("grpc-retry-pushback-ms", "-1"),))
    )
    with pytest.raises(UnavailableError, match="draining") as caught:
        client.levels()
    assert caught.value.retry_after < 0
    assert server.calls["AdminService.ListLevels"] == 1


def test_attempts_are_bounded_and_an_offer_is_tried_once(server):
    with Client(server.target, retry=RetryPolicy(attempts=4, initial_backoff=0.01)) as client:
        handle = client.open_space(SPACE)
        bounded_attempts(server, handle)


def bounded_attempts(server, handle):
    for _ in range(9):
        server.faults["BlockService.Match"].put(UNAVAILABLE)
        server.faults["BlockService.Offer"].put(UNAVAILABLE)
    with pytest.raises(UnavailableError):
        handle.match([b"k"])
    assert server.calls["BlockService.Match"] == 4
    with pytest.raises(UnavailableError):
        handle.offer([Block(b"k", b"x")])
    assert server.calls["BlockService.Offer"] == 1
    with pytest.raises(UnavailableError):
        handle.without_retries().match([b"k"])
    assert server.calls["BlockService.Match"] == 5


def test_put_and_get_are_retried_whole(server, handle):
    server.faults["BlockService.Put"].put(UNAVAILABLE)
    server.faults["BlockService.Get"].put(UNAVAILABLE)
    assert handle.put([Block(b"k", bytes(3 << 20))])[0].ok
    assert handle.get([b"k"])[0].ok
    assert server.calls["BlockService.Put"] == server.calls["BlockService.Get"] == 2


def test_errors_keep_the_server_s_words(server, handle):
    server.faults["BlockService.Put"].put((grpc.StatusCode.INVALID_ARGUMENT, "size: 1 to 9", ()))
    with pytest.raises(InvalidArgumentError, match="size: 1 to 9") as caught:
        handle.put([Block(b"k", b"x")])
    assert caught.value.code is Code.INVALID_ARGUMENT and caught.value.message == "size: 1 to 9"
    assert isinstance(make_error(77, "odd"), MnemoError)


def test_nobody_there_fails_within_the_deadline():
    start = time.monotonic()
    with Client("127.0.0.1:1", deadline=0.5) as client, pytest.raises(
        (UnavailableError, DeadlineExceededError)
    ):
        client.node_status()
    assert time.monotonic() - start < 5


ENHANCE_YOUR_CALM = 11


def test_a_server_without_memory_for_the_connection_sheds():
    policy = RetryPolicy(attempts=3, initial_backoff=0.01)
    with ResettingServer(ENHANCE_YOUR_CALM) as peer:
        with Client(peer.target, retry=policy) as client, pytest.raises(UnavailableError):
            client.levels()
        assert peer.calls >= 3  # gRPC itself may send a call twice


@pytest.mark.asyncio
async def test_a_server_without_memory_for_the_connection_sheds_aio():
    policy = RetryPolicy(attempts=3, initial_backoff=0.01)
    with ResettingServer(ENHANCE_YOUR_CALM) as peer:
        async with AsyncClient(peer.target, retry=policy) as client:
            with pytest.raises(UnavailableError):
                await client.levels()
        assert peer.calls >= 3  # gRPC itself may send a call twice


SPACE = Space.opaque("s", tokens_per_block=1)
INFO = SpaceInfo(1, SPACE, 0, (0,))


def put_session(*sizes):
    blocks = [Block(bytes([i]), bytes(size)) for i, size in enumerate(sizes)]
    return PutSession(pb.PutStart(reservation=9), blocks, [Source(b.data) for b in blocks])


def drain(session):
    messages = []
    while True:
        message = session.next_message()
        if message is WAIT or message is DONE:
            return messages, message
        messages.append(pb.PutRequest.FromString(message))


def test_a_put_that_broke_off_goes_on_with_what_had_not_ended():
    session = put_session(10, 20, 30)
    messages, _ = drain(session)
    assert [len(m.data.data) for m in messages[1:]] == [10, 20, 30]
    session.on_response(pb.PutResponse(result=pb.PutResult(index=1, outcome=1)))
    assert session.retry()
    messages, end = drain(session)
    assert end is DONE
    assert [offer.key for offer in messages[0].start.parts] == [b"\0", b"\2"]
    assert messages[0].start.reservation == 0
    assert [(m.data.index, len(m.data.data)) for m in messages[1:]] == [(0, 10), (1, 30)]
    # Indexes are those of the second try.
    session.on_response(pb.PutResponse(result=pb.PutResult(index=1, outcome=1)))
    results = session.finish(unavailable())
    assert [result.ok for result in results] == [False, True, True]
    assert results[0].error.code is Code.UNAVAILABLE


def test_parts_that_a_grant_does_not_want_are_left_out():
    session = put_session(2 << 20, 3 << 20, 5)
    messages, end = drain(session)
    assert end is WAIT and [len(m.data.data) for m in messages[1:]] == [1 << 20]
    verdicts = [pb.OfferVerdict(verdict=v) for v in (2, 1, 1)]
    session.on_response(pb.PutResponse(grant=pb.PutGrant(verdicts=verdicts, bytes_granted=10 << 20)))
    messages, end = drain(session)
    assert end is DONE
    assert [(m.data.index, m.data.offset) for m in messages] == [
        (1, 0), (1, 1 << 20), (1, 2 << 20), (2, 0),
    ]  # fmt: skip


def test_a_server_that_breaks_the_contract_of_put_is_an_error():
    session = put_session(1)
    drain(session)
    with pytest.raises(MnemoError, match="result for part 7"):
        session.on_response(pb.PutResponse(result=pb.PutResult(index=7)))
    verdicts = [pb.OfferVerdict(verdict=1)] * 2
    with pytest.raises(MnemoError, match="one verdict"):
        session.on_response(pb.PutResponse(grant=pb.PutGrant(verdicts=verdicts)))
    with pytest.raises(UnavailableError):
        session.finish(unavailable())
    assert put_session(1).finish(None)[0].error.code is Code.INTERNAL


def get_session(keys=2, into=None, verify=False):
    names = [bytes([i]) for i in range(keys)]
    return GetSession(pb.GetRequest(), INFO, names, [(0, 0, 0)], into, verify, FetchMeter())


def header(index, size, following=None, **fields):
    following = size if following is None else following
    message = pb.GetHeader(index=index, size=size, bytes_following=following, **fields)
    return pb.GetResponse(header=message).SerializeToString()


def data(index, offset, payload):
    message = pb.GetData(index=index, offset=offset, data=payload)
    return pb.GetResponse(data=message).SerializeToString()


def failure(index, code):
    error = pb.ItemError(code=code, message="why")
    return pb.GetResponse(header=pb.GetHeader(index=index, error=error)).SerializeToString()


def test_a_get_that_broke_off_goes_on_with_what_had_not_come():
    session = get_session(3)
    for message in (header(0, 4), data(0, 0, b"done"), header(1, 4), data(1, 0, b"ha"), failure(2, 5)):
        session.on_message(message)
    assert session.retry()
    assert list(session.request().keys) == [b"\1"]
    for message in (header(0, 4), data(0, 0, b"ha"), data(0, 2, b"lf")):
        session.on_message(message)
    results = session.finish(None)
    assert [bytes(r.data) if r.ok else None for r in results] == [b"done", b"half", None]
    assert not get_session(0).retry()


def test_a_part_that_came_stays_whatever_a_later_try_says():
    """Keys are asked for again with all their parts."""
    session = GetSession(pb.GetRequest(), INFO, [b"k"], [(0, 0, 0), (0, 1, 0)], None, False, FetchMeter())
    for message in (header(0, 4), data(0, 0, b"done"), header(1, 4)):
        session.on_message(message)
    assert session.retry()
    for message in (failure(0, 5), header(1, 4), data(1, 0, b"more")):
        session.on_message(message)
    assert [bytes(result.data) for result in session.finish(None)] == [b"done", b"more"]


def test_a_part_is_withdrawn_by_a_second_header():
    session = get_session(2)
    for message in (header(0, 4), header(1, 2), data(0, 0, b"ab"), failure(0, 15), data(1, 0, b"xy")):
        session.on_message(message)
    session.on_message(data(0, 2, b"late"))
    first, second = session.finish(None)
    assert isinstance(first.error, DataLossError) and first.missing and first.data is None
    assert second.ok and second.data == b"xy"


def test_bytes_that_differ_from_their_digest_are_a_miss():
    session = get_session(1, verify=True)
    session.on_message(header(0, 3, digest=pb.Digest(high=1, low=2)))
    session.on_message(data(0, 0, b"abc"))
    (result,) = session.finish(None)
    assert result.missing and "digest" in str(result.error)


@pytest.mark.parametrize(
    "messages, words",
    [
        ([data(0, 0, b"x")], "before its header"),
        ([header(5, 1)], "not in the call"),
        ([header(0, 2), data(0, 1, b"xy")], "outside"),
        ([header(0, 2), data(0, 0, b"xyz")], "more than 2"),
        ([header(0, 2), header(0, 2)], "second header"),
        ([bytes([2 << 3 | 2, 2, 3 << 3 | 2, 9])], "answer of Get"),
    ],
)
def test_a_server_that_breaks_the_contract_of_get_is_an_error(messages, words):
    session = get_session(1)
    with pytest.raises(MnemoError, match=words):
        for message in messages:
            session.on_message(message)


def test_a_size_that_lies_costs_no_memory():
    session = get_session(2)
    session.on_message(header(0, 1 << 50))
    session.on_message(header(1, 5, following=6))
    for result in session.finish(None):
        assert "announced" in str(result.error)
