"""The real daemon, one for each module, and clients over both transports."""

import itertools

import pytest

from mnemod import Client, Space
from tests.integration.operate.daemon import Daemon

_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with Daemon(tmp_path_factory.mktemp("mnemo")) as started:
        yield started


def target_of(daemon, transport):
    return daemon.ready["grpc"] if transport == "tcp" else f"unix:{daemon.ready['unix']}"


@pytest.fixture
def client(daemon):
    with Client(daemon.ready["grpc"], deadline=60.0) as made:
        yield made


@pytest.fixture(params=["tcp", "unix"])
def any_client(daemon, request):
    with Client(target_of(daemon, request.param), deadline=60.0) as made:
        yield made


@pytest.fixture
def name():
    """A name that no other test uses."""
    return f"space-{next(_NUMBERS)}"


@pytest.fixture
def handle(client, name):
    return client.open_space(Space.opaque(name, tokens_per_block=16))
