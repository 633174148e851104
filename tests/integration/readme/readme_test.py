"""The examples of README.md work as they stand, but for the address."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from mnemod.client import DEFAULT_TARGET

from tests.integration.operate.daemon import Daemon

ROOT = pathlib.Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MNEMOD = pathlib.Path(os.environ.get("MNEMOD_BINARY", ROOT / "build/release/server/mnemod"))
BUILD = MNEMOD.parents[1]
MNEMOCTL = os.environ.get("MNEMOCTL_BINARY", str(BUILD / "client/cli/mnemoctl"))


def run(*command) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client" / "python")}
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                            timeout=240, env=environment, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(name="address")
def serve(tmp_path):
    with Daemon(tmp_path) as daemon:
        yield daemon.ready["grpc"]


def test_the_examples_work_one_after_another(address):
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    assert DEFAULT_TARGET in example
    python = run(sys.executable, "-c", example.replace(DEFAULT_TARGET, address))
    assert python == "1024 tokens need not be computed again\n"
    assert run(BUILD / "tests/integration/readme/readme_example", address) == "1 block came back\n"
    commands = re.findall(r"^    build/release/client/cli/mnemoctl (.*)$", README, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert run(MNEMOCTL, "--server", address, *command.split())


def test_the_installed_library_builds_the_example(tmp_path, address):
    """What stands before the C++ example, done in a folder that knows nothing of the tree."""
    assert "--install build/release --component client" in README
    run("cmake", "--install", BUILD, "--component", "client", "--prefix", tmp_path / "prefix")
    source = tmp_path / "source"
    source.mkdir()
    example = re.search(r"```cpp\n(.*?)```", README, re.DOTALL).group(1)
    (source / "main.cc").write_text(example, encoding="utf-8")
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(example CXX)\n"
        "find_package(mnemo_client REQUIRED)\nadd_executable(example main.cc)\n"
        "target_link_libraries(example PRIVATE mnemo::client)\n", encoding="utf-8")
    run("cmake", "-S", source, "-B", source / "build", "-G", "Ninja",
        f"-DCMAKE_PREFIX_PATH={tmp_path / 'prefix'}")
    run("cmake", "--build", source / "build")
    run(MNEMOCTL, "--server", address, "space", "create", "readme", "--opaque", "256")
    assert run(source / "build" / "example", address) == "1 block came back\n"


def test_every_path_it_links_to_is_there():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_it_names_is_there():
    targets = set(re.findall(r"\bmake ([a-z-]+)", README))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"test", "demo"} <= targets
    assert [target for target in targets if f"\n{target}:" not in makefile] == []
