"""Calls of both clients that share a stream with one that is stuck, given up or still opening."""

import asyncio
import gc
import socket
import struct
import threading
import weakref
from types import SimpleNamespace

import pytest

from fake_lane import FakeLane
from lanes import LONG, SHORT
from mnemod import CancelledError, DeadlineExceededError, Plane, UnavailableError
from mnemod import _aio_fast_lane, _fast_lane, _stream
from mnemod._aio_fast_lane import AsyncFastLane
from mnemod._buffers import Sink, Source
from mnemod._busy_wait import BusyWait
from mnemod._fast_lane import FastLane
from mnemod._lane import LaneRequest, LaneState
from mnemod._payload import Receiving, Sending
from mnemod._socket import Way
from mnemod._stream import Scope, Type

FOUND = struct.pack("<I", 1)
FILLING = 1 << 40  # the id of frames that only take room


def touch(*_):
    return LaneRequest(Type.TOUCH, lambda _: _stream.touch(Scope(1), [b"k"]))


def get(target):
    receiving = Receiving([Sink(target)], False)
    body = _stream.get(Scope(1), [b"k"], [], [])
    return LaneRequest(Type.GET, lambda _: body, payload=receiving)


def put(size):
    body = _stream.put(Scope(1), [], [])
    return LaneRequest(Type.PUT, lambda _: body, payload=Sending([Source(bytes(size))]))


def credit(request, size):
    body = struct.pack("<QII", size, 1, 0)
    return _stream.frame(Type.CREDIT + 128, request.id, body)


def run_async(serve, work, plane=Plane.BULK):
    """Runs `work(lane)` over a stream to `serve`; the lane is closed by it or here."""

    async def run(path):
        async def open_(plane, timeout):
            return Way(path, b"")

        lane = AsyncFastLane(LaneState(plane), open_)
        try:
            await work(lane)
        finally:
            lane.close()

    with FakeLane(serve) as server:
        asyncio.run(run(server.path))
        return server.opened


async def until(event):
    while not event.is_set():
        await asyncio.sleep(0)


# Who waits while another opens the stream


@pytest.mark.parametrize("plane", (Plane.AUTO, Plane.BULK))
def test_who_can_go_another_way_does_not_wait_until_the_stream_is_open(plane):
    opening, go_on = threading.Event(), threading.Event()

    def open_(plane, timeout):
        opening.set()
        go_on.wait(LONG)
        raise UnavailableError("nobody is there")

    def run():
        try:
            lane.carry(touch, LONG)
        except UnavailableError:
            pass  # which it is told where it must take this plane

    lane = FastLane(LaneState(plane), open_)
    first = threading.Thread(target=run)
    first.start()
    try:
        assert opening.wait(LONG)
        if plane is Plane.AUTO:
            assert lane.carry(touch, SHORT) is None
        else:
            with pytest.raises(DeadlineExceededError):
                lane.carry(touch, SHORT)
    finally:
        go_on.set()
        first.join()
        lane.close()


@pytest.mark.parametrize("plane", (Plane.AUTO, Plane.BULK))
def test_a_task_that_can_go_another_way_does_not_wait_until_the_stream_is_open(plane):
    async def run():
        opening, go_on = asyncio.Event(), asyncio.Event()

        async def open_(plane, timeout):
            opening.set()
            await go_on.wait()
            raise UnavailableError("nobody is there")

        lane = AsyncFastLane(LaneState(plane), open_)
        first = asyncio.ensure_future(lane.carry(touch, LONG))
        await opening.wait()
        second = asyncio.wait_for(lane.carry(touch, SHORT), LONG)
        if plane is Plane.AUTO:
            assert await second is None
        else:
            with pytest.raises(DeadlineExceededError):
                await second
        go_on.set()
        await asyncio.wait((first,))
        assert (first.exception() is None) == (plane is Plane.AUTO)

    asyncio.run(run())


def test_a_task_that_is_cancelled_while_it_opens_the_stream_says_nothing_of_the_plane():
    def serve(connection):
        connection.welcome()
        connection.answer(connection.receive(), FOUND)
        connection.receive()

    async def run(path):
        opening = asyncio.Event()

        async def open_(plane, timeout):
            if not opening.is_set():
                opening.set()
                await asyncio.Event().wait()
            return Way(path, b"")

        lane = AsyncFastLane(LaneState(Plane.BULK), open_)
        task = asyncio.ensure_future(lane.carry(touch, LONG))
        await opening.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await lane.carry(touch, LONG) == b"\x00" + FOUND
        lane.close()

    with FakeLane(serve) as server:
        asyncio.run(run(server.path))


