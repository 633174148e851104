#!/usr/bin/env python3
"""Captures K, V and Q of both demo models over real text.

Calibration and held-out text are different books of the King James Bible. For
each model and book a folder OUT/MODEL/SET holds

  k.f32, v.f32   float32 [layers, tokens, kv heads, dim]
  q.f32          float32 [layers, queries, heads, dim], of every QUERY_STRIDE-th token
  capture.json   the geometry, each layer's RoPE theta and window, where it is from

The forward pass is checked against llama.cpp's own before anything is written:
its likeliest token is among ours, and the logits are nearly the same. They cannot be equal, since
llama.cpp rounds activations to 8 bits before each product.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
import time
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[4]
sys.path[:0] = [str(ROOT / "client" / "python"), str(ROOT / "deploy" / "demo")]

import inputs  # noqa: E402
from forward import LayerState, Model  # noqa: E402
from mnemod.connectors.llama_cpp import EngineOptions, LlamaCpp  # noqa: E402
from weights import Weights  # noqa: E402

TOKENS = 4096
QUERY_STRIDE = 8
# Where a book begins.
BOOKS = {"calibration": b"\nGe1:1 ", "heldout": b"\nMat1:1 "}
TEXT_BYTES = 3_900_000
CHECKED_TOKENS = 600
LEAST_CORRELATION = 0.995
# llama.cpp's likeliest token must be among so many of ours.
LIKELIEST = 3


def _text(book: bytes) -> bytes:
    whole = inputs.king_james(TEXT_BYTES)
    at = whole.find(book)
    if at < 0:
        raise RuntimeError(f"the text has no {book!r}")
    return whole[at + 1 : at + 1 + inputs.TEXT_BYTES]


class Capture:
    """One model over one book, layer by layer onto disk."""

    def __init__(self, folder: pathlib.Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._files = {name: open(folder / f"{name}.f32", "wb") for name in "kvq"}

    def on_layer(self, index: int, state: LayerState) -> None:
        state.k.tofile(self._files["k"])
        state.v.tofile(self._files["v"])
        np.ascontiguousarray(state.q[QUERY_STRIDE - 1 :: QUERY_STRIDE]).tofile(self._files["q"])

    def finish(self, facts: dict[str, Any]) -> None:
        for file in self._files.values():
            file.close()
        (self._folder / "capture.json").write_text(json.dumps(facts, indent=1) + "\n")


def _check(model: Model, engine: LlamaCpp, tokens: list[int]) -> float:
    """Correlation of our logits with llama.cpp's. Raises RuntimeError if too low."""
    engine.clear()
    theirs = engine.prefill(tokens)
    ours = model.run(tokens, lambda _index, _state: None)
    correlation = float(np.corrcoef(ours, theirs)[0, 1])
    likeliest = np.argsort(ours)[-LIKELIEST:]
    if correlation < LEAST_CORRELATION or theirs.argmax() not in likeliest:
        raise RuntimeError(
            f"logits agree by {correlation:.5f}, not {LEAST_CORRELATION}; likeliest tokens "
            f"{likeliest}, llama.cpp's {theirs.argmax()}"
        )
    return correlation


def capture(name: str, out: pathlib.Path) -> None:
    scratch = out / "models"
    scratch.mkdir(parents=True, exist_ok=True)
    source = inputs.MODELS[name]
    path = inputs.model_path(source, scratch)
    model = Model(Weights(path))
    geometry = model.geometry
    engine = LlamaCpp(EngineOptions(path, context_tokens=1024))
    for book, start in BOOKS.items():
        started = time.monotonic()
        tokens = engine.tokenize(_text(start), TOKENS)
        if len(tokens) < TOKENS:
            raise RuntimeError(f"{book} has only {len(tokens)} tokens")
        correlation = _check(model, engine, tokens[:CHECKED_TOKENS])
        writer = Capture(out / name / book)
        model.run(tokens, writer.on_layer)
        writer.finish(
            {
                "model": source.title,
                "weights_digest": engine.fingerprint["weights_digest"],
                "text": f"King James Bible, Debian bible-kjv-text, from {start.decode().strip()}",
                "tokens": TOKENS,
                "query_first": QUERY_STRIDE - 1,
                "query_stride": QUERY_STRIDE,
                "queries": TOKENS // QUERY_STRIDE,
                "logits_correlation_with_llama_cpp": round(correlation, 6),
                **{k: v for k, v in dataclasses.asdict(geometry).items() if k != "layers"},
                "layers": [dataclasses.asdict(layer) for layer in geometry.layers],
            }
        )
        print(
            f"{name} {book}: {TOKENS} tokens, logits agree by {correlation:.5f}, "
            f"{time.monotonic() - started:.0f} s",
            flush=True,
        )
    engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--model", choices=sorted(inputs.MODELS), action="append")
    arguments = parser.parse_args()
    for name in arguments.model or sorted(inputs.MODELS):
        capture(name, arguments.out)


if __name__ == "__main__":
    main()
