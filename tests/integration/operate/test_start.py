"""Start-up: the ready line, the configuration's errors, the exit codes."""

import json
import os
import pathlib
import socket
import subprocess

import pytest
import yaml

from tests.integration.operate.daemon import BINARY, SMALL, Daemon, clean_environment, run

ROOT = pathlib.Path(__file__).resolve().parents[3]


def serve_arguments(folder, **changes):
    flags = {"data-dir": folder / "data", "listen": "127.0.0.1:0", "metrics-listen": "127.0.0.1:0",
             "probe-listen": "127.0.0.1:0", "unix-socket": folder / "s2", **changes}
    return [*SMALL, *(f"--{name}={value}" for name, value in flags.items())]


def reason_of(result) -> str:
    """The one line that says why; logs of what came before are at info."""
    lines = [line for line in result.stderr.splitlines() if "level=info" not in line]
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_ready_line_names_what_is_bound(tmp_path):
    with Daemon(tmp_path) as daemon:
        assert daemon.ready["event"] == "ready"
        assert daemon.ready["pid"] == daemon.process.pid
        assert daemon.ready["unix"] == str(tmp_path / "s")
        for name in ("grpc", "metrics", "probes"):
            host, port = daemon.ready[name].rsplit(":", 1)
            with socket.create_connection((host, int(port)), timeout=5):
                pass
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(daemon.ready["unix"])


def test_ready_file_appears_whole(tmp_path):
    ready = tmp_path / "ready.json"
    with Daemon(tmp_path) as daemon:
        assert not ready.exists()
        assert daemon.stop() == 0
    process = subprocess.Popen([BINARY, *serve_arguments(tmp_path), "--ready-file", str(ready)],
                               stderr=subprocess.PIPE, text=True, env=clean_environment())
    try:
        # The log says so once the file is there.
        assert any("event=ready" in line for line in process.stderr)
        assert json.loads(ready.read_text())["pid"] == process.pid
    finally:
        process.terminate()
        process.communicate(timeout=40)
    assert process.returncode == 0


def test_unknown_key_is_refused_with_a_suggestion(tmp_path):
    file = tmp_path / "mnemod.yaml"
    file.write_text("memory:\n  totl: 1GiB\n")
    result = run("--config", str(file))
    assert result.returncode == 2
    assert reason_of(result) == (
        f"mnemod: {file}:2: unknown key 'memory.totl'; did you mean 'memory.total'?")
    result = run("--memory-totl", "1GiB")
    assert result.returncode == 2
    assert "did you mean --memory-total?" in reason_of(result)


def test_value_out_of_range_names_the_range(tmp_path):
    result = run("--set", "promote_hits=0")
    assert result.returncode == 2
    assert reason_of(result) == (
        "mnemod: --set: promote_hits: '0' is not allowed; allowed: 1 to 10")


def test_another_address_needs_insecure(tmp_path):
    result = run(*serve_arguments(tmp_path, listen="0.0.0.0:0"))
    assert result.returncode == 2
    assert reason_of(result) == (
        "mnemod: listen: 0.0.0.0:0 is not a loopback address; give tls.certificate, tls.key and "
        "tls.client_ca, bind loopback behind a proxy with TLS, or say --insecure to let everybody "
        "in who reaches the port")


