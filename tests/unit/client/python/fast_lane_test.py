"""The fast lane of both clients against a server that does what a test says."""

import asyncio
import mmap
import os
import socket
import struct
import threading

import pytest

from fake_lane import FakeLane
from lanes import LONG, SHORT, BlockingLane, Lanes, counts, fill
from mnemod import (
    CancelledError,
    Code,
    DeadlineExceededError,
    FailedPreconditionError,
    MnemoError,
    Plane,
    UnavailableError,
    alloc,
)
from mnemod import _aio_fast_lane, _fast_lane, _lane, _stream
from mnemod._aio_fast_lane import AsyncFastLane
from mnemod._lane import LaneRequest, LaneState
from mnemod._retry import TimeLimit
from mnemod._socket import Way
from mnemod._stream import Scope, Type

def touch(key=b"k"):
    return LaneRequest(Type.TOUCH, lambda _: _stream.touch(Scope(1), [key]))


def ask(lane, timeout=LONG, key=b"k"):
    """How many keys the server found."""
    return _stream.touched(lane.carry(lambda *_: touch(key), timeout)).found


def found(count):
    return struct.pack("<I", count)


def test_a_call_goes_over_one_stream_that_stays_open(lanes):
    hellos = []

    def serve(connection):
        hellos.append(connection.welcome().body)
        while True:
            request = connection.receive()
            assert request.type == Type.TOUCH and request.timeout_ms <= LONG * 1000
            connection.answer(request, found(7))

    lane, server = lanes.serve(serve)
    assert [ask(lane), ask(lane), ask(lane)] == [7, 7, 7]
    assert server.opened == lanes.ways == 1
    assert hellos == [_stream.hello(b"ticket", False, "mnemod-python")]
    assert lane.state.calls() == counts(fast=3, inline=0)


def test_answers_come_in_any_order_to_threads_that_share_a_stream(lanes):
    def serve(connection):
        connection.welcome()
        requests = [connection.receive() for _ in range(8)]
        for request in reversed(requests):
            connection.answer(request, found(request.body[-5]))

    lane, server = lanes.serve(serve)
    answers = {}

    def run(number):
        answers[number] = ask(lane, key=bytes([number]))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {i: i for i in range(8)}
    assert server.opened == 1


def test_an_error_of_the_server_is_the_calls_alone(lanes):
    def serve(connection):
        connection.welcome()
        connection.answer(connection.receive(), b"no such space", code=5)
        connection.answer(connection.receive(), found(1))

    lane, server = lanes.serve(serve)
    with pytest.raises(MnemoError, match="no such space") as raised:
        ask(lane)
    assert raised.value.code is Code.NOT_FOUND
    assert ask(lane) == 1 and server.opened == 1


def test_a_request_whose_time_is_over_is_cancelled_and_the_stream_goes_on(lanes):
    seen = []

    def serve(connection):
        connection.welcome()
        request = connection.receive()
        cancel = connection.receive()
        seen.append((cancel.type, cancel.id == request.id, request.timeout_ms))
        connection.answer(request, b"cancelled", code=1)
        connection.answer(connection.receive(), found(1))

    lane, server = lanes.serve(serve)
    with pytest.raises(DeadlineExceededError):
        ask(lane, SHORT)
    assert seen == [(Type.CANCEL, True, seen[0][2])] and seen[0][2] <= SHORT * 1000
    assert ask(lane) == 1 and server.opened == 1


def test_a_server_that_does_not_even_cancel_loses_the_stream(lanes, monkeypatch):
    monkeypatch.setattr(_fast_lane, "CANCEL_GRACE", SHORT)
    monkeypatch.setattr(_aio_fast_lane, "CANCEL_GRACE", SHORT)

    def serve(connection):
        connection.welcome()
        request = connection.receive()
        if server.opened > 1:
            connection.answer(request, found(1))
        while True:
            connection.receive()

    lane, server = lanes.serve(serve)
    with pytest.raises(DeadlineExceededError):
        ask(lane, SHORT)
    assert ask(lane) == 1 and server.opened == 2


def breaks(send):
    def serve(connection):
        connection.welcome()
        request = connection.receive()
        if send is not None:
            send(connection, request)
            while True:
                connection.receive()

    return serve


def damaged(connection, request):
    frame = bytearray(_stream.frame(Type.TOUCH + 128, request.id, b"\x00" + found(1)))
    frame[-1] ^= 1
    connection.send(bytes(frame))


