#!/usr/bin/env python3
"""Contextual token embeddings: the last hidden states of a demo model over real text.

Writes, into the folder OUT/MODEL,

  states.f32       float32 [tokens, width], in the order of the text
  tokens.i32       int32 [tokens]
  states.json      tokens, width, model, and how they were made

A window of WINDOW tokens is one sequence that begins anew, so that every state
has seen what stands before it in its window. A run that is cut short goes on at
the next window when it is started again with the same arguments.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import ctypes
import json
import multiprocessing
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "client" / "python"), str(ROOT / "deploy" / "demo")]

import inputs  # noqa: E402
from mnemod.connectors import llama_library  # noqa: E402

TOKENS = 65_536
WINDOW = 2_048
BATCH = 512
# A token of this text is at least so many letters on average.
LETTERS_PER_TOKEN = 6
_SEQUENCE = 0
_NO_POOLING = 0

_Windows = Callable[[list[list[int]]], Iterator[npt.NDArray[np.float32]]]


class StateModel:
    """A model that answers hidden states instead of logits. Not thread-safe."""

    def __init__(self, path: pathlib.Path, threads: int) -> None:
        """Raises: RuntimeError if the library or the model can't be loaded."""
        self._model: Any = None
        self._context: Any = None
        self._batch: Any = None
        self._library, _ = llama_library.load()
        library = self._library
        library.llama_model_n_embd.argtypes = [ctypes.c_void_p]
        library.llama_model_n_embd.restype = ctypes.c_int32
        library.llama_get_embeddings.argtypes = [ctypes.c_void_p]
        library.llama_get_embeddings.restype = ctypes.POINTER(ctypes.c_float)
        model_params = library.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self._model = library.llama_model_load_from_file(os.fsencode(path), model_params)
        if not self._model:
            raise RuntimeError(f"cannot load {path}: {llama_library.last_error()}")
        params = library.llama_context_default_params()
        params.n_ctx = WINDOW
        params.n_batch = params.n_ubatch = BATCH
        params.n_seq_max = 1
        params.n_threads = params.n_threads_batch = threads
        params.embeddings = params.no_perf = params.swa_full = True
        params.pooling_type = _NO_POOLING
        self._context = library.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError(f"cannot make a context: {llama_library.last_error()}")
        self._batch = library.llama_batch_init(BATCH, 0, 1)
        self.width: int = library.llama_model_n_embd(self._model)

    def close(self) -> None:
        if self._batch is not None:
            self._library.llama_batch_free(self._batch)
        if self._context:
            self._library.llama_free(self._context)
        if self._model:
            self._library.llama_model_free(self._model)
        self._batch = self._context = self._model = None

    def tokenize(self, text: bytes) -> list[int]:
        vocabulary = self._library.llama_model_get_vocab(self._model)
        tokens = (ctypes.c_int32 * len(text))()
        count = self._library.llama_tokenize(
            vocabulary, text, len(text), tokens, len(text), False, False
        )
        if count < 0:
            raise RuntimeError(f"llama_tokenize answered {count}")
        return list(tokens[:count])

    def states(self, tokens: list[int]) -> npt.NDArray[np.float32]:
        """The states [tokens, width] of at most WINDOW tokens, as a sequence of its own."""
        memory = self._library.llama_get_memory(self._context)
        self._library.llama_memory_seq_rm(memory, _SEQUENCE, -1, -1)
        pieces = []
        for begin in range(0, len(tokens), BATCH):
            pieces.append(self._decode(tokens[begin : begin + BATCH], begin))
        return np.concatenate(pieces)

    def _decode(self, tokens: list[int], position: int) -> npt.NDArray[np.float32]:
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = _SEQUENCE
            batch.logits[i] = True
        status = self._library.llama_decode(self._context, batch)
        if status != 0:
            raise RuntimeError(f"llama_decode answered {status}: {llama_library.last_error()}")
        states = self._library.llama_get_embeddings(self._context)
        return np.ctypeslib.as_array(states, (len(tokens), self.width)).copy()


_worker: StateModel  # of a process of the pool


def _start_worker(path: pathlib.Path) -> None:
    global _worker
    _worker = StateModel(path, 1)


def _window_states(tokens: list[int]) -> npt.NDArray[np.float32]:
    return _worker.states(tokens)


def produce(
    name: str, count: int, folder: pathlib.Path, processes: int,
    progress: Callable[[int], None] = lambda tokens: None,
) -> dict[str, Any]:
    """Writes what is missing of the files of one model; returns what states.json says.

    Windows know nothing of each other, so each of `processes` works on one of its
    own: threads of one window wait for the slowest at every layer. `progress`
    hears how many tokens are written.

    Raises: RuntimeError if the model can't be loaded or the text is too short.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        path = inputs.model_path(inputs.MODELS[name], pathlib.Path(scratch))
        model = StateModel(path, 1)
        try:
            tokens = model.tokenize(inputs.king_james(count * LETTERS_PER_TOKEN))[:count]
            width = model.width
        finally:
            model.close()
        if len(tokens) < count:
            raise RuntimeError(f"the text has only {len(tokens)} tokens")
        window_bytes = WINDOW * width * 4
        with open(folder / "states.f32", "ab") as file:
            whole = min(file.tell() // window_bytes, count // WINDOW)
            file.truncate(whole * window_bytes)
            missing = [tokens[i : i + WINDOW] for i in range(whole * WINDOW, count, WINDOW)]
            done = whole * WINDOW
            with _pool(min(processes, len(missing)), path) as pool:
                for states in pool(missing):
                    states.tofile(file)
                    file.flush()
                    done += len(states)
                    progress(done)
    np.array(tokens, dtype=np.int32).tofile(folder / "tokens.i32")
    facts = {
        "model": inputs.MODELS[name].title,
        "tokens": count,
        "width": width,
        "window": WINDOW,
    }
    # Last, so that what has it is whole.
    (folder / "states.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


@contextlib.contextmanager
def _pool(processes: int, path: pathlib.Path) -> Iterator[_Windows]:
    """Answers the states of windows in their order."""
    if processes == 0:
        yield lambda windows: iter(())
        return
    # Forked, a process would share llama.cpp's state with this one.
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        processes, mp_context=spawn, initializer=_start_worker, initargs=(path,)
    ) as pool:
        yield lambda windows: pool.map(_window_states, windows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--model", choices=sorted(inputs.MODELS), default="smollm2")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if not 1 <= arguments.tokens <= 500_000:
        parser.error(f"--tokens is {arguments.tokens}, expected 1 to 500000")
    folder = arguments.out / arguments.model
    print(json.dumps(produce(arguments.model, arguments.tokens, folder, arguments.processes)))


if __name__ == "__main__":
    main()
