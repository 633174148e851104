"""Starts the real daemon on free ports in a folder of its own."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import time
import urllib.error
import urllib.request

BINARY = os.environ.get(
    "MNEMOD_BINARY",
    str(pathlib.Path(__file__).resolve().parents[3] / "build" / "release" / "server" / "mnemod"))
SMALL = ("--memory-total", "256MiB", "--disk-total", "512MiB")


def run(*arguments: str, env: dict[str, str] | None = None, timeout: float = 60):
    """A daemon that is expected to end by itself."""
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=timeout,
                          env=clean_environment(env), check=False)


def until(holds, what: str, longest: float = 60) -> None:
    """Asks again and again; each question is a call to the daemon."""
    end = time.monotonic() + longest
    while not holds():
        assert time.monotonic() < end, what


def clean_environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MNEMO_")}
    environment.pop("NOTIFY_SOCKET", None)
    environment.update(extra or {})
    return environment


class Daemon:
    """A daemon that serves; `with` stops it, and fails if that took a kill."""

    def __init__(self, folder: pathlib.Path, *arguments: str, env: dict[str, str] | None = None,
                 data_dir: pathlib.Path | None = None):
        self.folder = folder
        self.data_dir = data_dir or folder / "data"
        self.log = folder / "log.txt"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [BINARY, "--data-dir", str(self.data_dir), "--listen", "127.0.0.1:0",
                 "--metrics-listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0",
                 "--unix-socket", str(folder / "s"), "--ready-file", "-", *SMALL, *arguments],
                stdout=subprocess.PIPE, stderr=log, text=True, env=clean_environment(env))
        line = self.process.stdout.readline()  # or "" when it ended
        assert line, f"exit code {self.process.wait()}: {self.log_text()}"
        self.ready = json.loads(line)

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        self.process.stdout.close()

    def stop(self, with_signal: int = signal.SIGTERM, timeout: float = 40) -> int:
        self.process.send_signal(with_signal)
        return self.process.wait(timeout)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def get(self, path: str, where: str = "metrics") -> tuple[int, str, dict[str, str]]:
        """Status, body and headers (lower case) of a page."""
        try:
            with urllib.request.urlopen(f"http://{self.ready[where]}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode(), _lower(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), _lower(error.headers)

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name with labels, as written."""
        samples = {}
        for line in self.get("/metrics")[1].splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples


def _lower(headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