def closes(ended):
    """Serves one call of which the client knows nothing, and tells of the end of the stream."""

    def serve(connection):
        try:
            connection.welcome()
            while True:
                connection.answer(connection.receive(), FOUND)
        finally:
            ended.set()

    return serve


def test_a_client_that_is_closed_while_it_opens_a_stream_leaves_none():
    ended = threading.Event()

    def open_(plane, timeout):
        closing = threading.Thread(target=lane.close)
        closing.start()
        closing.join()
        return Way(server.path, b"")

    with FakeLane(closes(ended)) as server:
        lane = FastLane(LaneState(Plane.BULK), open_)
        with pytest.raises(CancelledError):
            lane.carry(touch, LONG)
        assert ended.wait(LONG)


def test_an_asyncio_client_that_is_closed_while_it_opens_a_stream_leaves_none():
    ended = threading.Event()

    async def run(path):
        async def open_(plane, timeout):
            lane.close()
            return Way(path, b"")

        lane = AsyncFastLane(LaneState(Plane.BULK), open_)
        with pytest.raises(CancelledError):
            await lane.carry(touch, LONG)
        assert ended.wait(LONG)

    with FakeLane(closes(ended)) as server:
        asyncio.run(run(server.path))


# Who waits for room in the socket


def stuck(size, half, go_on, seen):
    """Takes a PUT, but reads none of its payload before `go_on`; answers what follows."""

    def serve(connection):
        connection.welcome()
        request = connection.receive()
        connection.send(credit(request, size))
        connection.socket.recv(1, socket.MSG_PEEK)
        half.set()
        go_on.wait(LONG)
        left = size
        while left:
            frame = connection.receive()
            seen.append(frame.type)
            left -= len(frame.body) - 12
        connection.answer(request, b"stored")
        while True:
            frame = connection.receive()
            seen.append(frame.type)
            connection.answer(frame, FOUND)

    return serve


def test_who_has_no_turn_to_send_in_time_leaves_the_stream_whole(lanes):
    size = 4 << 20  # a frame of it is more than a socket takes
    half, go_on, seen = threading.Event(), threading.Event(), []
    lane, server = lanes.serve(stuck(size, half, go_on, seen), Plane.BULK)
    answers = []
    first = threading.Thread(
        target=lambda: answers.append(lane.carry(lambda *_: put(size), 10 * LONG))
    )
    first.start()
    try:
        assert half.wait(LONG)
        with pytest.raises(DeadlineExceededError):
            lane.carry(touch, SHORT)
    finally:
        go_on.set()
        first.join()
    assert answers == [b"\x00stored"]
    assert lane.carry(touch, LONG) == b"\x00" + FOUND
    assert server.opened == 1 and set(seen[:-1]) == {Type.DATA} and seen[-1] == Type.TOUCH


@pytest.fixture
def sockets(monkeypatch):
    """The sockets of streams that were opened."""
    made = []
    connect, connect_async = _fast_lane.connect, _aio_fast_lane._connect

    def keep(*arguments):
        made.append(connect(*arguments))
        return made[-1]

    async def keep_async(*arguments):
        made.append(await connect_async(*arguments))
        return made[-1]

    monkeypatch.setattr(_fast_lane, "connect", keep)
    monkeypatch.setattr(_aio_fast_lane, "_connect", keep_async)
    return made


def fill(connected):
    """Takes all the room there is, with whole frames."""
    frame = memoryview(_stream.frame(Type.CANCEL, FILLING, b""))
    while connected.send([frame]):
        pass


def full(go_on, seen):
    """Answers calls; between the first and the second it reads nothing before `go_on`."""

    def serve(connection):
        connection.welcome()
        connection.answer(connection.receive(), FOUND)
        go_on.wait(LONG)
        while True:
            frame = connection.receive()
            if frame.id != FILLING:
                seen.append(frame.type)
                connection.answer(frame, FOUND)

    return serve


def test_a_frame_of_which_nothing_left_in_time_leaves_the_stream_whole(lanes, sockets):
    go_on, seen = threading.Event(), []
    lane, server = lanes.serve(full(go_on, seen), Plane.BULK)
    lane.carry(touch, LONG)
    fill(sockets[0])
    try:
        with pytest.raises(DeadlineExceededError):
            lane.carry(lambda *_: get(bytearray(5)), SHORT)
    finally:
        go_on.set()
    assert lane.carry(touch, LONG) == b"\x00" + FOUND
    assert server.opened == 1 and seen == [Type.TOUCH]


class Target(bytearray):
    """Memory of a caller that can be seen to go."""


