"""A fake server and clients of it, for every test here."""

import pytest
import pytest_asyncio

from fake_server import FakeServer
from lanes import LONG, AsyncLane, BlockingLane, Lanes
from mnemod import AsyncClient, Client, Space, _aio_fast_lane, _fast_lane

OPAQUE = Space.opaque("opaque", tokens_per_block=16)


@pytest.fixture
def server():
    with FakeServer() as fake:
        yield fake


@pytest.fixture
def client(server):
    with Client(server.target, deadline=60.0) as made:
        yield made


@pytest.fixture
def handle(client):
    return client.open_space(OPAQUE)


@pytest_asyncio.fixture
async def async_client(server):
    async with AsyncClient(server.target, deadline=60.0) as made:
        yield made


@pytest_asyncio.fixture
async def async_handle(async_client):
    return await async_client.open_space(OPAQUE)


@pytest.fixture(params=(BlockingLane, AsyncLane), ids=("blocking", "asyncio"))
def lanes(request, monkeypatch):
    monkeypatch.setattr(_fast_lane, "CANCEL_GRACE", LONG)
    monkeypatch.setattr(_aio_fast_lane, "CANCEL_GRACE", LONG)
    made = Lanes(request.param)
    yield made
    made.close()
