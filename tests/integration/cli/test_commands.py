"""The real mnemoctl against a real daemon: every command, every output, every exit code."""

import itertools
import json
import os
import pathlib
import pty
import re
import signal
import socket
import subprocess

import pytest
import yaml

from mnemod import Client, Durability, Space, chain
from resetting_server import ResettingServer
from tests.integration.operate.daemon import BINARY, SMALL, Daemon, clean_environment

MNEMOCTL = os.environ.get("MNEMOCTL_BINARY",
                          str(pathlib.Path(BINARY).parents[1] / "client" / "cli" / "mnemoctl"))
OK, FAILURE, USAGE, NOT_FOUND, UNREACHABLE, CONFLICT = 0, 1, 2, 3, 4, 8
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with Daemon(tmp_path_factory.mktemp("mnemo")) as started:
        yield started


class Ctl:
    """mnemoctl with its server in the environment."""

    def __init__(self, server):
        self.environment = clean_environment({"MNEMO_SERVER": server, "TERM": "xterm"})

    def __call__(self, *arguments, code=OK):
        done = subprocess.run([MNEMOCTL, *arguments], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, env=self.environment, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def data(self, *arguments, code=OK):
        """What JSON says, once YAML has said the same."""
        as_json = json.loads(self(*arguments, "-o", "json", code=code).stdout)
        assert type(yaml.safe_load(self(*arguments, "-o", "yaml", code=code).stdout)) is type(
            as_json)
        return as_json

    def on_terminal(self, *arguments, keys="", env=None):
        """Exit code and everything that a person would see on a terminal."""
        controller, terminal = pty.openpty()
        process = subprocess.Popen([MNEMOCTL, *arguments], stdin=terminal, stdout=terminal,
                                   stderr=terminal, env={**self.environment, **(env or {})})
        os.close(terminal)
        os.write(controller, keys.encode())
        seen = b""
        try:
            while chunk := os.read(controller, 4096):
                seen += chunk
        except OSError:
            pass  # how Linux says that the other end is closed
        os.close(controller)
        return process.wait(60), seen.decode()


@pytest.fixture
def ctl(daemon):
    return Ctl(daemon.ready["grpc"])


@pytest.fixture
def space(daemon):
    """The name of a space with three blocks of 4 KiB, of class sync."""
    name = f"space-{next(_NUMBERS)}"
    with Client(daemon.ready["grpc"], deadline=30.0) as client:
        handle = client.open_space(
            Space.opaque(name, tokens_per_block=16, durability=Durability.SYNC))
        keys = [b"block-0", b"block-1", b"block-2"]
        assert all(result.ok for result in handle.put(chain(keys, [b"x" * 4096] * 3)))
    return name


def test_status_says_how_the_node_does(ctl, daemon):
    table = ctl("status")
    assert re.search(r"^state +ready, up ", table.stdout, re.MULTILINE)
    assert daemon.ready["grpc"] in table.stdout
    assert table.stderr == ""
    data = ctl.data("status")
    assert data["ready"] is True and data["problems"] == [] and data["insecure"] is False
    assert f"grpc={daemon.ready['grpc']}" in data["addresses"]


def test_unix_socket_serves_as_well(ctl, daemon):
    assert "ready" in ctl("--server", f"unix:{daemon.ready['unix']}", "status").stdout


def test_tier_list_shows_the_twelve(ctl):
    table = ctl("tier", "list").stdout.splitlines()
    assert len(table) == 13 and table[0].startswith("TIER ")
    assert "MOVES ON WHEN" not in table[0]
    assert "MOVES ON WHEN" in ctl("tier", "list", "-o", "wide").stdout
    names = [tier["name"] for tier in ctl.data("tier", "list")]
    assert len(names) == 12 and names[0] == "FOCUS"


def test_tier_stats_shows_the_levels_with_what_lies_there(ctl, space):
    levels = {level["level"]: level for level in ctl.data("tier", "stats")}
    assert list(levels) == ["l1_ram", "l2_ram", "l3_disk", "archive"]
    assert levels["l1_ram"]["parts"] >= 3
    assert levels["l1_ram"]["capacity_bytes"] > levels["l1_ram"]["used_bytes"] > 0
    assert ctl("tier", "stats").stdout.startswith("LEVEL ")
    assert "WATERMARKS" in ctl("tier", "stats", "-o", "wide").stdout


def test_tier_inspect_says_where_a_block_lies_and_why(ctl, space):
    line = ctl("tier", "inspect", "text:block-1", "--space", space).stdout
    assert line.startswith("group 0 rank 0/0: 4 KiB as ") and "depth 1" in line
    [part] = ctl.data("tier", "inspect", b"block-1".hex(), "-s", space)
    assert part["key"] == b"block-1".hex()
    assert part["size"] == 4096 and part["depth"] == 1
    assert "l3_disk" in part["copies"]  # it is of class sync
    assert part["rule"] and part["explanation"]


def test_tier_inspect_of_what_is_not_there_is_not_found(ctl, space):
    absent = ctl("tier", "inspect", "text:other", "-s", space, code=NOT_FOUND)
    assert absent.stdout == "" and absent.stderr.startswith("mnemoctl: ")
    ctl("tier", "inspect", "text:block-0", "-s", "no-such-space", code=NOT_FOUND)
    ctl("tier", "inspect", "not-hex", "-s", space, code=USAGE)
    long_key = ctl("tier", "inspect", "00" * 65, "-s", space, code=USAGE)
    assert "64" in long_key.stderr


def settled(space):
    """Without how far the re-encoder has come, which goes on meanwhile."""
    usage = {name: value for name, value in space["usage"].items() if name != "reencoding"}
    return {**space, "usage": usage}


def test_space_list_and_show(ctl, space):
    row = next(line for line in ctl("space", "list").stdout.splitlines() if space in line)
    assert "16 tokens" in row and "12 KiB" in row and "sync" in row
    [listed] = [each for each in ctl.data("space", "list") if each["name"] == space]
    shown = ctl.data("space", "show", space)
    assert settled(shown) == settled(listed)
    assert shown["usage"]["parts"] == 3 and shown["policy"]["durability"] == "sync"
    assert settled(ctl.data("space", "show", f"id:{shown['id']}")) == settled(shown)
    assert re.search(r"^holds +3 parts, 12 KiB, 48 tokens$", ctl("space", "show", space).stdout,
                     re.MULTILINE)
    missing = ctl("space", "show", "no-such-space", code=NOT_FOUND)
    assert "no-such-space" in missing.stderr and missing.stdout == ""


def test_space_create_is_idempotent_and_a_conflict_names_field_and_values(ctl):
    made = ctl("space", "create", "created", "--opaque", "16")
    assert re.fullmatch(r"[0-9a-f]{16}\n", made.stdout)
    assert made.stderr == "space 'created' created\n"
    again = ctl("space", "create", "created", "--opaque", "16")
    assert again.stdout == made.stdout and "was there already" in again.stderr
    for more in ((), ("--dry-run",)):
        conflict = ctl("space", "create", "created", "--opaque", "32", *more, code=CONFLICT)
        assert "tokens_per_block is 16, not 32" in conflict.stderr
        assert conflict.stdout == ""


def test_space_create_dry_run_makes_nothing_and_refuses_what_a_real_run_would(ctl, tmp_path):
    dry = ctl("space", "create", "planned", "--opaque", "16", "--dry-run")
    assert "16 tokens" in dry.stdout and "would be created" in dry.stderr
    ctl("space", "show", "planned", code=NOT_FOUND)
    bad = tmp_path / "bad.yaml"
    bad.write_text("tokens_per_block: 16\ngroups: [{name: a, kind: full, layers: 0}]\n")
    for more in ((), ("--dry-run",)):
        refused = ctl("space", "create", "planned", "-f", str(bad), *more, code=USAGE)
        assert refused.stderr.startswith("mnemoctl: ") and refused.stdout == ""
    chosen = ctl("space", "create", "planned", "--dry-run", code=USAGE)
    assert "one of --file and --opaque is required" in chosen.stderr


def test_space_create_reads_what_show_prints(ctl, tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text(
        "tokens_per_block: 32\nfingerprint: {weights_digest: 'sha256:1'}\n"
        "groups:\n- {name: a, kind: window, layers: 2, kv_heads: 4, k_dimension: 8,\n"
        "   v_dimension: 8, dtype: bf16, window_tokens: 64, rope: {theta: 10000,\n"
        "   rotary_dimensions: 8}}\npolicy: {durability: interval}\n")
    ctl("space", "create", "from-file", "--file", str(file))
    shown = ctl.data("space", "show", "from-file")
    assert shown["groups"][0]["dtype"] == "bf16"
    assert shown["groups"][0]["part_bytes"] == 2 * 2 * 32 * 4 * 8 * 2
    for form in ("json", "yaml"):
        copy = tmp_path / f"copy.{form}"
        copy.write_text(ctl("space", "show", "from-file", "-o", form).stdout)
        ctl("space", "create", f"copy-{form}", "-f", str(copy))
        own = ("id", "name", "created_unix_us")
        copied = ctl.data("space", "show", f"copy-{form}")
        assert {k: v for k, v in copied.items() if k not in own} == {
            k: v for k, v in shown.items() if k not in own}


def test_space_set_changes_what_is_named_and_asks_before_a_floor_rises(ctl, tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text(
        "tokens_per_block: 16\nfingerprint: {weights_digest: 'sha256:1'}\n"
        "groups: [{name: a, kind: full, layers: 1, kv_heads: 1, k_dimension: 64,\n"
        "  v_dimension: 64, dtype: bf16}]\npolicy: {durability: sync}\n")
    ctl("space", "create", "set", "-f", str(file))
    planned = ctl("space", "set", "set", "--floor", "4", "--dry-run")
    assert re.search(r"^floor +4 bits$", planned.stdout, re.MULTILINE)
    assert ctl.data("space", "show", "set")["policy"]["floor"] == {"bits_per_value": 0}

    assert re.search(r"^floor +4 bits$", ctl("space", "set", "set", "--floor", "4").stdout,
                     re.MULTILINE)
    ctl("space", "set", "set", "--time-to-live", "60")
    policy = ctl.data("space", "show", "set")["policy"]
    assert policy == {"durability": "sync", "time_to_live_seconds": 60,
                      "floor": {"bits_per_value": 4}, "levels": {}}

    shown = ctl("space", "set", "set", "--l2", "exact", "--l3", "8").stdout
    assert re.search(r"^by level +L2 exact, L3 8 bits, archive 4 bits$", shown, re.MULTILINE)
    ctl("space", "set", "set", "--l2", "floor", "--l3", "5", "--archive", "8", code=USAGE)
    assert ctl.data("space", "show", "set")["policy"]["levels"] == {
        "l2": {"bits_per_value": 0}, "l3": {"bits_per_value": 8}}
    refused = ctl("space", "set", "set", "--floor", "exact", "--yes", code=USAGE)
    assert "policy.levels.l3.bits_per_value" in refused.stderr
    assert "or floor" in ctl("space", "set", "set", "--l3", "7", code=USAGE).stderr
    ctl("space", "set", "set", "--l2", "floor", "--l3", "floor")
    assert ctl.data("space", "show", "set")["policy"]["levels"] == {}

    raised = ctl("space", "set", "set", "--floor", "exact", "--dry-run")
    assert "would be dropped" in raised.stderr
    ctl("space", "set", "set", "--floor", "exact", "--yes")
    assert ctl.data("space", "show", "set")["policy"]["floor"] == {"bits_per_value": 0}

    assert "exact, 2, 3, 4, 5 or 8" in ctl("space", "set", "set", "--floor", "6",
                                           code=USAGE).stderr
    assert "one of --floor" in ctl("space", "set", "set", code=USAGE).stderr
    ctl("space", "create", "bytes-only", "--opaque", "16")
    refused = ctl("space", "set", "bytes-only", "--floor", "4", code=USAGE)
    assert "floating-point tensors" in refused.stderr


def test_space_file_with_an_error_names_the_field(ctl, tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("tokens_per_block: 32\ngroups: [{name: a, kind: wide}]\n")
    assert "groups[0].kind: is 'wide'" in ctl("space", "create", "x", "-f", str(file),
                                              code=USAGE).stderr
    absent = str(tmp_path / "absent.yaml")
    assert absent in ctl("space", "create", "x", "-f", absent, code=NOT_FOUND).stderr


def test_space_delete_asks_and_without_a_terminal_does_nothing(ctl, space):
    dry = ctl("space", "delete", space, "--dry-run")
    assert dry.stdout == f"would delete space '{space}' with 3 parts, 12 KiB\n"
    assert ctl.data("space", "delete", space, "--dry-run") == {"parts_to_delete": 3}
    unasked = ctl("space", "delete", space, code=FAILURE)
    assert "--yes" in unasked.stderr and unasked.stdout == ""
    code, screen = ctl.on_terminal("space", "delete", space, keys="n\n")
    assert code == FAILURE and "[y/N]" in screen and "nothing was deleted" in screen
    assert ctl.data("space", "show", space)["usage"]["parts"] == 3
    code, screen = ctl.on_terminal("space", "delete", space, keys="y\n")
    assert code == OK and "3 parts deleted" in screen
    ctl("space", "show", space, code=NOT_FOUND)
    ctl("space", "delete", space, "--yes", code=NOT_FOUND)


def test_space_delete_with_yes_asks_nothing(ctl, space):
    done = ctl("space", "delete", space, "--yes", "-o", "json")
    assert json.loads(done.stdout) == {"parts_deleted": 3} and done.stderr == ""


def test_config_show_says_values_and_where_they_came_from(ctl, daemon):
    plain = ctl("config", "show").stdout
    assert plain.splitlines()[0].split() == ["KEY", "VALUE"]
    table = ctl("config", "show", "--origin").stdout.splitlines()
    assert table[0].split() == ["KEY", "VALUE", "ORIGIN"]
    [row] = [line.split() for line in table if line.startswith("data_dir ")]
    assert row == ["data_dir", str(daemon.data_dir), "flag"]
    entries = {entry["key"]: entry for entry in ctl.data("config", "show")}
    assert entries["memory.total"]["value"] == SMALL[1]
    assert entries["gate.critical_threads"]["origin"] == "default"
    assert all(entry["description"] for entry in entries.values())


def test_bench_measures_and_leaves_nothing(ctl):
    table = ctl("bench", "--count", "3", "--size", "64KiB")
    assert [line.split()[0] for line in table.stdout.splitlines()] == ["CALL", "put", "get",
                                                                       "match"]
    assert table.stderr == "", "no progress without a terminal"
    figures = ctl.data("bench", "--count", "3", "--size", "64KiB")
    assert [(call["call"], call["bytes"], call["calls"]) for call in figures] == [
        ("put", 65536, 3), ("get", 65536, 3), ("match", 0, 3)]
    assert all(call["p99_us"] >= call["p50_us"] > 0 for call in figures)
    assert not [each for each in ctl.data("space", "list") if "bench" in each["name"]]
    assert "8B to 64 MiB" in ctl("bench", "--size", "65MiB", code=USAGE).stderr


def test_interrupted_bench_leaves_nothing_either(ctl, daemon):
    process = subprocess.Popen([MNEMOCTL, "bench", "--count", "100000", "--size", "64KiB"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=ctl.environment)
    with Client(daemon.ready["grpc"], deadline=30.0) as client:
        while not any(each.space.name.startswith("mnemoctl-bench") and usage.parts
                      for each, usage in client.list_spaces()):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == FAILURE and (out, err) == ("", "mnemoctl: cancelled\n")
        assert not [each for each, _ in client.list_spaces() if "bench" in each.space.name]


def test_version_needs_no_daemon():
    ctl = Ctl("unix:/nowhere/socket")
    version = ctl("version").stdout
    assert re.fullmatch(r"mnemoctl \d+\.\d+\.\d+\n", version)
    assert ctl.data("version") == {"version": version.split()[1]}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell):
    script = Ctl("unix:/nowhere/socket")("completion", shell).stdout
    assert "mnemoctl" in script and "inspect" in script


@pytest.mark.parametrize("line, offered", [
    ("mnemoctl ti", "tier"),
    ("mnemoctl tier ",
     "list stats inspect --help --server --token-file --tls --tls-ca --tls-cert --tls-key "
     "--tls-server-name --timeout --output --yes"),
    ("mnemoctl -o json tier s", "stats"),
    ("mnemoctl tier inspect 00ff --sp", "--space"),
    ("mnemoctl tier inspect --space list --sal", "--salt"),
    ("mnemoctl status -o ", "table wide json yaml"),
    ("mnemoctl status --output w", "wide"),
    ("mnemoctl completion z", "zsh"),
    ("mnemoctl status --server ", ""),
])
def test_bash_completes(line, offered):
    """As bash calls it: the words of the line, and which one the cursor is on."""
    script = Ctl("unix:/nowhere/socket")("completion", "bash").stdout
    words = line.split(" ")
    ask = (f"COMP_WORDS=({' '.join(repr(word) for word in words)}); "
           f"COMP_CWORD={len(words) - 1}; _mnemoctl; echo \"${{COMPREPLY[*]}}\"")
    done = subprocess.run(["bash", "--norc", "-c", script + ask], capture_output=True, text=True,
                          timeout=20, check=True)
    assert done.stderr == ""
    assert done.stdout.strip() == offered


def test_daemon_that_is_not_there_has_its_own_code(ctl):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and never listens
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        for command in (("status",), ("tier", "stats"), ("space", "list"), ("config", "show"),
                        ("bench",), ("space", "create", "a", "--opaque", "16", "--dry-run")):
            gone = ctl("--server", address, *command, code=UNREACHABLE)
            assert address in gone.stderr and gone.stdout == ""


def test_daemon_that_does_not_answer_has_the_same_code_in_time(ctl):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        ctl("--server", address, "--timeout", "200ms", "status", code=UNREACHABLE)


def test_daemon_without_memory_for_a_call_has_the_same_code(ctl):
    enhance_your_calm = 11
    with ResettingServer(enhance_your_calm) as peer:
        shed = ctl("--server", peer.target, "status", code=UNREACHABLE)
        assert "no memory left" in shed.stderr and shed.stdout == ""


def test_usage_errors_say_where_help_is(ctl):
    for arguments in ((), ("spcae",), ("space",), ("status", "--frob"), ("status", "-o", "xml")):
        wrong = ctl(*arguments, code=USAGE)
        assert wrong.stdout == "" and wrong.stderr.startswith("mnemoctl: ")
        assert "--help" in wrong.stderr
    assert ctl("--help").stderr == ""


def test_colours_only_on_a_terminal_and_never_with_no_color(ctl):
    code, screen = ctl.on_terminal("status")
    assert code == OK and "\033[32mready\033[0m" in screen
    assert "\033" not in ctl.on_terminal("status", env={"NO_COLOR": "1"})[1]
    assert "\033" not in ctl.on_terminal("status", env={"TERM": "dumb"})[1]
    assert "\033" not in ctl.on_terminal("status", "-o", "json")[1]
    assert "\033" not in ctl("status").stdout
