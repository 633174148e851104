"""TLS and tokens end to end: the daemon, the Python client, and mnemoctl over the C++ client."""

import json
import os
import pathlib
import ssl
import socket
import subprocess
import threading

import pytest

from mnemod import (
    Client,
    PermissionDeniedError,
    RetryPolicy,
    Space,
    Tls,
    UnauthenticatedError,
    UnavailableError,
    chain,
)
from tests.integration.operate.daemon import Daemon, clean_environment, run
from tests.support.python.certificates import Authority, install

MNEMOCTL = os.environ.get(
    "MNEMOCTL_BINARY",
    str(pathlib.Path(__file__).resolve().parents[3] / "build" / "release" / "client" / "cli"
        / "mnemoctl"))
OPAQUE = Space.opaque("s", tokens_per_block=16)


class Place:
    """Where a test's certificates lie: what the daemon reads, and who signs it."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.nodes = Authority(folder / "nodes")
        self.clients = Authority(folder / "clients", "clients")
        self.certificate = folder / "node.pem"
        self.key = folder / "node.key"
        self.client_ca = folder / "clients.pem"
        self.identity = folder / "identity.yaml"
        self.renew("first")
        install(self.clients.certificate, self.client_ca)
        self.identity.write_text(
            "principals:\n"
            "  - {tenant: acme, name: engine, roles: [writer], certificates: ['cn:engine']}\n"
            "  - {tenant: local, name: ops, roles: [operator], certificates: ['cn:ops']}\n")

    def renew(self, common_name: str, days: int = 30) -> None:
        certificate, key = self.nodes.issue_server(common_name, days)
        # Between the two the pair does not belong together: the daemon must bear it.
        install(certificate, self.certificate)
        install(key, self.key)

    def arguments(self) -> list[str]:
        settings = {"auth.required": "true", "auth.file": self.identity,
                    "tls.certificate": self.certificate, "tls.key": self.key,
                    "tls.client_ca": self.client_ca}
        return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]

    def tls(self, common_name: str) -> Tls:
        return Tls.from_files(self.nodes.certificate, *self.clients.issue(common_name))


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "tls")


def connect(daemon, tls, token=None):
    return Client(daemon.ready["grpc"], deadline=10.0, tls=tls, token=token,
                  retry=RetryPolicy(attempts=1))


def mnemoctl(daemon, *arguments, files, code=0):
    done = subprocess.run(
        [MNEMOCTL, "--server", daemon.ready["grpc"], *arguments], capture_output=True, text=True,
        timeout=60, check=False, env=clean_environment(files))
    assert done.returncode == code, done.stderr
    return done


def test_a_certificate_is_who_calls(tmp_path, place):
    with Daemon(tmp_path, *place.arguments()) as daemon:
        with connect(daemon, place.tls("engine")) as engine:
            handle = engine.open_space(OPAQUE)
            assert handle.put(chain([b"k"], [b"x" * 3_000_000]))[0].ok
            assert bytes(handle.get([b"k"])[0].data) == b"x" * 3_000_000
            with pytest.raises(PermissionDeniedError, match="engine"):
                engine.node_status()
        with connect(daemon, place.tls("stranger")) as stranger:
            with pytest.raises(UnauthenticatedError, match="belongs to no principal"):
                list(stranger.list_spaces())
        others = Authority(tmp_path / "others")
        ca = place.nodes.certificate
        for tls in (Tls.from_files(ca), Tls.from_files(ca, *others.issue("engine")),
                    Tls.from_files(ca, *place.clients.issue("engine", days=-1)),
                    Tls.from_files(others.certificate, *place.clients.issue("engine")), None):
            with connect(daemon, tls) as client, pytest.raises(UnavailableError):
                list(client.list_spaces())
        assert daemon.metrics()["mnemo_tls_certificate_expiry_timestamp_seconds"] > 1.7e9
        assert daemon.stop(timeout=20) == 0


def test_beyond_loopback_with_tls_needs_no_insecure(tmp_path, place):
    folder = tmp_path / "open"
    folder.mkdir()
    result = run("--data-dir", str(folder), "--listen", "0.0.0.0:0", "--check-config",
                 *place.arguments())
    assert (result.returncode, result.stderr) == (0, "")
    optional = run("--data-dir", str(folder), "--listen", "0.0.0.0:0", "--check-config",
                   *place.arguments(), "--set", "tls.clients=optional")
    assert optional.returncode == 2
    assert "not a loopback address" in optional.stderr


@pytest.mark.parametrize("name, text", [("certificate", None), ("key", None),
                                        ("client_ca", "nothing"), ("key", "nothing")])
def test_bad_files_stop_the_start_and_are_named(tmp_path, place, name, text):
    path = getattr(place, name)
    path.unlink()
    if text is not None:
        path.write_text(text)
    result = run("--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0",
                 "--metrics-listen", "off", "--probe-listen", "off", "--memory-total", "256MiB",
                 "--disk-total", "512MiB", *place.arguments())
    assert result.returncode == 2, result.stderr
    assert str(path) in result.stderr


def served_name(daemon, place) -> str:
    """The common name that the daemon's certificate has in a new handshake."""
    context = ssl.create_default_context(cafile=str(place.nodes.certificate))
    context.load_cert_chain(*place.clients.issue("engine"))
    context.set_alpn_protocols(["h2"])
    host, port = daemon.ready["grpc"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname=host) as connection:
            return dict(pair[0] for pair in connection.getpeercert()["subject"])["commonName"]


