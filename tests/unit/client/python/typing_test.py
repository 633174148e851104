"""The package passes mypy in its strict mode, as py.typed promises."""

import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[4] / "client" / "python"


def test_mypy_is_clean(tmp_path):
    pytest.importorskip("mypy")
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--cache-dir", tmp_path],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
