"""What the demo shows: progress on a terminal, and one table at the end."""

from __future__ import annotations

import dataclasses
import sys
import time


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table; None where there is nothing to say."""

    title: str
    ttft_ms: float
    hit_tokens: int
    possible_tokens: int
    fetched_bytes: int | None
    plane: str
    equal_steps: int | None
    steps: int


_HEADER = ("", "first token", "tokens hit", "fetched", "plane", "logits bit-equal")


def table(rows: list[Row]) -> str:
    """The rows as aligned text, first column to the left, figures to the right."""
    lines = [_HEADER] + [
        (
            row.title,
            f"{row.ttft_ms:,.0f} ms".replace(",", " "),
            f"{row.hit_tokens} of {row.possible_tokens}",
            "-" if row.fetched_bytes is None else f"{row.fetched_bytes / 1e6:.1f} MB",
            row.plane,
            "reference" if row.equal_steps is None else f"{row.equal_steps} of {row.steps}",
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )


class Progress:
    """One changing line on standard error; silent where that is no terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        if self._shown:
            elapsed = time.monotonic() - self._started
            sys.stderr.write(f"\r\033[K{elapsed:4.0f} s  {text}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started
