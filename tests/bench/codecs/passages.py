#!/usr/bin/env python3
"""Embeddings of real passages, and of questions for them -> a folder of float32 files.

Passages of the King James Bible, 48 words each, through all-MiniLM-L6-v2. A
question is 12 words in a row out of the middle of a passage, which is its
answer. Calibration passages come from another part of the text.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "deploy" / "demo"))

import inputs  # noqa: E402
from sentence_encoder import SentenceEncoder  # noqa: E402

PASSAGE_WORDS = 48
QUESTION_WORDS = 12
PASSAGES = 3072
CALIBRATION = 1024
SEED = 5
# More than so many passages have.
TEXT_BYTES = 1_300_000


def passages_of(text: str) -> list[list[str]]:
    """Words, without the names of the verses that lines begin with."""
    words = [word for line in text.splitlines() for word in line.partition(" ")[2].split()]
    return [words[i : i + PASSAGE_WORDS]
            for i in range(0, len(words) - PASSAGE_WORDS, PASSAGE_WORDS)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    passages = passages_of(inputs.king_james(TEXT_BYTES).decode("ascii"))
    if len(passages) < PASSAGES + CALIBRATION:
        raise RuntimeError(f"{len(passages)} passages, not {PASSAGES + CALIBRATION}")
    held_out = passages[:PASSAGES]
    calibration = passages[PASSAGES : PASSAGES + CALIBRATION]
    noise = np.random.default_rng(SEED)
    begins = noise.integers(0, PASSAGE_WORDS - QUESTION_WORDS, PASSAGES)
    questions = [words[b : b + QUESTION_WORDS] for words, b in zip(held_out, begins)]
    encoder = SentenceEncoder()
    # The last is there only if all are.
    for name, texts in (("calibration", calibration), ("questions", questions),
                        ("passages", held_out)):
        encoder.encode([" ".join(words) for words in texts]).tofile(options.out / f"{name}.f32")
    return 0


if __name__ == "__main__":
    sys.exit(main())
