"""The engine process of the demo: a model that answers requests, one JSON line each.

A line of standard input is an object with `op` and its arguments; a line of
standard output is the answer, or {"error": ...}. Operations:

  connect    {target, floor_bits}: opens the space on a daemon -> {}
  prompt     {start, count}: token ids of the text -> {tokens}
  run        {tokens, reuse, store, steps, swap}: answers a prompt -> see `_run`
  payload    {index}: pieces of a block that is in the cache -> {group: [[offset, hex]]}
  save_file  {path, tokens}: llama.cpp's own file of these tokens -> {bytes}
  run_file   {path, tokens, steps}: answers a prompt from that file -> see `_run`
  score      {position, tokens}: mean log likelihood of tokens[1:] behind a prompt
             of `position` tokens that was answered -> {mean_log_likelihood}
  usage      {}: what the space has on disk -> {disk_bytes}
  fidelity   {tokens}: how a prompt's parts are kept -> see `fidelity`
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import sys
import time
from typing import Any

import inputs
from mnemod import Client, Durability, alloc
from mnemod.connectors.llama_cpp import EngineOptions, LlamaCpp
from mnemod.connectors.llama_prefix import PrefixStore, space_of

# Pieces of a payload by which it is found on disk: long enough to be unique.
PIECE_BYTES = 64
PIECES = 8


class EngineProcess:
    """Holds the model and the connection; one request at a time."""

    def __init__(self, engine: LlamaCpp, space_name: str) -> None:
        self.engine = engine
        self.space_name = space_name
        self.client: Client | None = None
        self.store: PrefixStore | None = None
        # Room for what a prompt may fetch, which the daemon writes to by itself.
        blocks = -(-engine.options.context_tokens // engine.options.block_tokens)
        self.memory = alloc(blocks * sum(group.block_bytes for group in engine.groups))
        self.space: Any = None

    def connect(self, target: str, floor_bits: int = 0) -> dict[str, Any]:
        if self.store is not None:
            self.store.close()
        if self.client is not None:
            self.client.close()
        self.client = Client(target)
        self.client.register(self.memory)
        space = space_of(self.engine, self.space_name, durability=Durability.SYNC)
        self.space = self.client.open_space(dataclasses.replace(space, floor_bits=floor_bits))
        self.store = PrefixStore(self.engine, self.space, memory=self.memory)
        return {"space": self.space_name}

    def prompt(self, start: int, count: int) -> dict[str, Any]:
        tokens = self.engine.tokenize(inputs.king_james(), start + count)
        if len(tokens) < start + count:
            raise RuntimeError(f"the text has only {len(tokens)} tokens")
        return {"tokens": tokens[start:]}

    def run(
        self,
        tokens: list[int],
        reuse: bool,
        store: bool,
        steps: int,
        swap: list[int] | None = None,
    ) -> dict[str, Any]:
        """Answers a prompt. Milliseconds, from the request's arrival where not said otherwise:

        ttft_ms, and of it match_ms, fetch_ms, restore_ms, prefill_ms; block_ms, when each
        block was computed and handed over; drain_ms, how much longer storing took
        after the last step. hit_tokens, possible_tokens, fetched_bytes, levels, planes,
        misses;
        digests: SHA-256 of the logits of each step; tokens: the ids chosen; stored: totals.
        """
        started = time.perf_counter()
        found = self.store.fetch(tokens) if reuse else None
        blocks = found.blocks if found else []
        if swap:
            blocks[swap[0]], blocks[swap[1]] = blocks[swap[1]], blocks[swap[0]]
        restoring = time.perf_counter()
        if blocks:
            start = self.engine.restore(blocks)
        else:
            self.engine.clear()
            start = 0
        decoding = time.perf_counter()
        block_ms: list[float] = []

        def on_block(index: int) -> None:
            if store:
                self.store.store(tokens, index)
            block_ms.append(_milliseconds(started))

        logits = self.engine.prefill(tokens, start, on_block)
        answer = {
            "ttft_ms": _milliseconds(started),
            "prefill_ms": _milliseconds(decoding),
            "restore_ms": round((decoding - restoring) * 1e3, 3),
            "block_ms": block_ms,
            "hit_tokens": start,
            "possible_tokens": self._possible(tokens),
        }
        if found:
            answer |= {
                "match_ms": round(found.match_seconds * 1e3, 3),
                "fetch_ms": round(found.fetch_seconds * 1e3, 3),
                "fetched_bytes": found.fetched_bytes,
                "levels": found.levels,
                "planes": found.planes,
                "misses": found.misses,
                "fetch_error": found.error,
            }
        answer |= self._generate(logits, len(tokens), steps)
        if store:
            drained = time.perf_counter()
            answer["stored"] = dataclasses.asdict(self.store.drain())
            answer["drain_ms"] = _milliseconds(drained)
            answer["usage_bytes"] = self.space.usage().bytes
        return answer

    def score(self, position: int, tokens: list[int]) -> dict[str, Any]:
        self.engine.truncate(position)
        found = self.engine.log_likelihoods(tokens, position)
        return {"mean_log_likelihood": float(found.mean())}

    def usage(self) -> dict[str, Any]:
        _, usage = self.client.space_info(self.space_name)
        return {"disk_bytes": sum(usage.level_bytes[2:])}

    def fidelity(self, tokens: list[int]) -> dict[str, Any]:
        """codec, bits_per_value (of all), mean_error and largest_error of the parts of a
        prompt's whole blocks; parts, and of them encoded_parts.
        """
        parts = [(group, 0, 0) for group in range(len(self.engine.groups))]
        said = [read.fidelity for read in self.space.get(self.store.keys(tokens), parts=parts)]
        encoded = [each for each in said if each is not None]
        errors = [each.error for each in encoded] or [0.0]
        bits = [each.bits_per_value for each in encoded] or [0.0]
        return {
            "parts": len(said),
            "encoded_parts": len(encoded),
            "codec": encoded[0].codec if encoded else "exact",
            "bits_per_value": sum(bits) / len(bits),
            "mean_error": sum(errors) / len(errors),
            "largest_error": max(errors),
        }

    def payload(self, index: int) -> dict[str, Any]:
        """Pieces of block `index` by group: [offset, hex], spread over the payload."""
        pieces = {}
        for name, data in self.engine.save_block(index).items():
            offsets = [(2 * i + 1) * data.size // (2 * PIECES) for i in range(PIECES)]
            pieces[name] = [[at, data[at : at + PIECE_BYTES].tobytes().hex()] for at in offsets]
        return pieces

    def save_file(self, path: str, tokens: list[int]) -> dict[str, Any]:
        self.engine.truncate(len(tokens))
        return {"bytes": self.engine.save_state_file(pathlib.Path(path), tokens)}

    def run_file(self, path: str, tokens: list[int], steps: int) -> dict[str, Any]:
        started = time.perf_counter()
        restored = self.engine.load_state_file(pathlib.Path(path))
        if restored != tokens[: len(restored)]:
            raise RuntimeError("the state file is of another prompt")
        loaded = _milliseconds(started)
        logits = self.engine.prefill(tokens, len(restored))
        answer = {
            "ttft_ms": _milliseconds(started),
            "restore_ms": loaded,
            "hit_tokens": len(restored),
            "possible_tokens": self._possible(tokens),
        }
        return answer | self._generate(logits, len(tokens), steps)

    def _possible(self, tokens: list[int]) -> int:
        """Tokens of the whole blocks that may be reused: all but the last token."""
        step = self.engine.options.block_tokens
        return (len(tokens) - 1) // step * step

    def _generate(self, logits: Any, position: int, steps: int) -> dict[str, Any]:
        """Takes the likeliest token each time; the first step's logits are the prompt's."""
        digests, chosen = [], []
        for step in range(steps):
            digests.append(hashlib.sha256(logits.tobytes()).hexdigest())
            chosen.append(int(logits.argmax()))
            if step + 1 < steps:
                logits = self.engine.logits([chosen[-1]], position + step)
        return {"digests": digests, "tokens": chosen}


def _milliseconds(since: float) -> float:
    return round((time.perf_counter() - since) * 1e3, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-file", type=pathlib.Path, required=True)
    parser.add_argument("--space", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context-tokens", type=int, required=True)
    parser.add_argument("--block-tokens", type=int, required=True)
    arguments = parser.parse_args()

    # Answers only on what was standard output; whatever a library prints is log.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    started = time.perf_counter()
    engine = LlamaCpp(
        EngineOptions(
            arguments.model_file,
            context_tokens=arguments.context_tokens,
            block_tokens=arguments.block_tokens,
            threads=arguments.threads,
        )
    )
    process = EngineProcess(engine, arguments.space)
    operations = {
        name: getattr(process, name)
        for name in (
            "connect", "prompt", "run", "payload", "save_file", "run_file", "score", "usage",
            "fidelity",
        )
    }
    ready = {
        "groups": [dataclasses.asdict(group) for group in engine.groups],
        "fingerprint": engine.fingerprint,
        "load_ms": _milliseconds(started),
    }
    print(json.dumps(ready), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = operations[request.pop("op")](**request)
        except Exception as error:  # goes to the runner, which ends the demo
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