def test_renewals_fail_no_call_and_do_not_hold_the_daemon(tmp_path, place):
    with Daemon(tmp_path, *place.arguments(), "--set", "shutdown.drain=200ms") as daemon:
        ended = threading.Event()
        failures: list[Exception] = []
        calls = [0, 0]

        def work(index: int, fresh: bool) -> None:
            tls = place.tls("engine")
            kept = connect(daemon, tls)
            try:
                while not ended.is_set():
                    # One that keeps its connection, and one with a handshake each time.
                    with connect(daemon, tls) if fresh else kept as client:
                        while True:
                            client.open_space(OPAQUE)
                            calls[index] += 1
                            if fresh or ended.is_set():
                                break
            except Exception as error:  # told below, with the test's own failure
                failures.append(error)

        assert served_name(daemon, place) == "first"
        workers = [threading.Thread(target=work, args=(i, i == 1)) for i in range(2)]
        for worker in workers:
            worker.start()
        try:
            for name in ("second", "third", "fourth"):
                before = list(calls)
                place.renew(name)
                while served_name(daemon, place) != name and not failures:
                    pass
                while not failures and any(now <= then for now, then in zip(calls, before)):
                    pass
            # A certificate that vanishes, and one without its key, leave what was.
            place.certificate.unlink()
            while "credentials-not-reloaded" not in daemon.log_text() and not failures:
                pass
            assert served_name(daemon, place) == "fourth"
        finally:
            ended.set()
            for worker in workers:
                worker.join()
        assert not failures, failures[0]
        with connect(daemon, place.tls("engine")) as client:
            handle = client.open_space(OPAQUE)
            handle.put(chain([b"k"], [b"x"]))
            with handle.watch() as watch:
                next(iter(watch))
                assert daemon.stop(timeout=20) == 0


def test_a_certificate_that_ends_soon_is_a_problem_until_it_is_renewed(tmp_path, place):
    place.renew("brief", days=5)
    with Daemon(tmp_path, *place.arguments()) as daemon:
        # Looked at every 5 s; the files too.
        while "tls.certificate ends within 7 days" not in daemon.get("/status.json")[1]:
            pass
        place.renew("long")
        while "ends within" in daemon.get("/status.json")[1]:
            pass
        assert daemon.stop() == 0
        log = daemon.log_text()
        assert "event=problem about=certificate" in log
        assert "event=problem-mended about=certificate" in log


def test_an_operator_hands_out_tokens_by_mnemoctl(tmp_path, place):
    certificate, key = place.clients.issue("ops")
    nobody = place.clients.issue("nobody")

    def environment(token=None, pair=nobody):
        files = {"MNEMO_TLS_CA": str(place.nodes.certificate), "MNEMO_TLS_CERT": str(pair[0]),
                 "MNEMO_TLS_KEY": str(pair[1])}
        if token is not None:
            path = tmp_path / f"token-{abs(hash(token))}"
            path.write_text(token)
            files["MNEMO_TOKEN_FILE"] = str(path)
        return files

    ops = environment(pair=(certificate, key))
    create = ("auth", "token", "create")
    with Daemon(tmp_path, *place.arguments()) as daemon:
        mnemoctl(daemon, "status", files=ops)
        mnemoctl(daemon, "tenant", "create", "globex", files=ops)
        mnemoctl(daemon, "tenant", "create", "globex", files=ops, code=8)
        boss = mnemoctl(daemon, *create, "boss", "--tenant", "globex", "--role", "tenant-admin",
                        files=ops).stdout.strip()
        assert boss.startswith("mnemo_")
        admin = environment(boss)
        mnemoctl(daemon, *create, "up", "--role", "operator", files=admin, code=5)
        mnemoctl(daemon, *create, "out", "--role", "reader", "--tenant", "acme", files=admin,
                 code=5)
        mnemoctl(daemon, "tenant", "list", files=admin, code=5)
        mnemoctl(daemon, "tenant", "list", files=environment(), code=5)
        first = mnemoctl(daemon, *create, "worker", "--role", "writer", "--expires", "1d",
                         files=admin).stdout.strip()
        with connect(daemon, place.tls("nobody"), first) as client:
            client.open_space(OPAQUE)
        # A certificate of acme does not go with a token of globex.
        with connect(daemon, place.tls("engine"), first) as mixed:
            with pytest.raises(UnauthenticatedError, match="different tenants"):
                list(mixed.list_spaces())
        second = mnemoctl(daemon, "auth", "token", "rotate", "worker", files=admin).stdout.strip()
        for token in (first, second):
            mnemoctl(daemon, "space", "show", "s", files=environment(token))
        listed = json.loads(mnemoctl(daemon, "auth", "token", "list", "-o", "json",
                                     files=admin).stdout)
        worker = next(each for each in listed if each["name"] == "worker")
        assert [token["id"] for token in worker["tokens"]] == [
            first.split("_")[1], second.split("_")[1]]
        mnemoctl(daemon, "auth", "token", "revoke", "worker", "--id", first.split("_")[1], "--yes",
                 files=admin)
        mnemoctl(daemon, "space", "show", "s", files=environment(first), code=5)
        assert daemon.stop() == 0
        log = daemon.log_text()
        for what in ("tenant-created", "token-created", "token-rotated", "token-revoked"):
            assert f"event=identity-changed what={what}" in log
        for token in (boss, first, second):
            assert token.split("_")[2] not in log
    # What was handed out is kept.
    with Daemon(tmp_path, *place.arguments()) as daemon:
        mnemoctl(daemon, "space", "show", "s", files=environment(second))
        mnemoctl(daemon, "space", "show", "s", files=environment(first), code=5)