BROKEN = {
    "it ends": None,
    "no frame": lambda connection, _: connection.send(b"HTTP/1.1 400 Bad Request" + bytes(40)),
    "a damaged body": damaged,
    "another id": lambda connection, request: connection.send(
        _stream.frame(Type.TOUCH + 128, request.id + 1, b"\x00" + found(1))
    ),
    "another type": lambda connection, request: connection.send(
        _stream.frame(Type.MATCH + 128, request.id, b"\x00" + found(1))
    ),
    "it closes": lambda connection, _: connection.send(
        _stream.frame(Type.CLOSE, 0, _stream.close(2, "the daemon stops"))
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_stream_is_unavailable_and_the_next_call_opens_another(lanes, how):
    lane, server = lanes.serve(breaks(BROKEN[how]))
    for opened in (1, 2):
        with pytest.raises(UnavailableError) as raised:
            ask(lane)
        assert server.opened == opened
    assert ("daemon stops" in str(raised.value)) == (how == "it closes")


def test_an_answer_that_says_nonsense_is_an_error_of_the_call(lanes):
    def serve(connection):
        connection.welcome()
        connection.answer(connection.receive(), b"")
        connection.answer(connection.receive(), found(1))

    lane, server = lanes.serve(serve)
    body = lane.carry(lambda *_: touch(), LONG)
    with pytest.raises(MnemoError, match="is cut") as raised:
        _lane.unary_answer("BlockService.Touch", body)
    assert raised.value.code is Code.INTERNAL
    assert ask(lane) == 1 and server.opened == 1


def nowhere(plane, timeout):
    return Way("/nowhere/at/all", b"")


def test_without_a_way_the_call_goes_by_grpc(lanes):
    memory = alloc(1)
    lane = lanes.lane(nowhere, Plane.AUTO)
    assert lane.carry(lambda *_: touch(), LONG) is None
    assert lane.state.calls() == counts(fast=0, inline=1)  # nothing is registered
    lane.state.memories.add(memory)
    assert lane.carry(lambda *_: touch(), LONG) is None
    assert lane.state.calls() == counts(fast=0, inline=2)


def test_a_lane_that_is_down_is_left_alone_for_a_while(lanes):
    tries = []

    def open_(plane, timeout):
        tries.append(timeout)
        raise UnavailableError("no streams here")

    lane = lanes.lane(open_)
    for _ in range(3):
        with pytest.raises(UnavailableError, match="no streams here"):
            ask(lane)
    assert len(tries) == 1


def test_who_is_told_to_use_the_lane_does_not_fall_back(lanes):
    lane = lanes.lane(nowhere)
    with pytest.raises(UnavailableError, match="the fast lane is down"):
        ask(lane)
    with pytest.raises(FailedPreconditionError, match="registered memory"):
        lane.carry(lambda *_: None, LONG)


def test_who_is_told_to_use_grpc_never_opens_a_stream(lanes):
    lane = lanes.lane(nowhere, Plane.INLINE)
    lane.state.memories.add(alloc(1))
    assert lane.carry(lambda *_: touch(), LONG) is None
    assert lane.state.calls() == counts(fast=0, inline=1)


def test_hello_that_is_refused_means_no_lane(lanes):
    def serve(connection):
        connection.answer(connection.receive(), b"nobody knows you", code=16)

    lane, _ = lanes.serve(serve)
    with pytest.raises(UnavailableError, match="nobody knows you"):
        ask(lane)


def with_memory(lane, *memories):
    for memory in memories:
        lane.state.memories.add(memory)

    def body(regions):
        return _stream.touch(Scope(1), [bytes([regions[memory]]) for memory in memories])

    return lambda *_: LaneRequest(Type.TOUCH, body, memories)


def test_memory_is_registered_once_and_its_descriptor_is_the_servers_too(lanes):
    def serve(connection):
        connection.welcome()
        request = connection.register(region=9)
        (descriptor,) = request.descriptors
        assert request.body == _stream.register(_stream.Kind.FILE, mmap.PAGESIZE)
        with mmap.mmap(descriptor, 0) as mapped:
            os.close(descriptor)
            for _ in range(2):
                request = connection.receive()
                assert request.body == _stream.touch(Scope(1), [b"\x09"])
                mapped[0] += 1
                connection.answer(request, found(1))

    lane, _ = lanes.serve(serve)
    memory = alloc(1)
    make = with_memory(lane, memory)
    assert _stream.touched(lane.carry(make, LONG)).found == 1
    assert _stream.touched(lane.carry(make, LONG)).found == 1
    assert memory.view[0] == 2


def test_memory_that_is_not_used_any_more_is_unregistered(lanes):
    seen = []

    def serve(connection):
        connection.welcome()
        os.close(connection.register(region=1).descriptors[0])
        connection.answer(connection.receive(), found(1))
        unregister = connection.receive()
        seen.append((unregister.type, unregister.body))
        connection.answer(unregister, b"")
        os.close(connection.register(region=2).descriptors[0])
        connection.answer(connection.receive(), found(2))

    lane, _ = lanes.serve(serve)
    first, second = alloc(1), alloc(1)
    lane.carry(with_memory(lane, first), LONG)
    lane.state.memories.remove(first)
    assert _stream.touched(lane.carry(with_memory(lane, second), LONG)).found == 2
    assert seen == [(Type.UNREGISTER, _stream.unregister(1))]


@pytest.mark.parametrize("how", ["removed", "closed"])
def test_it_is_unregistered_though_the_next_call_registers_nothing(lanes, how):
    def serve(connection):
        connection.welcome()
        for region in (1, 2):
            os.close(connection.register(region=region).descriptors[0])
        connection.answer(connection.receive(), found(2))
        unregister = connection.receive()
        assert (unregister.type, unregister.body) == (Type.UNREGISTER, _stream.unregister(1))
        connection.answer(unregister, b"")
        connection.answer(connection.receive(), found(1))

    lane, _ = lanes.serve(serve)
    first, second = alloc(1), alloc(1)
    both, one = with_memory(lane, first, second), with_memory(lane, second)
    lane.carry(both, LONG)
    if how == "removed":
        lane.state.memories.remove(first)
    else:
        first.close()
    assert _stream.touched(lane.carry(one, LONG)).found == 1


def test_memory_that_the_server_refuses_goes_by_grpc(lanes):
    def serve(connection):
        connection.welcome()
        while True:
            request = connection.receive()
            os.close(request.descriptors[0])
            connection.answer(request, b"the tenant has registered enough", code=8)

    lane, server = lanes.serve(serve, Plane.AUTO)
    make = with_memory(lane, alloc(1))
    assert lane.carry(make, LONG) is None
    assert lane.carry(make, LONG) is None
    # Once for each plane.
    assert server.opened == 2
    lane.state.plane = Plane.FAST
    with pytest.raises(UnavailableError, match="registered enough"):
        lane.carry(make, LONG)


def test_closing_ends_calls_that_wait(lanes):
    asked = threading.Event()

    def serve(connection):
        connection.welcome()
        connection.receive()
        asked.set()
        connection.receive()

    lane, _ = lanes.serve(serve)
    errors = []

    def run():
        try:
            ask(lane)
        except MnemoError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert asked.wait(LONG)
    lane.close()
    thread.join()
    assert [type(error) for error in errors] == [CancelledError]
    with pytest.raises(CancelledError):
        ask(lane)


def test_a_handler_of_a_signal_may_close_in_the_middle_of_a_call(monkeypatch):
    made = Lanes(BlockingLane)
    try:
        lane, _ = made.serve(lambda connection: connection.welcome())
        begin = _lane.Pending.begin
        closed = []

        def interrupted(pending, type_, *arguments):
            if type_ == Type.TOUCH:  # as a handler would, which runs in the thread of the call
                lane.close()
                closed.append(True)
            return begin(pending, type_, *arguments)

        monkeypatch.setattr(_lane.Pending, "begin", interrupted)
        ended = []

        def call():
            with pytest.raises(CancelledError):
                ask(lane)
            ended.append(True)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(LONG)
        assert closed and ended
    finally:
        monkeypatch.undo()
        made.close()


def test_no_more_requests_are_under_way_than_the_server_allows(lanes):
    third = []

    def serve(connection):
        connection.welcome(requests=2)
        pair = [connection.receive(), connection.receive()]
        # Only a client that sends too much is seen within a time.
        connection.socket.settimeout(0.2)
        try:
            third.append(connection.receive())
        except socket.timeout:
            pass
        connection.socket.settimeout(None)
        while True:
            for request in pair:
                connection.answer(request, found(1))
            pair = [connection.receive(), connection.receive()]

    lane, _ = lanes.serve(serve)
    threads = [threading.Thread(target=ask, args=(lane,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert third == []


def test_an_answer_that_nobody_waits_for_is_let_go():
    pending = _lane.Pending()
    body = _stream.touch(Scope(1), [b"k"])
    first, _ = pending.begin(Type.TOUCH, body, TimeLimit(LONG))
    second, _ = pending.begin(Type.TOUCH, body, TimeLimit(LONG))
    pending.forget(first)
    frames = [_stream.frame(Type.TOUCH + 128, each, b"\x00" + found(1)) for each in (first, second)]
    assert fill(pending, b"".join(frames)) == [second]
    assert pending.take(first) is None and pending.take(second) == b"\x00" + found(1)
    assert pending.take(second) is None and pending.error is None
    # It was answered; another answer is one to nothing.
    fill(pending, frames[0])
    assert "to nothing that was asked" in pending.error.message


def test_a_request_that_is_too_long_for_a_frame_goes_by_grpc(lanes):
    def serve(connection):
        connection.welcome()
        connection.receive()

    lane, _ = lanes.serve(serve)
    keys = [bytes(64)] * 200_000
    with pytest.raises(FailedPreconditionError, match="too long for a frame"):
        lane.carry(lambda *_: LaneRequest(Type.TOUCH, lambda _: _stream.touch(Scope(1), keys)), LONG)


def test_a_task_that_is_cancelled_leaves_the_stream_whole():
    seen = []

    def serve(connection):
        connection.welcome()
        request = connection.receive()
        seen.append(request.id)
        cancel = connection.receive()
        assert (cancel.type, cancel.id) == (Type.CANCEL, request.id)
        connection.answer(request, b"cancelled", code=1)
        connection.answer(connection.receive(), found(5))

    async def run(path):
        async def open_(plane, timeout):
            return Way(path, b"")

        lane = AsyncFastLane(LaneState(Plane.FAST), open_)
        task = asyncio.ensure_future(lane.carry(lambda *_: touch(), LONG))
        while not seen:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        answer = await lane.carry(lambda *_: touch(), LONG)
        lane.close()
        return _stream.touched(answer).found

    with FakeLane(serve) as server:
        assert asyncio.run(run(server.path)) == 5
        assert server.opened == 1