def test_insecure_is_said_out_loud(tmp_path):
    with Daemon(tmp_path, "--set", "grpc.max_streams=64") as daemon:
        assert daemon.metrics()["mnemo_insecure"] == 0
    arguments = serve_arguments(tmp_path, listen="0.0.0.0:0")
    process = subprocess.Popen([BINARY, *arguments, "--insecure", "--ready-file", "-"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=clean_environment())
    try:
        assert json.loads(process.stdout.readline())["grpc"].startswith("0.0.0.0:")
    finally:
        process.terminate()
        _, log = process.communicate(timeout=40)
    assert "level=warning" in log and "is open to everybody who reaches it" in log


def test_check_config_says_ok_or_why(tmp_path):
    file = tmp_path / "mnemod.yaml"
    file.write_text("memory:\n  total: 1GiB\nlog:\n  format: json\n")
    result = run("--config", str(file), "--check-config", "--data-dir", str(tmp_path / "data"))
    assert (result.returncode, result.stdout, result.stderr) == (0, "configuration ok\n", "")
    assert not (tmp_path / "data").exists()
    file.write_text("memory:\n  total: 1GiB\n  l1: 2GiB\n")
    result = run("--config", str(file), "--check-config")
    assert result.returncode == 2
    assert reason_of(result) == "mnemod: memory.l1 2 GiB is more than memory.total 1 GiB"


def test_print_config_tells_origins(tmp_path):
    file = tmp_path / "mnemod.yaml"
    file.write_text("memory:\n  total: 1GiB\n")
    result = run("--config", str(file), "--print-config", "--log-level", "error",
                 env={"MNEMO_WAL_INTERVAL": "20ms"})
    lines = result.stdout.splitlines()
    assert f"memory.total: 1GiB  # file:{file}" in lines
    assert "log.level: error  # flag" in lines
    assert "wal.interval: 20ms  # env:MNEMO_WAL_INTERVAL" in lines
    assert "eviction.policy: s3fifo  # default" in lines
    # What is printed is a configuration again, with the same values.
    again = tmp_path / "again.yaml"
    again.write_text(result.stdout)
    values = yaml.safe_load(run("--config", str(again), "--print-config").stdout)
    assert values == yaml.safe_load(result.stdout)


def test_published_files_are_what_the_daemon_prints():
    assert run("--print-config-schema").stdout == (
        ROOT / "deploy/config/mnemod.schema.json").read_text()
    assert run("--print-config-example").stdout == (
        ROOT / "deploy/config/mnemod.yaml").read_text()
    assert run("--print-config-reference").stdout == (
        ROOT / "docs/operations-config.md").read_text()


def test_version_and_help():
    assert run("--version").stdout.startswith("mnemod 0.")
    assert "--data-dir" in run("--help").stdout


@pytest.mark.parametrize("flag", ["listen", "metrics-listen", "probe-listen"])
def test_busy_port_is_code_3(tmp_path, flag):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        result = run(*serve_arguments(tmp_path, **{flag: address}))
    assert result.returncode == 3
    assert f"cannot listen on {address}" in reason_of(result)
    assert "exit_code=3" in reason_of(result)


def test_locked_data_directory_is_code_4(tmp_path):
    with Daemon(tmp_path) as daemon:
        result = run(*serve_arguments(tmp_path))
        assert result.returncode == 4
        assert f"pid {daemon.process.pid}" in reason_of(result)
        assert daemon.get("/readyz", "probes")[0] == 200
    with Daemon(tmp_path):
        pass  # the lock went with its holder


def test_lock_of_a_killed_daemon_does_not_hold(tmp_path):
    with Daemon(tmp_path) as daemon:
        daemon.kill()
    with Daemon(tmp_path) as daemon:
        assert daemon.get("/readyz", "probes")[0] == 200


def test_directory_of_others_is_code_5_and_untouched(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "thesis.tex").write_text("mine")
    result = run(*serve_arguments(tmp_path))
    assert result.returncode == 5
    assert str(data) in reason_of(result)
    assert [entry.name for entry in data.iterdir() if entry.name != "LOCK"] == ["thesis.tex"]


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def test_damaged_identity_is_code_6(tmp_path):
    with Daemon(tmp_path):
        pass
    damage(tmp_path / "data" / "IDENTITY")
    with Daemon(tmp_path):  # the second copy mends it
        pass
    damage(tmp_path / "data" / "IDENTITY")
    damage(tmp_path / "data" / "IDENTITY.mirror")
    result = run(*serve_arguments(tmp_path))
    assert result.returncode in (5, 6)  # a flip in the version reads as another version
    assert f"{tmp_path}/data: identity" in reason_of(result)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_directory_that_may_not_be_written_is_code_7(tmp_path):
    tmp_path.chmod(0o500)
    try:
        assert run(*serve_arguments(tmp_path)).returncode == 7
    finally:
        tmp_path.chmod(0o700)


def test_directory_that_is_a_file_is_code_7(tmp_path):
    (tmp_path / "data").write_text("not a folder")
    result = run(*serve_arguments(tmp_path))
    assert result.returncode == 7
    assert str(tmp_path / "data") in reason_of(result)


def test_unreadable_config_file_is_code_2(tmp_path):
    result = run("--config", str(tmp_path / "none.yaml"))
    assert result.returncode == 2
    assert reason_of(result) == f"mnemod: {tmp_path}/none.yaml: cannot be read"


def test_logs_in_json_are_objects(tmp_path):
    with Daemon(tmp_path, "--log-format", "json") as daemon:
        daemon.stop()
        events = [json.loads(line)["event"] for line in daemon.log_text().splitlines()]
    assert events[0] == "starting"
    assert "ready" in events
    assert events[-1] == "stopped"


def test_stray_environment_variable_is_a_warning(tmp_path):
    with Daemon(tmp_path, env={"MNEMO_MEMROY_TOTAL": "1GiB"}) as daemon:
        assert "did you mean MNEMO_MEMORY_TOTAL?" in daemon.log_text()


def test_service_manager_is_told(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(30)
        with Daemon(tmp_path, env={"NOTIFY_SOCKET": path}) as daemon:
            assert manager.recv(4096).startswith(b"READY=1")
            daemon.stop()
            assert manager.recv(4096) == b"STOPPING=1"
