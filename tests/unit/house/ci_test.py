"""`.ci/run` adds up its steps, runs all of them, and fails if one did."""

import os
import shutil
import subprocess

import pytest

from tests.unit.house.source_tree import ROOT

# Stands for make: prints and exits as a file named after the target says.
FAKE_MAKE = """#!/bin/bash
cat "$FAKE/$1" 2>/dev/null
[[ ! -e "$FAKE/$1.fails" ]]
"""
GOOD = {"test": "noise\n100 passed, 0 failed\n", "demo": "a table\n"}


def run_ci(tmp_path, outputs, failing=()):
    (tmp_path / "clone" / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", tmp_path / "clone" / ".ci" / "run")
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "make").write_text(FAKE_MAKE)
    (fake / "make").chmod(0o755)
    for target, output in outputs.items():
        (fake / target).write_text(output)
    for target in failing:
        (fake / f"{target}.fails").touch()
    done = subprocess.run(
        ["bash", ".ci/run"], cwd=tmp_path / "clone", capture_output=True, text=True, check=False,
        timeout=60, env={**os.environ, "FAKE": str(fake), "PATH": f"{fake}:{os.environ['PATH']}"})
    return done.returncode, done.stdout.splitlines()[-1]


def test_it_adds_up_what_passed(tmp_path):
    # A step without a closing line counts as one: here all but the first.
    assert run_ci(tmp_path, GOOD) == (0, "104 passed, 0 failed")


@pytest.mark.parametrize("outputs, failing, expected", [
    ({**GOOD, "test": "99 passed, 1 failed\n"}, ["test"], "103 passed, 1 failed"),
    ({**GOOD, "test": "cannot build\n"}, ["test"], "4 passed, 1 failed"),
    (GOOD, ["demo"], "103 passed, 1 failed"),
    # A step that fails after a good closing line failed all the same.
    (GOOD, ["test"], "104 passed, 1 failed"),
    # One that counts failures must not pass, whatever its exit code.
    ({**GOOD, "demo": "3 passed, 1 failed\n"}, [], "106 passed, 1 failed"),
])
def test_it_runs_all_steps_and_fails_if_one_did(tmp_path, outputs, failing, expected):
    code, last = run_ci(tmp_path, outputs, failing)
    assert last == expected
    assert code != 0
