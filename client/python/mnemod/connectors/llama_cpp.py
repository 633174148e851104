"""An inference engine on llama.cpp whose KV cache can be saved in blocks.

`LlamaCpp` decodes a prompt in batches of one block, hands out the state of each
block as soon as it is computed, and restores blocks into an empty cache so
that what follows is computed from the very same bits.

How a block is taken: its cells are shared with a second sequence, the state of
that sequence is read, and the sequence is dropped; nothing is copied inside
llama.cpp. Restoring goes the other way. This needs a unified cache with room
for two sequences.

When logits are bit-equal to those of a run that computed everything: with the
same fingerprint, and with the tokens after the restored ones decoded in the
same batches. So restore whole blocks only, at most all but the last token, and
call `prefill` with the same prompt.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import hashlib
import os
import pathlib
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from ..gguf import read_metadata
from ..gguf_space import layer_shapes
from ..spaces import GroupKind, Rope
from . import llama_library
from .llama_state import (
    STATE_FORMAT_VERSION,
    Buffer,
    Bytes,
    CacheRows,
    GroupLayout,
    build_state,
    parse_state,
)

Logits = npt.NDArray[np.float32]

FULL, WINDOW = "full", "window"

# Logits of so many tokens are held at once: 34 MB of 262,144 words.
_SCORED_AT_ONCE = 32

# ggml types that a KV cache may have, as a store names them, with their bytes.
_DTYPES = {0: ("f32", 4), 1: ("f16", 2), 30: ("bf16", 2)}

_MAIN, _SCRATCH = 0, 1  # sequences


def _file_digest(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """How to load a model.

    Attributes:
      model_path: a GGUF file.
      context_tokens: cells of the cache; prompt and generated tokens together.
      block_tokens: tokens of a block, and of a batch.
      threads: of the matrix products; part of the fingerprint.
    """

    model_path: pathlib.Path
    context_tokens: int = 4608
    block_tokens: int = 256
    threads: int = 2

    def validate(self) -> None:
        """Raises ValueError naming the field and its range."""
        if not 1 <= self.block_tokens <= 4096:
            raise ValueError(f"block_tokens is {self.block_tokens}, expected 1 to 4096")
        least, most = self.block_tokens, 1 << 20
        if not least <= self.context_tokens <= most:
            raise ValueError(f"context_tokens is {self.context_tokens}, expected {least} to {most}")
        if not 1 <= self.threads <= 256:
            raise ValueError(f"threads is {self.threads}, expected 1 to 256")


@dataclasses.dataclass(frozen=True)
class KvGroup:
    """Layers that behave alike, as a space declares them.

    Attributes:
      name: FULL or WINDOW.
      window_tokens: how far the group attends; 0 without bound.
      layers: how many.
      kv_heads, k_dimension, v_dimension: of every layer of the group.
      dtype: "f32", "f16" or "bf16".
      block_bytes: payload of one block: layers x [K [tokens, heads, dim], V [...]].
      blocks_needed: how many of the last blocks of a prefix must be restored;
        0 means all.
    """

    name: str
    window_tokens: int
    layers: int
    kv_heads: int
    k_dimension: int
    v_dimension: int
    dtype: str
    block_bytes: int
    blocks_needed: int


class LlamaCpp:
    """One model with one context. Not thread-safe, but decoding releases the GIL."""

    def __init__(self, options: EngineOptions) -> None:
        """Loads the model and computes one token, which warms up and shows the layout.

        Raises:
          ValueError: an option out of range; a cache that can't be saved in blocks.
          RuntimeError: the library or the model can't be loaded.
        """
        options.validate()
        self.options = options
        self._model: Any = None
        self._context: Any = None
        self._batch: Any = None
        self._library, self._version = llama_library.load()
        try:
            self._load()
            self._layouts = self._learn_layouts()
            self.groups = self._declare_groups()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Frees the model and its cache. Idempotent."""
        if self._batch is not None:
            self._library.llama_batch_free(self._batch)
        if self._context:
            self._library.llama_free(self._context)
        if self._model:
            self._library.llama_model_free(self._model)
        self._batch = self._context = self._model = None

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @functools.cached_property
    def fingerprint(self) -> Dict[str, str]:
        """Whatever must agree for blocks to be interchangeable, bit for bit.

        Keys: weights_digest, quantization, kv_cache_dtype, state_format. Threads
        and instruction sets are in state_format, because sums depend on them.
        The first use reads the whole model file.
        """
        description = ctypes.create_string_buffer(128)
        self._library.llama_model_desc(self._model, description, len(description))
        processor = hashlib.sha256(self._library.llama_print_system_info()).hexdigest()[:16]
        options = self.options
        return {
            "weights_digest": f"sha256:{_file_digest(self.options.model_path)}",
            "quantization": description.value.decode(errors="replace"),
            "kv_cache_dtype": self.groups[0].dtype,
            "state_format": (
                f"llama.cpp ({self._version}), sequence state {STATE_FORMAT_VERSION}, "
                f"flash attention, batch {options.block_tokens}, threads {options.threads}, "
                f"processor {processor}"
            ),
        }

    @functools.cached_property
    def ropes(self) -> Dict[str, Rope]:
        """By name of a group, how positions turned its keys, as the model file says."""
        layers = layer_shapes(read_metadata(self.options.model_path))
        return {
            WINDOW if shape.kind is GroupKind.WINDOW else FULL: shape.rope
            for layer in layers
            for shape in layer
            if shape.rope is not None
        }

    def tokenize(self, text: bytes, limit: int) -> List[int]:
        """The first `limit` token ids of UTF-8 `text`, with the model's own start token.

        Raises: RuntimeError if the text is longer than the tokenizer takes.
        """
        capacity = len(text) + 16  # a token is at least one byte, but for the special ones
        out = (ctypes.c_int32 * capacity)()
        count = self._library.llama_tokenize(
            self._vocabulary, text, len(text), out, capacity, True, False
        )
        if count < 0:
            raise RuntimeError(f"llama_tokenize needs room for {-count} tokens, not {capacity}")
        return list(out[: min(count, limit)])

    def clear(self) -> None:
        """Empties the cache, contents included."""
        self._library.llama_memory_clear(self._memory, True)

    def decode(self, tokens: Sequence[int], position: int) -> None:
        """Decodes one batch of 1 to block_tokens tokens from `position` on.

        Raises:
          ValueError: an empty or too large batch, or a token out of range.
          RuntimeError: llama.cpp failed, for example because the cache is full.
        """
        self._decode(tokens, position, False)

    def logits(self, tokens: Sequence[int], position: int) -> Logits:
        """As `decode`; returns float32 [vocabulary] of the last token, a copy."""
        self._decode(tokens, position, True)
        address = self._library.llama_get_logits_ith(self._context, -1)
        return np.array((ctypes.c_float * self._vocabulary_size).from_address(address), np.float32)

    def log_likelihoods(self, tokens: Sequence[int], position: int) -> npt.NDArray[np.float64]:
        """Decodes `tokens` from `position` on, and says how likely each was behind those
        before it: float64 [len(tokens) - 1], natural logarithms, from the second on.

        Raises: as `decode`, for each batch.
        """
        found = []
        step = min(self.options.block_tokens, _SCORED_AT_ONCE)
        for begin in range(0, len(tokens), step):
            piece = tokens[begin : begin + step]
            self._decode(piece, position + begin, True, every=True)
            following = tokens[begin + 1 : begin + 1 + len(piece)]
            for i, token in enumerate(following):
                address = self._library.llama_get_logits_ith(self._context, i)
                row = np.array(
                    (ctypes.c_float * self._vocabulary_size).from_address(address), np.float64
                )
                largest = row.max()
                found.append(row[token] - largest - np.log(np.exp(row - largest).sum()))
        return np.array(found)

    def prefill(
        self,
        tokens: Sequence[int],
        start: int = 0,
        on_block: Optional[Callable[[int], None]] = None,
    ) -> Logits:
        """Decodes tokens[start:] in batches that begin at multiples of block_tokens.

        `start` must be such a multiple, so that batches are those of a run from
        0. `on_block(index)` is called after each whole block.

        Returns: float32 [vocabulary], the logits of the last token.

        Raises: as `decode`; ValueError if start is not a multiple or is at the end.
        """
        step = self.options.block_tokens
        if start % step or not 0 <= start < len(tokens):
            raise ValueError(f"start is {start}, expected a multiple of {step} below {len(tokens)}")
        logits = np.empty(0, np.float32)
        for begin in range(start, len(tokens), step):
            end = min(begin + step, len(tokens))
            if end == len(tokens):
                logits = self.logits(tokens[begin:end], begin)
            else:
                self.decode(tokens[begin:end], begin)
            if on_block is not None and end - begin == step:
                on_block(begin // step)
        return logits

    def save_block(self, index: int) -> Dict[str, Bytes]:
        """The state of block `index`, which must have been decoded.

        Returns: for each group its payload, uint8 [block_bytes]; copies.

        Raises: ValueError if the block is not in the cache.
        """
        step = self.options.block_tokens
        library = self._library
        library.llama_memory_seq_cp(self._memory, _MAIN, _SCRATCH, index * step, (index + 1) * step)
        try:
            state = parse_state(self._read_state(_SCRATCH), self._layouts)
        finally:
            library.llama_memory_seq_rm(self._memory, _SCRATCH, -1, -1)
        expected = self._positions(index)
        payloads: Dict[str, Bytes] = {}
        for group, rows in zip(self.groups, state.caches):
            if rows.payload is None or not np.array_equal(rows.positions, expected):
                raise ValueError(f"block {index} is not whole in the cache of group {group.name}")
            payloads[group.name] = rows.payload
        return payloads

    def restore(self, blocks: Sequence[Mapping[str, Optional[Buffer]]]) -> int:
        """Puts blocks 0, 1, ... into the cache, which is emptied first.

        Each block maps a group's name to its payload. A window group may be
        absent from all but the last `blocks_needed` blocks; its cells are taken
        all the same, filled with zeros that attention never reads (see
        `llama_state.build_state`).

        Returns: the tokens restored, a multiple of block_tokens.

        Raises:
          ValueError: a payload that is missing or of the wrong size; the cache
            is empty then.
          RuntimeError: llama.cpp refused the state; the cache is empty then.
        """
        self.clear()
        try:
            for index, block in enumerate(blocks):
                self._restore_block(index, len(blocks), block)
        except (ValueError, RuntimeError):
            self.clear()
            raise
        finally:
            self._library.llama_memory_seq_rm(self._memory, _SCRATCH, -1, -1)
        return len(blocks) * self.options.block_tokens

    def save_state_file(self, path: pathlib.Path, tokens: Sequence[int]) -> int:
        """llama.cpp's own file of the whole sequence; answers its bytes.

        Raises: RuntimeError if it can't be written.
        """
        ids = (ctypes.c_int32 * len(tokens))(*tokens)
        written = int(
            self._library.llama_state_seq_save_file(
                self._context, os.fsencode(path), _MAIN, ids, len(tokens)
            )
        )
        if written == 0:
            raise RuntimeError(f"llama_state_seq_save_file: {llama_library.last_error()}")
        return written

    def load_state_file(self, path: pathlib.Path) -> List[int]:
        """Restores what `save_state_file` wrote into an emptied cache; answers its tokens.

        Raises: RuntimeError if it can't be read.
        """
        self.clear()
        capacity = self.options.context_tokens
        ids, count = (ctypes.c_int32 * capacity)(), ctypes.c_size_t()
        read = self._library.llama_state_seq_load_file(
            self._context, os.fsencode(path), _MAIN, ids, capacity, ctypes.byref(count)
        )
        if read == 0:
            raise RuntimeError(f"llama_state_seq_load_file: {llama_library.last_error()}")
        return list(ids[: count.value])

    def truncate(self, tokens: int) -> None:
        """Drops all cells from position `tokens` on."""
        self._library.llama_memory_seq_rm(self._memory, _MAIN, tokens, -1)

    # --- the rest is private -------------------------------------------------

    def _decode(
        self, tokens: Sequence[int], position: int, want_logits: bool, every: bool = False
    ) -> None:
        count, top = len(tokens), self._vocabulary_size - 1
        if not 1 <= count <= self.options.block_tokens:
            raise ValueError(f"a batch of {count} tokens, not 1 to {self.options.block_tokens}")
        if min(tokens) < 0 or max(tokens) > top:
            raise ValueError(f"token ids {min(tokens)} to {max(tokens)}, not within 0 and {top}")
        batch = self._batch
        batch.n_tokens = count
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = _MAIN
            batch.logits[i] = want_logits and (every or i == count - 1)
        status = self._library.llama_decode(self._context, batch)
        if status != 0:
            raise RuntimeError(
                f"llama_decode at {position} answered {status}: {llama_library.last_error()}"
            )

    def _load(self) -> None:
        library, options = self._library, self.options
        model_params = library.llama_model_default_params()
        model_params.n_gpu_layers = 0
        path = os.fsencode(options.model_path)
        self._model = library.llama_model_load_from_file(path, model_params)
        if not self._model:
            raise RuntimeError(f"cannot load {options.model_path}: {llama_library.last_error()}")
        self._vocabulary = library.llama_model_get_vocab(self._model)
        self._vocabulary_size = library.llama_vocab_n_tokens(self._vocabulary)
        params = library.llama_context_default_params()
        params.n_ctx = options.context_tokens
        params.n_batch = params.n_ubatch = options.block_tokens
        params.n_seq_max = 2
        params.n_threads = params.n_threads_batch = options.threads
        params.flash_attn_type = 1
        params.type_k = params.type_v = 1  # f16
        params.no_perf = params.swa_full = params.kv_unified = True
        self._context = library.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError(f"cannot make a context: {llama_library.last_error()}")
        batch_tokens = library.llama_n_ubatch(self._context)
        sequences = library.llama_n_seq_max(self._context)
        if (batch_tokens, sequences) != (options.block_tokens, 2):
            raise RuntimeError(f"got batches of {batch_tokens} and {sequences} sequences instead")
        self._memory = library.llama_get_memory(self._context)
        self._batch = library.llama_batch_init(options.block_tokens, 0, 1)

    def _learn_layouts(self) -> Tuple[GroupLayout, ...]:
        """Reads the layout from the state of a token, and proves that it can be rebuilt."""
        self.logits([0], 0)
        data = self._read_state(_MAIN)
        self.clear()
        state = parse_state(data)
        if not np.array_equal(build_state(state.layouts, state.sequence, state.caches), data):
            raise ValueError("a state rebuilt from its parts differs from the state")
        return state.layouts

    def _declare_groups(self) -> Tuple[KvGroup, ...]:
        library, step = self._library, self.options.block_tokens
        window = library.llama_model_n_swa(self._model)
        heads = library.llama_model_n_head_kv(self._model)
        names = [(FULL, 0)] if len(self._layouts) == 1 else [(FULL, 0), (WINDOW, window)]
        if len(self._layouts) > 2 or (len(self._layouts) == 2 and window <= 0):
            raise ValueError(f"{len(self._layouts)} caches with a window of {window}: unknown form")
        groups = []
        for (name, window_tokens), layout in zip(names, self._layouts):
            rows = layout.layers[0]
            if any(layer != rows for layer in layout.layers) or rows.k_type != rows.v_type:
                raise ValueError(f"the layers of group {name} differ, or the types of K and V")
            if rows.k_type not in _DTYPES:
                raise ValueError(f"ggml type {rows.k_type} of group {name} is not a plain number")
            dtype, width = _DTYPES[rows.k_type]
            groups.append(
                KvGroup(
                    name=name,
                    window_tokens=window_tokens,
                    layers=len(layout.layers),
                    kv_heads=heads,
                    k_dimension=rows.k_row_bytes // width // heads,
                    v_dimension=rows.v_row_bytes // width // heads,
                    dtype=dtype,
                    block_bytes=step * layout.token_bytes(),
                    blocks_needed=-(-window_tokens // step),
                )
            )
        return tuple(groups)

    def _positions(self, index: int) -> npt.NDArray[np.int32]:
        step = self.options.block_tokens
        return np.arange(index * step, (index + 1) * step, dtype=np.int32)

    def _read_state(self, sequence: int) -> Bytes:
        size = self._library.llama_state_seq_get_size(self._context, sequence)
        data = np.empty(size, np.uint8)
        written = self._library.llama_state_seq_get_data(
            self._context, data.ctypes.data, size, sequence
        )
        if size == 0 or written != size:
            raise RuntimeError(
                f"a state of {size} bytes, {written} written: {llama_library.last_error()}"
            )
        return data

    def _restore_block(self, index: int, count: int, block: Mapping[str, Optional[Buffer]]) -> None:
        positions = self._positions(index)
        caches = []
        for group in self.groups:
            payload = block.get(group.name)
            needed = group.blocks_needed or count
            if payload is None and index >= count - needed:
                raise ValueError(f"block {index} of {count} has no payload for group {group.name}")
            rows = None if payload is None else np.frombuffer(payload, np.uint8)
            caches.append(CacheRows(positions, rows))
        data = build_state(self._layouts, _SCRATCH, caches)
        read = self._library.llama_state_seq_set_data(
            self._context, data.ctypes.data, data.size, _SCRATCH
        )
        if read != data.size:
            raise RuntimeError(
                f"a state of {data.size} bytes, {read} read: {llama_library.last_error()}"
            )
        self._library.llama_memory_seq_cp(
            self._memory, _SCRATCH, _MAIN, int(positions[0]), int(positions[-1]) + 1
        )
