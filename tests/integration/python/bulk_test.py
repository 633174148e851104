"""Streams of TCP against the real daemon, by both clients, and the choice of the way."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
import os
import random
import signal

import pytest

from mnemod import (
    AsyncClient,
    Block,
    Client,
    Code,
    DType,
    FailedPreconditionError,
    Fingerprint,
    Group,
    GroupKind,
    Layout,
    MnemoError,
    Plane,
    PutOutcome,
    Space,
    Tls,
    UnavailableError,
    alloc,
    chain,
)
from mnemod import _lane
from tests.integration.operate.daemon import Daemon
from tests.support.python.certificates import Authority

SIZES = (1, 4097, (3 << 20) + 5, 9 << 20)
LISTEN = ("--streams-listen", "127.0.0.1:0")


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """However busy the machine is, a stream is waited for."""
    monkeypatch.setattr(_lane, "OPEN_SECONDS", 60.0)


@pytest.fixture(scope="module")
def tcp(tmp_path_factory):
    with Daemon(tmp_path_factory.mktemp("mnemo"), *LISTEN) as started:
        yield started


class Blocking:
    """The blocking client."""

    def __init__(self, target, **options):
        self.client = Client(target, deadline=60.0, **options)

    def run(self, work):
        return work(self.client, lambda value: value)

    def close(self):
        self.client.close()


class Asynchronous:
    """The asyncio client, driven from a test that does not wait by itself."""

    def __init__(self, target, **options):
        self._loop = asyncio.new_event_loop()

        async def make():
            return AsyncClient(target, deadline=60.0, **options)

        self.client = self._loop.run_until_complete(make())

    def run(self, work):
        return work(self.client, self._loop.run_until_complete)

    def close(self):
        self._loop.run_until_complete(self.client.close())
        self._loop.close()


@pytest.fixture(params=(Blocking, Asynchronous), ids=("blocking", "asyncio"))
def kind(request):
    made = []

    def make(*arguments, **options):
        made.append(request.param(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def freeze(pid):
    """Stops every thread where it stands, and returns once none runs."""
    os.kill(pid, signal.SIGSTOP)
    for task in os.listdir(f"/proc/{pid}/task"):
        while state_of(pid, task) != "T":
            pass


def state_of(pid, task):
    """As the kernel says; "T": stopped, or gone."""
    try:
        with open(f"/proc/{pid}/task/{task}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "T"


def noise(size, seed=0):
    return random.Random(f"{size}/{seed}").randbytes(size)


def open_space(driver, name):
    return driver.run(
        lambda client, wait: wait(client.open_space(Space.opaque(name, tokens_per_block=16)))
    )


def test_payload_of_any_size_and_memory_travels(kind, tcp, name):
    driver = kind(tcp.ready["grpc"], plane=Plane.BULK)
    space = open_space(driver, name)

    def work(_, wait):
        for size in SIZES:
            key, payload = str(size).encode(), noise(size)
            pieces = [payload[: size // 3], payload[size // 3 :]]
            (stored,) = wait(space.put([Block(key, pieces)]))
            assert (stored.outcome, stored.plane) == (PutOutcome.STORED, Plane.BULK)
            target = [bytearray(size // 2 + 1), bytearray(size)]
            (got,) = wait(space.get([key], into=[target]))
            assert got.ok and got.plane is Plane.BULK and got.size == size
            assert b"".join(target)[:size] == payload
            assert got.digest == stored.digest
            (again,) = wait(space.put([Block(key, payload)]))
            assert again.outcome is PutOutcome.ALREADY_PRESENT
        small, missing = wait(
            space.get([str(SIZES[1]).encode(), b"none"], into=[bytearray(10), bytearray(10)])
        )
        assert small.error.code is Code.INVALID_ARGUMENT and missing.missing
        return True

    assert driver.run(work)


def test_layers_are_read_into_packed_buffers(kind, tcp, name):
    group = Group("full", GroupKind.FULL, 4, 2, 8, 8, DType.F16, layout=Layout.LAYER_MAJOR)
    geometry = Space(
        name, tokens_per_block=16, groups=(group,), fingerprint=Fingerprint("sha256:1", "f16")
    )
    size = geometry.part_bytes(0)
    payload = noise(size)
    driver = kind(tcp.ready["grpc"], plane=Plane.BULK)

    def work(client, wait):
        space = wait(client.open_space(geometry))
        assert all(r.ok for r in wait(space.put([Block(b"k", payload)])))
        layers = bytearray(size // 2)
        (result,) = wait(space.get([b"k"], layers=(1, 2), into=[layers]))
        assert result.ok and result.plane is Plane.BULK
        return layers

    assert driver.run(work) == payload[size // 4 : 3 * size // 4]


def test_a_client_chooses_by_itself(kind, tcp, name):
    driver = kind(tcp.ready["grpc"])
    space = open_space(driver, name)
    payload = noise(100_000)

    def work(client, wait):
        (stored,) = wait(space.put([Block(b"k", payload)]))
        assert stored.ok and stored.plane is Plane.BULK
        (got,) = wait(space.get([b"k"], into=[bytearray(100_000)]))
        assert got.ok and got.plane is Plane.BULK
        # Nobody knows how much room it takes.
        (got,) = wait(space.get([b"k"]))
        assert bytes(got.data) == payload and got.plane is Plane.INLINE
        assert wait(space.match([b"k"])).blocks == 1
        with alloc(100_000) as memory:
            client.register(memory)
            (got,) = wait(space.get([b"k"], into=[memory.view[:100_000]]))
            assert got.ok and got.plane is Plane.FAST
            (got,) = wait(space.get([b"k"], into=[bytearray(100_000)]))
            assert got.ok and got.plane is Plane.BULK
            del got
        return client.calls_by_plane()

    assert driver.run(work) == {Plane.FAST: 1, Plane.BULK: 3, Plane.INLINE: 2}


def test_a_daemon_without_such_streams_is_served_by_grpc(kind, daemon, name):
    driver = kind(daemon.ready["grpc"])
    space = open_space(driver, name)
    assert driver.run(lambda _, wait: wait(space.put([Block(b"k", b"abc")])))[0].plane is Plane.INLINE
    told = kind(daemon.ready["grpc"], plane=Plane.BULK)
    told_space = open_space(told, name)
    for _ in range(2):
        with pytest.raises(FailedPreconditionError, match="over TCP"):
            told.run(lambda _, wait: wait(told_space.put([Block(b"l", b"abc")])))


def test_a_client_is_bound_to_the_plane_that_it_is_told(kind, tcp, name):
    driver = kind(tcp.ready["grpc"], plane=Plane.BULK)
    space = open_space(driver, name)
    driver.run(lambda _, wait: wait(space.put([Block(b"k", b"abc")])))
    with pytest.raises(FailedPreconditionError, match="buffers of the caller"):
        driver.run(lambda _, wait: wait(space.get([b"k"])))


def test_deadlines_hold_and_the_stream_is_opened_again(kind, tmp_path, name):
    payload = noise(4 << 20)
    with Daemon(tmp_path, *LISTEN) as own:
        driver = kind(own.ready["grpc"], plane=Plane.BULK)
        space = open_space(driver, name)
        assert driver.run(lambda _, wait: wait(space.put([Block(b"k", payload)])))[0].ok
        freeze(own.process.pid)
        try:
            for call in (
                lambda _, wait: wait(space.get([b"k"], into=[bytearray(4 << 20)], deadline=0.05)),
                lambda _, wait: wait(space.put([Block(b"l", payload)], deadline=0.05)),
            ):
                with pytest.raises(MnemoError) as raised:
                    driver.run(call)
                # A stream that is given up may be told first.
                assert raised.value.code in (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE)
        finally:
            os.kill(own.process.pid, signal.SIGCONT)
        target = bytearray(4 << 20)
        while True:  # until the pause after the failure is over
            try:
                (got,) = driver.run(lambda _, wait: wait(space.get([b"k"], into=[target])))
                break
            except UnavailableError:
                pass
        assert got.ok and got.plane is Plane.BULK and target == payload


def test_a_daemon_that_starts_again_is_found_again(kind, tmp_path, name):
    with Daemon(tmp_path, *LISTEN) as first:
        driver = kind(f"unix:{first.ready['unix']}")
        space = open_space(driver, name)

        def put(key):
            (stored,) = driver.run(lambda _, wait: wait(space.put([Block(key, b"abc")])))
            assert stored.ok
            return stored.plane

        assert put(b"k") is Plane.BULK
    with Daemon(tmp_path, *LISTEN):
        # Meanwhile calls go by gRPC.
        number = 0
        while put(str(number).encode()) is not Plane.BULK:
            number += 1


def test_threads_share_a_client(tcp, name):
    with Client(tcp.ready["grpc"], deadline=60.0, plane=Plane.BULK) as client:
        space = client.open_space(Space.opaque(name, tokens_per_block=16))

        def work(number):
            keys = [f"{number}-{i}".encode() for i in range(4)]
            payloads = [noise(700_000 + i, number) for i in range(4)]
            assert all(r.ok for r in space.put(chain(keys, payloads)))
            for _ in range(3):
                targets = [bytearray(len(payload)) for payload in payloads]
                assert all(r.ok for r in space.get(keys, into=targets))
                assert targets == payloads

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))


def test_tasks_share_a_client_and_may_be_cancelled(tcp, name):
    payload = noise(8 << 20)

    async def run():
        async with AsyncClient(tcp.ready["grpc"], deadline=60.0, plane=Plane.BULK) as client:
            space = await client.open_space(Space.opaque(name, tokens_per_block=16))
            assert (await space.put([Block(b"k", payload)]))[0].ok

            async def read():
                target = bytearray(len(payload))
                (got,) = await space.get([b"k"], into=[target])
                return got.ok and target == payload

            dice = random.Random(1)
            for number in range(20):
                task = asyncio.ensure_future(
                    space.put([Block(f"x{number}".encode(), payload)]) if number % 2 else read()
                )
                for _ in range(dice.randrange(20)):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert all(await asyncio.gather(*(read() for _ in range(4))))

    asyncio.run(run())


def test_under_tls_each_end_checks_the_other(kind, tmp_path, name):
    nodes = Authority(tmp_path / "nodes")
    engines = Authority(tmp_path / "engines")
    certificate, key = nodes.issue_server()
    own, own_key = engines.issue("engine")
    (tmp_path / "daemon").mkdir()
    with Daemon(
        tmp_path / "daemon", *LISTEN,
        f"--set=tls.certificate={certificate}", f"--set=tls.key={key}",
        f"--set=tls.client_ca={engines.certificate}",
    ) as secured:
        tls = Tls.from_files(nodes.certificate, own, own_key)
        driver = kind(secured.ready["grpc"], plane=Plane.BULK, tls=tls)
        space = open_space(driver, name)
        payload = noise((20 << 20) + 3)
        (stored,) = driver.run(lambda _, wait: wait(space.put([Block(b"k", payload)])))
        assert stored.ok and stored.plane is Plane.BULK
        target = bytearray(len(payload))
        (got,) = driver.run(lambda _, wait: wait(space.get([b"k"], into=[target])))
        assert got.ok and got.plane is Plane.BULK and target == payload


def resident_bytes(daemon):
    with open(f"/proc/{daemon.process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("way", ("get", "put"))
def test_eight_gigabytes_go_over_one_stream(tcp, name, way):
    size = 32 << 20
    payload = noise(size)
    target = bytearray(size)
    with Client(tcp.ready["grpc"], deadline=60.0, plane=Plane.BULK) as client:
        space = client.open_space(Space.opaque(name, tokens_per_block=16))
        assert space.put([Block(b"k", payload)])[0].ok
        metrics = tcp.metrics()
        before, most = resident_bytes(tcp), 0
        for i in range((8 << 30) // size):
            if way == "get":
                (done,) = space.get([b"k"], into=[target], verify=False)
            else:
                assert space.delete([b"k"]) == 1
                (done,) = space.put([Block(b"k", payload)])
                assert done.outcome is PutOutcome.STORED
            assert done.ok and done.plane is Plane.BULK
            most = max(most, resident_bytes(tcp))
        after = tcp.metrics()
        assert after["mnemo_streams_opened_total"] == metrics["mnemo_streams_opened_total"]
        read = 'mnemo_read_bytes_total{level="l1_ram"}'
        if way == "get":
            assert after[read] - metrics.get(read, 0) == 8 << 30
        else:
            (got,) = space.get([b"k"], into=[target])
            assert got.ok
        assert target == payload
        # A part at a time is where it lies, and nothing is copied.
        assert most - before < 64 << 20