def test_a_task_that_is_cancelled_before_its_request_left_leaves_nothing_behind(sockets):
    go_on, seen = threading.Event(), []

    async def work(lane):
        await lane.carry(touch, LONG)
        fill(sockets[0])
        target = Target(5)
        gone = weakref.ref(target)
        request = get(target)
        task = asyncio.ensure_future(lane.carry(lambda *_: request, LONG))
        for _ in range(10):  # until it waits for room
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
        del task, request, target
        gc.collect()
        left = gone() is not None
        go_on.set()
        assert not left
        assert await lane.carry(touch, LONG) == b"\x00" + FOUND

    assert run_async(full(go_on, seen), work) == 1
    assert seen == [Type.TOUCH]


def test_a_task_that_waits_for_room_is_told_that_the_stream_has_ended():
    half, go_on = threading.Event(), threading.Event()

    async def work(lane):
        task = asyncio.ensure_future(lane.carry(lambda *_: put(4 << 20), 10 * LONG))
        await until(half)
        for _ in range(10):  # until it waits for room
            await asyncio.sleep(0)
        lane.close()
        try:
            with pytest.raises(CancelledError):
                await asyncio.wait_for(task, LONG)
        finally:
            go_on.set()

    run_async(stuck(4 << 20, half, go_on, []), work)


# Who was cancelled


@pytest.mark.parametrize("answered", (True, False), ids=("answered", "the stream ends"))
def test_a_cancelled_request_counts_until_it_was_answered(answered):
    asked, early = threading.Event(), []

    def serve(connection):
        connection.welcome(requests=1)
        if server_opened():
            return
        request = connection.receive()
        asked.set()
        assert connection.receive().type == Type.CANCEL
        # Only a client that sends too much is seen within a time.
        connection.socket.settimeout(0.2)
        try:
            early.append(connection.receive())
        except socket.timeout:
            pass
        connection.socket.settimeout(None)
        if answered:
            connection.answer(request, b"cancelled", code=1)
            connection.answer(connection.receive(), FOUND)
            connection.receive()

    def server_opened():
        return asked.is_set()

    async def work(lane):
        task = asyncio.ensure_future(lane.carry(touch, LONG))
        await until(asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        following = asyncio.wait_for(lane.carry(touch, 10 * LONG), LONG)
        if answered:
            assert await following == b"\x00" + FOUND
        else:
            with pytest.raises(UnavailableError):
                await following

    run_async(serve, work)
    assert early == []


def test_who_reads_for_all_ends_with_its_own_time():
    stream = object.__new__(_fast_lane._Stream)
    stream._socket = SimpleNamespace(recv_into=len)
    stream._pending = SimpleNamespace(
        room=lambda: memoryview(bytearray(100)),
        in_payload=True,
        receiving=True,
        filled=lambda count: False,
    )
    assert stream._take(SimpleNamespace(left=lambda: 1.0))
    assert not stream._take(SimpleNamespace(left=lambda: 0.0))


class Reading:
    """A stream whose socket gives what a test says, and whose sleeps are counted."""

    def __init__(self, *comes, woken=True):
        self.sleeps = 0
        self._woken = woken
        came = iter(comes)
        self.stream = stream = object.__new__(_fast_lane._Stream)
        stream._socket = SimpleNamespace(recv_into=lambda _: next(came))
        stream._pending = SimpleNamespace(room=lambda: None)
        stream._wait_busily = BusyWait(lambda: 0.0, lambda: None, cores=2)
        stream._ready = self._sleep

    def _sleep(self, *_):
        self.sleeps += 1
        return self._woken

    def bytes(self):
        return self.stream._await_bytes(SimpleNamespace(left=lambda: 1.0))


def test_who_waited_for_long_enough_sleeps_and_then_takes_what_came():
    reading = Reading(None, 7)
    assert (reading.bytes(), reading.sleeps) == (7, 1)


def test_behind_a_short_wait_it_looks_again_instead():
    reading = Reading(None, 7, None, None, None, 8)
    assert (reading.bytes(), reading.sleeps) == (7, 1)
    assert (reading.bytes(), reading.sleeps) == (8, 1)


def test_a_sleep_in_which_nothing_came_was_no_short_wait():
    reading = Reading(None, None, None, 7, woken=False)
    assert (reading.bytes(), reading.sleeps) == (None, 1)
    assert (reading.bytes(), reading.sleeps) == (7, 2)


def test_what_is_here_already_is_taken_at_once():
    reading = Reading(0)
    assert (reading.bytes(), reading.sleeps) == (0, 0)
