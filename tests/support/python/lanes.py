"""The streams of both clients, driven alike, to a server that does what a test says."""

import asyncio
import threading

from fake_lane import FakeLane
from mnemod import Plane
from mnemod._aio_fast_lane import AsyncFastLane
from mnemod._fast_lane import FastLane
from mnemod._lane import LaneState
from mnemod._socket import Way

LONG = 60.0  # reached by a failure only
SHORT = 0.05


class BlockingLane:
    """The lane of the blocking client."""

    def __init__(self, state, open_):
        self.state = state
        self._lane = FastLane(state, open_)
        self.carry = self._lane.carry
        self.close = self._lane.close


class AsyncLane:
    """The lane of the asyncio client, driven from any thread."""

    def __init__(self, state, open_):
        self.state = state
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

        async def open_async(plane, timeout):
            return open_(plane, timeout)

        async def make():
            return AsyncFastLane(state, open_async)

        self._lane = self._run(make())

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(LONG)

    def carry(self, make, timeout):
        return self._run(self._lane.carry(make, timeout))

    def close(self):
        async def close():
            self._lane.close()

        self._run(close())

    def stop(self):
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Lanes:
    """Makes lanes to a server, and closes what was made."""

    def __init__(self, kind):
        self._kind = kind
        self._made = []
        self.ways = 0

    def serve(self, serve, plane=Plane.FAST):
        server = FakeLane(serve)
        self._made.append(server)

        def open_(plane, timeout):
            self.ways += 1
            return Way(server.path, b"ticket")

        lane = self.lane(open_, plane)
        return lane, server

    def lane(self, open_, plane=Plane.FAST):
        lane = self._kind(LaneState(plane), open_)
        self._made.insert(0, lane)
        return lane

    def close(self):
        for made in self._made:
            getattr(made, "stop", made.close)()


def counts(fast=0, bulk=0, inline=0):
    return {Plane.FAST: fast, Plane.BULK: bulk, Plane.INLINE: inline}


def fill(pending, data):
    """Gives `pending` bytes as a socket does: as many as it has room for at once."""
    changed = []
    while data:
        room = pending.room()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        data = data[count:]
        changed += pending.filled(count)
    return changed
