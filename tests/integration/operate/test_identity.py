"""Who may call: an identity file, its reload, and what refused callers see."""

import hashlib
import os
import pathlib
import re

import pytest

from mnemod import (
    AsyncClient,
    Client,
    Code,
    MnemoError,
    NotFoundError,
    PermissionDeniedError,
    Role,
    Space,
    UnauthenticatedError,
    chain,
)
from tests.integration.operate.daemon import Daemon, run

OPAQUE = Space.opaque("s", tokens_per_block=16)


def write_identity(path: pathlib.Path, *principals: tuple[str, str, str, str]) -> None:
    """Replaces the file at once; a principal is (tenant, name, roles, token)."""
    lines = ["principals:"]
    for tenant, name, roles, token in principals:
        digest = hashlib.sha256(token.encode()).hexdigest()
        lines.append(f"  - {{tenant: {tenant}, name: {name}, roles: [{roles}], "
                     f"token_sha256: [{digest}]}}")
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(lines) + "\n")
    os.replace(fresh, path)


@pytest.fixture
def identity(tmp_path):
    path = tmp_path / "identity.yaml"
    write_identity(path, ("acme", "engine", "writer", "token-engine"),
                   ("acme", "dashboard", "reader", "token-dashboard"),
                   ("globex", "engine", "writer", "token-globex"),
                   ("local", "ops", "operator", "token-ops"))
    return path


def client_of(daemon, token=None):
    return Client(daemon.ready["grpc"], deadline=30.0, token=token)


def arguments(identity):
    return ("--set", "auth.required=true", "--set", f"auth.file={identity}")


def test_roles_and_tenants_hold_over_the_wire(tmp_path, identity):
    with Daemon(tmp_path, *arguments(identity)) as daemon:
        with client_of(daemon, "token-engine") as engine, \
                client_of(daemon, "token-dashboard") as dashboard, \
                client_of(daemon, "token-globex") as globex, \
                client_of(daemon, "token-ops") as ops, client_of(daemon) as nobody:
            handle = engine.open_space(OPAQUE)
            assert all(result.ok for result in handle.put(chain([b"k"], [b"payload"])))
            read = dashboard.get_space("s")
            assert bytes(read.get([b"k"])[0].data) == b"payload"
            with pytest.raises(PermissionDeniedError, match="dashboard.*writer, tenant-admin"):
                read.put(chain([b"l"], [b"x"]))
            with pytest.raises(NotFoundError):
                globex.get_space("s")
            assert list(globex.list_spaces()) == []
            assert ops.node_status().ready
            with pytest.raises(PermissionDeniedError):
                list(ops.list_spaces())
            with pytest.raises(PermissionDeniedError):
                engine.node_status()
            with pytest.raises(UnauthenticatedError, match="no credential"):
                list(nobody.list_spaces())
            with client_of(daemon, "token-wrong") as wrong:
                with pytest.raises(UnauthenticatedError, match="not known, or was revoked"):
                    list(wrong.list_spaces())
        with Client(f"unix:{daemon.ready['unix']}", deadline=30.0) as local:
            with pytest.raises(UnauthenticatedError):
                list(local.list_spaces())
        samples = daemon.metrics()
        for outcome, code in (("unauthenticated", "UNAUTHENTICATED"),
                              ("denied", "PERMISSION_DENIED")):
            counted = samples[f'mnemo_authentications_total{{outcome="{outcome}"}}']
            assert counted == 3
            assert counted == sum(
                value for name, value in samples.items()
                if name.startswith("mnemo_grpc_requests_total") and f'code="{code}"' in name)
        log = daemon.log_text()
        refused = [line for line in log.splitlines() if "event=call-refused" in line]
        assert len(refused) == 6
        assert any("principal=dashboard" in line and "code=PERMISSION_DENIED" in line and
                   re.search(r"peer=\S*127\.0\.0\.1", line) for line in refused)
        assert "token-" not in log
        assert daemon.stop() == 0
    # Spaces belong to the tenant of the name, also after a restart.
    with Daemon(tmp_path, *arguments(identity)) as daemon:
        with client_of(daemon, "token-dashboard") as dashboard:
            assert [info.space.name for info, _ in dashboard.list_spaces()] == ["s"]


def await_taken(call, raises):
    """Calls until it fails so; the deadline of the test is that of the run."""
    while True:
        try:
            call()
        except raises:
            return


def test_a_changed_file_counts_without_a_restart_and_a_bad_one_does_not(tmp_path, identity):
    with Daemon(tmp_path, *arguments(identity)) as daemon:
        with client_of(daemon, "token-engine") as old, client_of(daemon, "token-2") as new:
            old.open_space(OPAQUE)
            # Written in place, and cut short: what was in force stays.
            identity.write_text("principals: [{tenant: acme, name: engine, roles: [wri")
            while "event=credentials-not-reloaded" not in daemon.log_text():
                old.get_space("s")
            while "credentials" not in daemon.get("/status.json")[1]:
                pass
            write_identity(identity, ("acme", "engine", "writer", "token-2"))
            await_taken(lambda: old.get_space("s"), UnauthenticatedError)
            assert new.get_space("s").space.name == "s"
            assert "event=credentials-reloaded" in daemon.log_text()
            identity.unlink()
            while daemon.log_text().count("event=credentials-not-reloaded") < 2:
                pass
            new.get_space("s")
        assert daemon.stop(timeout=20) == 0


