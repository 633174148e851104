"""The demo's processes: started, spoken to, killed, and never left behind."""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from typing import Any

_HERE = pathlib.Path(__file__).resolve().parent
_CLIENT = _HERE.parent.parent / "client" / "python"
_PR_SET_PDEATHSIG = 1

START_SECONDS = 60.0


class DemoError(Exception):
    """The demo can't go on; the message says why, with the end of a process's log."""


def _die_with_parent() -> None:
    """Runs in the child: however the demo ends, the kernel ends the child."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class _Process:
    def __init__(
        self, name: str, command: Sequence[str | os.PathLike[str]], log: pathlib.Path
    ) -> None:
        self.name = name
        self._log = log
        with open(log, "ab") as errors:
            self._popen = subprocess.Popen(
                [os.fspath(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | {"PYTHONPATH": f"{_CLIENT}:{_HERE}"},
                preexec_fn=_die_with_parent,
            )

    def kill(self) -> None:
        """`kill -9`, and waits until it is gone. Idempotent."""
        self._popen.kill()
        self._popen.wait()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                stream.close()

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def failure(self, what: str) -> DemoError:
        """An error that quotes the end of the log."""
        lines = self._log.read_text(errors="replace").splitlines()[-12:]
        return DemoError("\n  ".join([f"{self.name}: {what}", *lines]))


class Engine(_Process):
    """An engine process (engine.py)."""

    def __init__(self, name: str, log: pathlib.Path, arguments: Sequence[str]) -> None:
        super().__init__(name, [sys.executable, _HERE / "engine.py", *arguments], log)
        self.ready = self._read()

    def call(self, op: str, **arguments: Any) -> dict[str, Any]:
        """One request and its answer. Raises DemoError if either fails."""
        try:
            self._popen.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
            self._popen.stdin.flush()
        except BrokenPipeError:
            raise self.failure("ended") from None
        answer = self._read()
        if "error" in answer:
            raise self.failure(answer["error"])
        return answer

    def _read(self) -> dict[str, Any]:
        line = self._popen.stdout.readline()
        if not line:
            raise self.failure("ended")
        return json.loads(line)


class Daemon(_Process):
    """A mnemod on a data directory, on ports of its own choice.

    With `unix_socket` it is also where the one before was. `settings` are
    KEY=VALUE of the configuration.
    """

    def __init__(
        self,
        program: pathlib.Path,
        data_dir: pathlib.Path,
        log: pathlib.Path,
        unix_socket: pathlib.Path | None = None,
        settings: Sequence[str] = ("memory.total=1GiB",),
    ) -> None:
        self.socket_target = f"unix:{unix_socket}"
        ready_file = data_dir.with_name(data_dir.name + ".ready")
        ready_file.unlink(missing_ok=True)
        started = time.monotonic()
        super().__init__(
            "mnemod",
            [
                program,
                f"--data-dir={data_dir}",
                "--listen=127.0.0.1:0",
                "--metrics-listen=127.0.0.1:0",
                "--probe-listen=off",
                f"--unix-socket={unix_socket or 'off'}",
                f"--ready-file={ready_file}",
                *(f"--set={setting}" for setting in settings),
            ],
            log,
        )
        while not ready_file.exists() or not ready_file.read_text().endswith("\n"):
            if not self.running:
                raise self.failure(f"ended with code {self._popen.returncode}")
            if time.monotonic() - started > START_SECONDS:
                raise self.failure(f"not ready within {START_SECONDS:.0f} s")
            time.sleep(0.005)
        self.ready = json.loads(ready_file.read_text())
        self.start_ms = (time.monotonic() - started) * 1e3

    @property
    def target(self) -> str:
        """Address of the gRPC service."""
        return str(self.ready["grpc"])

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels; 0 if there is none."""
        url = f"http://{self.ready['metrics']}/metrics"
        with urllib.request.urlopen(url, timeout=5) as response:
            lines = response.read().decode().splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith((name + "{", name + " "))
        )
