#!/usr/bin/env python3
"""Draws build/bench/codecs.json: attention error over bits a value, as PNG.

Usage: plot.py FIGURES.json OUT.png
"""

import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

FAMILIES = {
    "KIVI": ("o", "tab:red", ["kivi2", "kivi4", "int8"]),
    "rotated": ("s", "tab:blue", [f"rotated{bits}" for bits in (1, 2, 3, 4, 5)]),
    "transform": ("D", "tab:purple", [f"transform{bits}" for bits in (1, 2, 3, 4, 5)]),
    "progressive": ("^", "tab:green", [f"progressive{bits}" for bits in (2, 3, 4, 5, 8)]),
}
MODELS = {"smollm2": "SmolLM2 135M", "gemma3": "Gemma 3 270M"}
BLOCKS = (256, 16)


def draw(axes, figures: dict[str, float], model: str, tokens: int) -> None:
    for family, (marker, color, codecs) in FAMILIES.items():
        at = [key for codec in codecs
              if f"{(key := f'{model}_{codec}_{tokens}')}_true_bits" in figures]
        bits = [figures[f"{key}_true_bits"] for key in at]
        axes.plot(bits, [figures[f"{key}_attention_error_mean"] for key in at],
                  marker=marker, color=color, label=f"{family}, mean")
        axes.plot(bits, [figures[f"{key}_attention_error_p99"] for key in at],
                  marker=marker, color=color, alpha=0.35, linestyle=":", label=f"{family}, p99")
    suffix = "" if tokens == 256 else f"_{tokens}"
    plans = [f"{model}_best_2bit{suffix}"] + [
        f"{model}_best_at_{baseline}{suffix}" for baseline in ("kivi2", "kivi4")]
    plans = [key for key in plans if f"{key}_true_bits" in figures]
    error = [figures.get(f"{key}_error", figures.get(f"{key}_attention_error_mean")) for key in plans]
    axes.plot([figures[f"{key}_true_bits"] for key in plans], error, marker="*", markersize=11,
              linestyle="none", color="black", label="mixed by layer, mean")
    axes.set_yscale("log")
    axes.set_title(f"{MODELS[model]}, {tokens} tokens a block")
    axes.set_xlabel("bits a value, everything stored counted")
    axes.grid(True, which="both", alpha=0.3)


def main() -> None:
    figures = json.loads(pathlib.Path(sys.argv[1]).read_text())
    # Only what was measured: a run may have had ONLY one model.
    models = [model for model in MODELS if f"{model}_int8_256_true_bits" in figures]
    plot, axes = pyplot.subplots(len(BLOCKS), len(models), figsize=(1 + 5 * len(models), 9),
                                 sharex=True, sharey=True, squeeze=False)
    for row, tokens in enumerate(BLOCKS):
        for column, model in enumerate(models):
            draw(axes[row][column], figures, model, tokens)
        axes[row][0].set_ylabel("relative error of the attention output")
    axes[0][0].legend(fontsize=8)
    plot.tight_layout()
    plot.savefig(sys.argv[2], dpi=100)


if __name__ == "__main__":
    main()
