#!/usr/bin/env python3
"""What a floor costs a model, and what it saves: KV in few bits beside exact.

Runs a real model on llama.cpp with a prompt of 4,136 tokens, keeps its state in
mnemod exactly, and answers from it. Then the space's floor is lowered, the
daemon encodes what it has, both are killed with -9, and a new engine answers
the same prompt from the encoded state:

  1. computed: 64 greedy tokens, and the perplexity of the 1,024 tokens that follow
  2. fetched, exact: the same, which must be the same bits
  3. fetched at the floor: how many tokens agree, and the perplexity

Prints one table, writes flat JSON, and exits with 1 if a bar fails.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import pathlib
import subprocess
import sys
import time
from typing import Any

from processes import Daemon, DemoError, Engine
from stage import PROMPT_TOKENS, STEPS, Stage, add_arguments, perform

FOLLOWING_TOKENS = 1024
ENCODE_SECONDS = 300.0


class FloorDemo(Stage):
    """One run; `facts` fill up as it goes."""

    context_tokens = 5376

    def __init__(
        self, arguments: argparse.Namespace, scratch: pathlib.Path, stack: contextlib.ExitStack
    ) -> None:
        super().__init__(arguments, scratch, stack)
        self.facts["floor_bits"] = arguments.floor

    def run(self) -> None:
        self.progress.say("starting")
        daemon, engine = self.start_daemon(), self.start_engine("engine")
        engine.call("connect", target=daemon.target)
        text = engine.call("prompt", start=0, count=PROMPT_TOKENS + FOLLOWING_TOKENS + 1)["tokens"]
        prompt, following = text[:PROMPT_TOKENS], text[PROMPT_TOKENS:]

        self.progress.say("1. computing and storing the prompt")
        computed = self.answer(engine, prompt, following, "computed", reuse=False)
        self.progress.say("2. from the exact state")
        exact = self.answer(engine, prompt, following, "exact", reuse=True)
        self.facts["exact_bytes"] = self.stored_bytes(engine)

        self.progress.say("encoding at the floor")
        self.set_floor(daemon)
        self.facts["encode_seconds"] = self.wait_until_encoded(daemon)
        self.facts["floor_bytes"] = self.stored_bytes(engine)
        self.facts["bytes_ratio"] = round(self.facts["exact_bytes"] / self.facts["floor_bytes"], 3)
        engine.kill()
        daemon.kill()

        self.progress.say("3. both killed with -9, from the encoded state")
        daemon, engine = self.start_daemon(), self.start_engine("engine-again")
        engine.call("connect", target=daemon.target, floor_bits=self.arguments.floor)
        floor = self.answer(engine, prompt, following, "floor", reuse=True)
        self.facts["fidelity"] = engine.call("fidelity", tokens=prompt)
        self.compare(computed, exact, floor)
        self.progress.clear()

    def answer(
        self, engine: Engine, prompt: list[int], following: list[int], name: str, reuse: bool
    ) -> dict[str, Any]:
        answer = engine.call("run", tokens=prompt, reuse=reuse, store=not reuse, steps=STEPS)
        scored = engine.call("score", position=len(prompt), tokens=following)
        answer["perplexity"] = math.exp(-scored["mean_log_likelihood"])
        self.facts |= {
            f"{name}_ttft_ms": answer["ttft_ms"],
            f"{name}_hit_tokens": answer["hit_tokens"],
            f"{name}_perplexity": round(answer["perplexity"], 4),
        }
        return answer

    def set_floor(self, daemon: Daemon) -> None:
        command = [
            self.arguments.mnemoctl, f"--server={daemon.target}", "space", "set", self.space,
            f"--floor={self.arguments.floor}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        if done.returncode != 0:
            raise DemoError(f"mnemoctl space set: {done.stderr.strip()}")

    def wait_until_encoded(self, daemon: Daemon) -> float:
        started = time.monotonic()
        while (left := daemon.metric("mnemo_reencoding_parts_left")) > 0:
            if time.monotonic() - started > ENCODE_SECONDS:
                raise DemoError(f"{left:.0f} parts not encoded within {ENCODE_SECONDS:.0f} s")
            time.sleep(0.2)
        return round(time.monotonic() - started, 2)

    def stored_bytes(self, engine: Engine) -> int:
        """Of the prompt's parts on disk."""
        return int(engine.call("usage")["disk_bytes"])

    def compare(self, computed: dict[str, Any], exact: dict[str, Any], floor: dict[str, Any]) -> None:
        pairs = list(zip(computed["tokens"], floor["tokens"]))
        self.facts |= {
            "exact_agreeing_tokens": _prefix(zip(computed["tokens"], exact["tokens"])),
            "floor_agreeing_tokens": _prefix(pairs),
            "floor_equal_positions": sum(a == b for a, b in pairs),
            "exact_logits_equal_steps": _prefix(zip(computed["digests"], exact["digests"])),
            "perplexity_ratio": round(floor["perplexity"] / exact["perplexity"], 4),
            "hit_tokens_possible": floor["possible_tokens"],
        }

    def bars(self) -> dict[str, bool]:
        facts = self.facts
        return {
            f"exact state gives the same logits over {STEPS} steps": facts[
                "exact_logits_equal_steps"
            ]
            == STEPS,
            "every possible token was a hit at the floor": facts["floor_hit_tokens"]
            == facts["hit_tokens_possible"],
            "all that was fetched was encoded": facts["fidelity"]["encoded_parts"]
            == facts["fidelity"]["parts"],
        }


def _prefix(pairs: Any) -> int:
    """How many pairs from the first on are equal."""
    count = 0
    for a, b in pairs:
        if a != b:
            break
        count += 1
    return count


def show(demo: FloorDemo, failed: list[str]) -> None:
    facts = demo.facts
    print(f"{facts['model']}, {PROMPT_TOKENS} tokens of prompt, a floor of {facts['floor_bits']} bits")
    header = ("", "first token", "tokens agree", "perplexity of the next 1,024", "on disk")
    rows = [
        header,
        ("computed", f"{facts['computed_ttft_ms']:,.0f} ms", "reference",
         f"{facts['computed_perplexity']:.3f}", "-"),
        ("fetched, exact", f"{facts['exact_ttft_ms']:,.0f} ms",
         f"{facts['exact_agreeing_tokens']} of {STEPS}", f"{facts['exact_perplexity']:.3f}",
         f"{facts['exact_bytes'] / 1e6:.1f} MB"),
        (f"fetched, {facts['floor_bits']} bits", f"{facts['floor_ttft_ms']:,.0f} ms",
         f"{facts['floor_agreeing_tokens']} of {STEPS}", f"{facts['floor_perplexity']:.3f}",
         f"{facts['floor_bytes'] / 1e6:.1f} MB"),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    for row in rows:
        print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w)
                        for i, (cell, w) in enumerate(zip(row, widths))))
    said = facts["fidelity"]
    print(
        f"{said['codec']}: {said['bits_per_value']:.2f} bits a value, relative error "
        f"{said['mean_error']:.4f} (at most {said['largest_error']:.4f}), 1/{facts['bytes_ratio']} "
        f"of the bytes, encoded in {facts['encode_seconds']} s"
    )
    for bar in failed:
        print(f"FAILED: {bar}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--floor", type=int, choices=(2, 3, 4, 5, 8), required=True)
    return perform(FloorDemo, parser.parse_args(), show)


if __name__ == "__main__":
    sys.exit(main())
