"""The asyncio client against the real daemon, over both transports."""

import asyncio
import os

import pytest

from mnemod import AsyncClient, AsyncFailOpen, Block, EventKind, Space
from tests.integration.python.conftest import target_of

MIB = 1 << 20


@pytest.mark.parametrize("transport", ["tcp", "unix"])
async def test_calls_run_at_once(daemon, name, transport):
    async with AsyncClient(target_of(daemon, transport), deadline=60) as client:
        space = await client.open_space(Space.opaque(name, tokens_per_block=16))
        payloads = {b"k%d" % i: os.urandom(i * 300_000 + 1) for i in range(8)}
        results = await asyncio.gather(*(space.put([Block(k, v)]) for k, v in payloads.items()))
        assert all(result[0].ok for result in results)
        reads = await asyncio.gather(*(space.get([key]) for key in payloads))
        assert [read[0].data for read in reads] == list(payloads.values())
        assert (await space.match(list(payloads), lease=5)).blocks == 8
        assert (await space.prefetch([*payloads, b"none"])).in_ram == 8
        assert {info.key async for info in space.list(page_size=3)} == set(payloads)
        assert (await AsyncFailOpen(space, deadline_ms=20_000).get([b"none"]))[0].missing


async def test_a_watch_sees_what_others_do(daemon, name):
    async with AsyncClient(daemon.ready["grpc"], deadline=60) as client:
        space = await client.open_space(Space.opaque(name, tokens_per_block=16))
        async with space.watch(deadline=60) as watch:
            assert (await watch.__anext__()).kind is EventKind.SNAPSHOT_END
            await space.put([Block(b"k", b"x")])
            event = await watch.__anext__()
            assert (event.kind, event.key) == (EventKind.STORED, b"k")


async def test_a_cancelled_put_leaves_nothing_behind(daemon, name):
    async with AsyncClient(daemon.ready["grpc"], deadline=60) as client:
        space = await client.open_space(Space.opaque(name, tokens_per_block=16))
        put = asyncio.ensure_future(space.put([Block(b"k", bytes(40 * MIB))]))
        await asyncio.sleep(0)
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        assert (await space.get([b"k"]))[0].missing
        (result,) = await space.put([Block(b"k", b"other")])
        # The cancelled stream may still hold the key for a moment.
        assert result.ok or result.error is not None
