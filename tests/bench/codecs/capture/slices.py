#!/usr/bin/env python3
"""Cuts the slices of tests/data/codecs from a capture, or compares them with one.

A slice is the first TOKENS tokens of two layers of a model over one book: K and
V as bf16 [layers, tokens, kv heads, dim], Q as bf16 [layers, queries, heads,
dim], little-endian. provenance.json beside them says where each is from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pathlib
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from attention_error import Captured  # noqa: E402

TOKENS = 1024
# Of each model two: Gemma's 4 attends to a window, its 11 to everything.
LAYERS = {"smollm2": (4, 20), "gemma": (4, 11)}
BOOKS = ("calibration", "heldout")
MAX_BYTES = 12 << 20
# Two machines' products differ by rounding, which 30 layers enlarge.
LEAST_CORRELATION = 0.9999

Words = npt.NDArray[np.uint16]


def to_bf16(values: npt.NDArray[np.float32]) -> Words:
    """Rounds to nearest even; values are finite."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def from_bf16(words: Words) -> npt.NDArray[np.float32]:
    return (words.astype(np.uint32) << 16).view(np.float32)


def cut(captured: Captured, layers: tuple[int, ...]) -> dict[str, Words]:
    queries = int(np.count_nonzero(captured.q_positions < TOKENS))
    return {
        "k": to_bf16(captured.k[list(layers), :TOKENS]),
        "v": to_bf16(captured.v[list(layers), :TOKENS]),
        "q": to_bf16(captured.q[list(layers), :queries]),
    }


def provenance(captured: Captured, layers: tuple[int, ...], parts: dict[str, Words]) -> Any:
    facts = captured.facts
    kept = ("model", "weights_digest", "text", "query_first", "query_stride", "heads", "kv_heads",
            "dim", "scale", "pairing", "logits_correlation_with_llama_cpp")  # fmt: skip
    return {
        **{key: facts[key] for key in kept},
        "tokens": TOKENS,
        "dtype": "bf16",
        "layers": [{"index": i, **facts["layers"][i]} for i in layers],
        "files": {
            name: {"shape": list(part.shape), "sha256": hashlib.sha256(part.tobytes()).hexdigest()}
            for name, part in parts.items()
        },
    }


def write(capture: pathlib.Path, into: pathlib.Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    said: dict[str, Any] = {}
    total = 0
    for model, layers in LAYERS.items():
        for book in BOOKS:
            captured = Captured(capture / model / book)
            parts = cut(captured, layers)
            for name, part in parts.items():
                part.tofile(into / f"{model}_{book}_{name}.bf16")
                total += part.nbytes
            said[f"{model}_{book}"] = provenance(captured, layers, parts)
    if total > MAX_BYTES:
        raise RuntimeError(f"slices of {total} bytes; at most {MAX_BYTES}")
    (into / "provenance.json").write_text(json.dumps(said, indent=1) + "\n")
    print(f"{total} bytes in {into}")


def compare(capture: pathlib.Path, slices: pathlib.Path) -> None:
    """Raises: RuntimeError if a slice is not from such a capture."""
    for model, layers in LAYERS.items():
        for book in BOOKS:
            for name, part in cut(Captured(capture / model / book), layers).items():
                stored = np.fromfile(slices / f"{model}_{book}_{name}.bf16", "<u2")
                same = float(np.mean(stored == part.ravel()))
                like = float(np.corrcoef(from_bf16(stored), from_bf16(part.ravel()))[0, 1])
                print(f"{model} {book} {name}: {same:.4f} equal, correlation {like:.7f}")
                if like < LEAST_CORRELATION:
                    raise RuntimeError(f"{model}_{book}_{name}.bf16 is not from this capture")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capture", type=pathlib.Path, required=True)
    parser.add_argument("--slices", type=pathlib.Path, required=True)
    parser.add_argument("--write", action="store_true", help="cut anew instead of comparing")
    arguments = parser.parse_args()
    (write if arguments.write else compare)(arguments.capture, arguments.slices)


if __name__ == "__main__":
    main()
