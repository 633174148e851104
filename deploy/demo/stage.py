"""What the demos of a model's KV cache have in common: processes, facts, and the end."""

from __future__ import annotations

import abc
import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

import inputs
from processes import Daemon, DemoError, Engine
from report import Progress

BLOCK_TOKENS = 256
# 16 whole blocks and a last batch that is computed in every run.
PROMPT_TOKENS = 16 * BLOCK_TOKENS + 40
THREADS = 2
STEPS = 64


class Stage(abc.ABC):
    """One run of a demo; `facts` fill up as it goes."""

    context_tokens: int  # of an engine: the prompt, what follows, and room to generate

    def __init__(
        self, arguments: argparse.Namespace, scratch: pathlib.Path, stack: contextlib.ExitStack
    ) -> None:
        self.arguments = arguments
        self.model = inputs.MODELS[arguments.model]
        self.space = f"demo-{self.model.name}"
        self.scratch = scratch
        self.data_dir = scratch / "data"
        self.data_dir.mkdir()
        self.stack = stack
        self.progress = Progress()
        self.facts: dict[str, Any] = {"model": self.model.title}
        self.model_file = inputs.model_path(self.model, scratch)

    def start_engine(self, name: str) -> Engine:
        engine = Engine(
            name,
            self.scratch / f"{name.replace(' ', '-')}.log",
            [
                f"--model-file={self.model_file}",
                f"--space={self.space}",
                f"--threads={THREADS}",
                f"--context-tokens={self.context_tokens}",
                f"--block-tokens={BLOCK_TOKENS}",
            ],
        )
        self.stack.callback(engine.kill)
        return engine

    def start_daemon(self) -> Daemon:
        daemon = Daemon(self.arguments.mnemod, self.data_dir, self.scratch / "mnemod.log")
        self.stack.callback(daemon.kill)
        return daemon

    @abc.abstractmethod
    def run(self) -> None:
        """Raises DemoError if it cannot go on."""

    @abc.abstractmethod
    def bars(self) -> dict[str, bool]:
        """By what it says, whether it held."""


AnyStage = TypeVar("AnyStage", bound=Stage)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=sorted(inputs.MODELS), default="smollm2")
    parser.add_argument("--mnemod", type=pathlib.Path, required=True, help="the daemon's program")
    parser.add_argument("--mnemoctl", type=pathlib.Path, required=True, help="the admin tool")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the JSON to write")


def perform(
    make: Callable[[argparse.Namespace, pathlib.Path, contextlib.ExitStack], AnyStage],
    arguments: argparse.Namespace,
    show: Callable[[AnyStage, list[str]], None],
) -> int:
    """Runs a demo to its end, writes its facts and shows them. The exit code."""
    # A signal ends the run the way an error does: children and files are cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="mnemo-demo-"))
    try:
        with contextlib.ExitStack() as stack:
            demo = make(arguments, scratch, stack)
            demo.run()
    except (DemoError, RuntimeError, ValueError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    failed = [bar for bar, held in demo.bars().items() if not held]
    demo.facts |= {"seconds": round(demo.progress.seconds, 1), "failed_bars": failed}
    _write_json(arguments.out, demo.facts)
    show(demo, failed)
    return 1 if failed else 0


def _write_json(path: pathlib.Path, facts: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(facts, indent=1) + "\n")
    os.replace(partial, path)
