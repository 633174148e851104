"""The real daemon and one client of it."""

import itertools

import pytest

from mnemod import Client
from tests.integration.operate.daemon import Daemon

_NUMBERS = itertools.count()
# Tests wait for their answers; engines themselves use tens of milliseconds.
DEADLINE_MS = 60_000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with Daemon(tmp_path_factory.mktemp("mnemo")) as started:
        yield started


@pytest.fixture
def client(daemon):
    with Client(daemon.ready["grpc"], deadline=60.0) as made:
        yield made


@pytest.fixture
def name():
    return f"engine-{next(_NUMBERS)}"