def test_a_watch_ends_with_its_token_and_does_not_hold_the_daemon(tmp_path, identity):
    with Daemon(tmp_path, *arguments(identity), "--set", "shutdown.drain=200ms") as daemon:
        with client_of(daemon, "token-engine") as engine, \
                client_of(daemon, "token-dashboard") as dashboard:
            handle = engine.open_space(OPAQUE)
            with dashboard.get_space("s").watch() as watch, handle.watch() as stays:
                next(iter(watch))
                write_identity(identity, ("acme", "engine", "writer", "token-engine"))
                await_taken(lambda: dashboard.get_space("s"), UnauthenticatedError)
                handle.put(chain([b"k"], [b"x"]))
                with pytest.raises(UnauthenticatedError):
                    for _ in watch:
                        pass
                assert daemon.stop(timeout=20) == 0
                del stays


@pytest.mark.parametrize("text, reason", [
    (None, "identity.yaml"),
    ("principals: [{tenant: a, name: b, roles: [king], certificates: ['cn:a']}]", "role is 'king'"),
    ("principals: [{tenant: A, name: b, roles: [reader], certificates: ['cn:a']}]", "tenant is"),
])
def test_a_bad_identity_file_stops_the_start(tmp_path, text, reason):
    path = tmp_path / "identity.yaml"
    if text is not None:
        path.write_text(text)
    result = run("--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0",
                 "--metrics-listen", "off", "--probe-listen", "off", "--memory-total", "256MiB",
                 "--disk-total", "512MiB", *arguments(path))
    assert result.returncode == 2, result.stderr
    assert reason in result.stderr


def test_tokens_are_made_rotated_and_revoked_by_a_client(tmp_path, identity):
    with Daemon(tmp_path, *arguments(identity)) as daemon, \
            client_of(daemon, "token-ops") as ops, client_of(daemon, "token-engine") as engine:
        made = ops.auth.create_tenant("initech")
        assert made in ops.auth.tenants()
        with pytest.raises(MnemoError) as again:
            ops.auth.create_tenant("initech")
        assert again.value.code is Code.ALREADY_EXISTS
        first = ops.auth.create_token("bot", [Role.WRITER], tenant="initech", lifetime_seconds=3600)
        lives_us = first.info.expires_unix_us - first.info.created_unix_us
        assert 3500 * 10**6 < lives_us <= 3600 * 10**6
        assert first.token not in repr(first)
        second = ops.auth.rotate_token("bot", tenant="initech")
        (bot,) = ops.auth.principals(tenant="initech")
        assert bot.name == "bot" and bot.roles == (Role.WRITER,)
        assert bot.tokens == (first.info, second.info)
        with client_of(daemon, first.token) as old, client_of(daemon, second.token) as new:
            old.open_space(OPAQUE)
            ops.auth.revoke_token("bot", first.info.id, tenant="initech")
            with pytest.raises(UnauthenticatedError):
                old.get_space("s")
            assert new.get_space("s").space.name == "s"
            ops.auth.revoke_token("bot", tenant="initech")
            with pytest.raises(UnauthenticatedError):
                new.get_space("s")
        assert ops.auth.principals(tenant="initech") == ()
        with pytest.raises(PermissionDeniedError):
            engine.auth.principals()


@pytest.mark.asyncio
async def test_tokens_are_made_rotated_and_revoked_by_an_asyncio_client(tmp_path, identity):
    with Daemon(tmp_path, *arguments(identity)) as daemon:
        async with AsyncClient(daemon.ready["grpc"], token="token-ops") as ops:
            made = await ops.auth.create_tenant("initech")
            assert made in await ops.auth.tenants()
            first = await ops.auth.create_token("bot", [Role.READER, Role.METRICS], tenant="initech")
            second = await ops.auth.rotate_token("bot", tenant="initech")
            await ops.auth.revoke_token("bot", first.info.id, tenant="initech")
            (bot,) = await ops.auth.principals(tenant="initech")
            assert bot.roles == (Role.READER, Role.METRICS) and bot.tokens == (second.info,)


def test_without_identity_everybody_is_the_local_tenant(tmp_path):
    with Daemon(tmp_path) as daemon, client_of(daemon) as client:
        client.open_space(OPAQUE)
        assert client.node_status().ready
        with client_of(daemon, "made-up") as wrong:
            with pytest.raises(UnauthenticatedError):
                wrong.get_space("s")
        assert daemon.metrics()['mnemo_authentications_total{outcome="denied"}'] == 0
