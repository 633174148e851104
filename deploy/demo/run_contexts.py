#!/usr/bin/env python3
"""A book is remembered twice, survives kill -9, and is found again by meaning.

Streams into mnemod

  1. the contextual hidden states of a model over a book of the King James
     Bible, at least 50,000 tokens of it, each verse's text as the payload of
     its tokens; the daemon is killed with -9 on the way, twice;
  2. an embedding of each passage of the same book by a sentence encoder;

and then asks: passages for questions, and the tokens nearest to a token of the
book. Shows what came back as text, with scores, levels and times; holds every
answer against a search by plain numpy; lets summaries be made and the least
important runs go to the archive, and draws where all of it lies; writes flat
JSON and exits with 1 if a bar fails.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

import hidden_states
import inputs
from processes import Daemon, DemoError
from report import Progress
from sentence_encoder import SentenceEncoder

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "client" / "python"))

from mnemod import (  # noqa: E402
    Client,
    Context,
    Payload,
    RetryPolicy,
    TokenFilter,
    TokenKind,
    Tokens,
)

MIN_TOKENS = 50_000
MODEL = "smollm2"
# Verses of a passage; passages overlap by one verse.
PASSAGE_VERSES = 3
QUESTIONS = (
    "God makes light and divides it from the darkness",
    "a boat is built to survive a great flood",
    "people build a city and a tower that reaches to heaven",
    "a man wrestles until the breaking of the day",
    "a brother is sold as a slave to merchants",
    "seven years of plenty and seven years of famine",
)
HITS = 3
RUN_TOKENS = 2048  # what moves between levels at once
CHECKED_QUERIES = 64
MIN_RECALL = 0.95
SHOWN_LETTERS = 100
# A daemon that was killed is back within some seconds.
# L3 for less than half of the book, so that upkeep has something to move; RAM
# that holds all of it for searches.
SETTINGS = ("memory.total=2GiB", "disk.contexts=24MiB")
HIGH_WATERMARK = 0.95
UPKEEP_SECONDS = 60.0
PATIENT = RetryPolicy(attempts=100, initial_backoff=0.1, max_backoff=0.5)


class Book:
    """The text by verses, and which tokens each has."""

    def __init__(self, tokens: int, states: pathlib.Path, progress: Progress) -> None:
        """`states` is the folder that hidden_states.py fills."""
        facts = hidden_states.produce(
            MODEL, tokens, states, os.cpu_count() or 1,
            lambda done: progress.say(f"hidden states: {done} of {tokens} tokens"),
        )
        self.width: int = facts["width"]
        self.states: npt.NDArray[np.float32] = np.memmap(
            states / "states.f32", np.float32, "r", shape=(tokens, self.width)
        )
        self.ids = np.fromfile(states / "tokens.i32", np.int32)
        text = inputs.king_james(tokens * hidden_states.LETTERS_PER_TOKEN)
        with tempfile.TemporaryDirectory() as scratch:
            path = inputs.model_path(inputs.MODELS[MODEL], pathlib.Path(scratch))
            model = hidden_states.StateModel(path, 1)
            try:
                verses = self._split(model, text, tokens)
            finally:
                model.close()
        self.verses: list[str] = [verse for verse, _ in verses]
        ends = np.cumsum([count for _, count in verses])
        self.first_tokens = [int(end) - count for end, (_, count) in zip(ends, verses)]
        self.token_counts = [count for _, count in verses]

    @staticmethod
    def _split(
        model: hidden_states.StateModel, text: bytes, tokens: int
    ) -> list[tuple[str, int]]:
        """Each verse, and how many tokens it has; the last one may be cut."""
        verses = []
        left = tokens
        for line in text.splitlines(keepends=True):
            count = min(len(model.tokenize(line)), left)
            verses.append((line.decode("ascii").strip(), count))
            left -= count
            if left == 0:
                return verses
        raise DemoError(f"the text ends {left} tokens early")


class Demo:
    """One run. `facts` fill up as it goes."""

    def __init__(self, arguments: argparse.Namespace, scratch: pathlib.Path) -> None:
        self.arguments = arguments
        self.scratch = scratch
        self.data_dir = scratch / "data"
        self.data_dir.mkdir()
        self.progress = Progress()
        self.facts: dict[str, Any] = {"model": inputs.MODELS[MODEL].title}
        self.daemon: Daemon | None = None
        # The kernel ends a child with the thread that made it, so that thread has
        # to live as long as the demo: gRPC's, which asks for tokens, does not.
        self._starter = concurrent.futures.ThreadPoolExecutor(1)

    def start_daemon(self) -> None:
        self.daemon = self._starter.submit(self._make_daemon).result()

    def _make_daemon(self) -> Daemon:
        return Daemon(
            self.arguments.mnemod,
            self.data_dir,
            self.scratch / "mnemod.log",
            unix_socket=self.scratch / "socket",
            settings=SETTINGS,
        )

    def stop(self) -> None:
        if self.daemon is not None:
            self.daemon.kill()

    def stream(self, client: Client, book: Book) -> Any:
        """Streams the states, with the daemon killed at a third and at two thirds."""
        count = len(book.ids)
        context = client.create_context(
            Context("genesis", book.width, labels={"book": "genesis", "of": "tokens"})
        )
        kills = [count // 3, 2 * count // 3]

        def verses() -> Iterator[Tokens]:
            for first, size, text in zip(book.first_tokens, book.token_counts, book.verses):
                if kills and first >= kills[0]:
                    kills.pop(0)
                    self.progress.say(f"kill -9 at token {first}")
                    self.daemon.kill()
                    self.start_daemon()
                yield Tokens(
                    book.states[first : first + size],
                    ids=book.ids[first : first + size],
                    kinds=TokenKind.DOCUMENT,
                    payloads=[Payload(0, size, text.encode())],
                )

        started = time.monotonic()
        result = context.append(verses(), deadline=600.0)
        seconds = time.monotonic() - started
        self.facts |= {
            "tokens": result.next_position,
            "kills": 2,
            "repeated_batches": result.repeated_batches,
            "append_seconds": round(seconds, 3),
            "append_tokens_per_second": round(count / seconds),
        }
        return context

    def check_stream(self, context: Any, book: Book) -> None:
        """Every acknowledged token is there, once, as fp16 keeps it."""
        position = 0
        wrong = 0
        for run in context.read():
            end = position + run.count
            stored = book.states[position:end].astype(np.float16).astype(np.float32)
            wrong += int((run.ids != book.ids[position:end]).sum())
            wrong += int((run.embeddings != stored).any(axis=1).sum())
            position = end
        self.facts |= {"tokens_read": position, "tokens_wrong": wrong}

    def await_upkeep(self, context: Any, tokens: int) -> None:
        """Until every whole chunk has its summary, and L3 is within its share."""
        started = time.monotonic()
        while not self._is_kept_up(tokens):
            if time.monotonic() - started > UPKEEP_SECONDS:
                raise self.daemon.failure(f"upkeep took more than {UPKEEP_SECONDS:.0f} s")
            time.sleep(0.05)
        self.facts |= {
            "summaries": context.describe().summaries,
            "runs_in_the_archive": int(self.daemon.metric('mnemo_context_runs{level="archive"}')),
        }

    def _is_kept_up(self, tokens: int) -> bool:
        metric = self.daemon.metric
        return (
            metric("mnemo_context_upkeep_waiting") == 0
            and metric("mnemo_context_upkeep_sweeping") == 0
            and metric("mnemo_context_runs") == tokens // RUN_TOKENS
            and metric('mnemo_context_run_bytes{level="l3_disk"}')
            <= HIGH_WATERMARK * metric("mnemo_context_l3_capacity_bytes")
        )

    def stream_passages(self, client: Client, book: Book, encoder: SentenceEncoder) -> Any:
        """One token for each passage, its text as the payload."""
        step = PASSAGE_VERSES - 1
        texts = [
            " ".join(verse.split(" ", 1)[-1] for verse in book.verses[i : i + PASSAGE_VERSES])
            for i in range(1, len(book.verses) - step, step)
        ]
        self.progress.say(f"encoding {len(texts)} passages")
        started = time.monotonic()
        self.passages = encoder.encode(texts)
        encoded = time.monotonic()
        context = client.create_context(
            Context("genesis-passages", encoder.width, labels={"book": "genesis", "of": "passages"})
        )
        context.append(
            Tokens(
                self.passages,
                kinds=TokenKind.DOCUMENT,
                payloads=[Payload(i, 1, text.encode()) for i, text in enumerate(texts)],
            )
        )
        self.facts |= {"passages": len(texts), "encode_seconds": round(encoded - started, 3)}
        return context

    def ask(self, context: Any, encoder: SentenceEncoder) -> None:
        """Prints the passages for each question."""
        queries = encoder.encode(list(QUESTIONS))
        for question, query in zip(QUESTIONS, queries):
            started = time.monotonic()
            result = context.search(query, k=HITS, payloads=True)
            took = (time.monotonic() - started) * 1e3
            print(f'\n"{question}"  {took:.1f} ms, {result.work.engine_us / 1e3:.1f} in the engine')
            for hit in result.hits[0]:
                print(f"  {hit.score:.3f}  {hit.level.name:4}  {_shown(hit.payload.data)}")

    def ask_tokens(self, context: Any, book: Book) -> None:
        """Prints the verses of the tokens nearest to the last token of a verse."""
        verse = next(i for i, text in enumerate(book.verses) if text.startswith("Ge6:14"))
        last = book.first_tokens[verse] + book.token_counts[verse] - 2
        elsewhere = TokenFilter(first_position=last + book.token_counts[verse])
        started = time.monotonic()
        result = context.search(book.states[last], k=HITS, where=elsewhere, payloads=True)
        took = (time.monotonic() - started) * 1e3
        print(f"\nTokens nearest to the end of: {_shown(book.verses[verse].encode())}  {took:.1f} ms")
        for hit in result.hits[0]:
            print(f"  {hit.score:.3f}  {hit.level.name:4}  {_shown(hit.payload.data)}")

    def measure(self, name: str, context: Any, base: npt.NDArray[np.float32]) -> None:
        """Recall at 10 against plain numpy, and how long a search takes."""
        chosen = np.random.default_rng(1).choice(len(base), CHECKED_QUERIES, replace=False)
        stored = np.array(base, np.float32).astype(np.float16).astype(np.float32)
        stored /= np.linalg.norm(stored, axis=1, keepdims=True)
        found = 0
        times = []
        for row in chosen:
            query = np.array(base[row], np.float32)
            scores = stored @ (query / np.linalg.norm(query))
            bound = np.partition(scores, -10)[-10]
            result = context.search(query, k=10)
            times.append(result.work.engine_us / 1e3)
            # Equal distances count.
            found += sum(scores[hit.position] >= bound - 1e-5 for hit in result.hits[0])
        self.facts |= {
            f"recall_at_10_{name}": round(found / (10 * CHECKED_QUERIES), 4),
            f"search_ms_p50_{name}": round(float(np.percentile(times, 50)), 3),
            f"search_ms_p99_{name}": round(float(np.percentile(times, 99)), 3),
        }

    def show_places(self) -> None:
        """What mnemoctl draws."""
        for name in ("genesis", "genesis-passages"):
            shown = subprocess.run(
                [self.arguments.mnemoctl, "--server", self.daemon.target, "context", "show", name],
                capture_output=True, text=True, check=True,
            )
            print("\n" + shown.stdout.rstrip())

    def failures(self) -> list[str]:
        """The bars that were missed."""
        facts = self.facts
        bars = {
            f"at least {MIN_TOKENS} tokens": facts["tokens"] >= MIN_TOKENS,
            "every token is there once": facts["tokens_read"] == facts["tokens"],
            "no token is another": facts["tokens_wrong"] == 0,
            "some runs went to the archive": facts["runs_in_the_archive"] > 0,
            "recall of tokens": facts["recall_at_10_tokens"] >= MIN_RECALL,
            "recall of passages": facts["recall_at_10_passages"] >= MIN_RECALL,
        }
        return [name for name, met in bars.items() if not met]

    def run(self) -> list[str]:
        """Everything in order; returns the bars that were missed."""
        self.progress.say("hidden states of the book: some minutes where they are not there yet")
        book = Book(self.arguments.tokens, self.arguments.states / MODEL, self.progress)
        self.facts["states_seconds"] = round(self.progress.seconds, 1)
        encoder = SentenceEncoder()
        self.start_daemon()
        with Client(self.daemon.socket_target, deadline=60.0, retry=PATIENT) as client:
            self.progress.say("streaming")
            tokens = self.stream(client, book)
            self.check_stream(tokens, book)
            self.await_upkeep(tokens, len(book.ids))
            passages = self.stream_passages(client, book, encoder)
            self.progress.say("searching")
            self.measure("tokens", tokens, book.states)
            self.measure("passages", passages, self.passages)
            self.progress.clear()
            self.ask(passages, encoder)
            self.ask_tokens(tokens, book)
            self.show_places()
        return self.failures()


def _shown(text: bytes) -> str:
    line = text.decode(errors="replace").replace("\n", " ")
    return line if len(line) <= SHOWN_LETTERS else line[: SHOWN_LETTERS - 3] + "..."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnemod", type=pathlib.Path, required=True)
    parser.add_argument("--mnemoctl", type=pathlib.Path, required=True)
    parser.add_argument("--states", type=pathlib.Path, required=True, help="kept for the next run")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=int, default=hidden_states.WINDOW * 26)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mnemo-demo-") as scratch:
        demo = Demo(arguments, pathlib.Path(scratch))
        with contextlib.ExitStack() as stack:
            stack.callback(demo.stop)
            try:
                missed = demo.run()
            except (DemoError, RuntimeError, subprocess.CalledProcessError) as error:
                print(f"demo-context: {error}", file=sys.stderr)
                return 1
    arguments.out.write_text(json.dumps(demo.facts, indent=1) + "\n")
    print()
    for name, value in demo.facts.items():
        print(f"{name:28} {value}")
    for name in missed:
        print(f"missed: {name}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
