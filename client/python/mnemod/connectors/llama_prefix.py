"""Prefixes of prompts on llama.cpp, kept in a mnemo space and fetched again.

    engine = LlamaCpp(EngineOptions(path))
    prefix = PrefixStore(engine, client.open_space(space_of(engine, "my-model")))
    found = prefix.fetch(tokens)
    start = engine.restore(found.blocks) if found.blocks else 0
    logits = engine.prefill(tokens, start, on_block=lambda i: prefix.store(tokens, i))

A daemon that is slow, gone or damaged costs time and never a request: what
can't be fetched is a miss, and what can't be stored is counted.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from ..blocks import Block, GetResult, Part, PutOutcome
from ..client import SpaceHandle
from ..errors import MnemoError
from ..keys import hash_chain
from ..memory import Memory
from ..spaces import DType, Durability, Fingerprint, Group, GroupKind, Space
from .llama_cpp import KvGroup, LlamaCpp
from .llama_state import Bytes

_DTYPES = {"f32": DType.F32, "f16": DType.F16, "bf16": DType.BF16}


def space_of(
    engine: LlamaCpp, name: str, *, durability: Durability = Durability.UNSPECIFIED
) -> Space:
    """The space for this engine: its groups as they are, and its fingerprint."""

    def group_of(group: KvGroup) -> Group:
        return Group(
            name=group.name,
            kind=GroupKind.WINDOW if group.window_tokens else GroupKind.FULL,
            layers=group.layers,
            kv_heads=group.kv_heads,
            k_dimension=group.k_dimension,
            v_dimension=group.v_dimension,
            dtype=_DTYPES[group.dtype],
            window_tokens=group.window_tokens,
            rope=engine.ropes.get(group.name),
        )

    return Space(
        name=name,
        tokens_per_block=engine.options.block_tokens,
        groups=tuple(group_of(group) for group in engine.groups),
        fingerprint=Fingerprint(**engine.fingerprint),
        durability=durability,
    )


@dataclasses.dataclass
class FetchedPrefix:
    """What was found of a prompt.

    `blocks` are for `LlamaCpp.restore`; each maps a group's name to its payload,
    uint8 [block_bytes]. `misses` are parts that were matched and then not there
    or damaged; `levels` and `planes` say how many parts lay where and came how; `error`
    is what went wrong otherwise, if anything did.
    """

    blocks: List[Dict[str, Bytes]] = dataclasses.field(default_factory=list)
    fetched_bytes: int = 0
    levels: Dict[str, int] = dataclasses.field(default_factory=dict)
    planes: Dict[str, int] = dataclasses.field(default_factory=dict)
    misses: List[str] = dataclasses.field(default_factory=list)
    match_seconds: float = 0.0
    fetch_seconds: float = 0.0
    error: str = ""


@dataclasses.dataclass
class StoreTotals:
    """What became of the parts given to `PrefixStore.store`."""

    stored_parts: int = 0
    stored_bytes: int = 0
    present_parts: int = 0
    failed_parts: int = 0
    error: str = ""


class PrefixStore:
    """Fetches and stores the blocks of one engine. For one thread, like the engine.

    Stores from a thread of its own; at most `waiting` blocks wait for it, and
    those beyond are counted as failed instead of holding up the engine. `memory`, which
    the client has registered, is where fetched blocks go as far as they have room in it:
    they are good until the next fetch. Blocks elsewhere are the caller's.
    """

    def __init__(
        self,
        engine: LlamaCpp,
        space: SpaceHandle,
        *,
        deadline: float = 10.0,
        lease: float = 30.0,
        waiting: int = 64,
        memory: Optional[Memory] = None,
    ) -> None:
        self._engine = engine
        self._space = space
        self._deadline = deadline
        self._lease = lease
        self._memory = memory
        self._taken = 0  # bytes of it, by this fetch
        self._totals = StoreTotals()
        self._queue: queue.Queue[Optional[List[Block]]] = queue.Queue(waiting)
        self._keys: Tuple[Tuple[int, ...], List[bytes]] = ((), [])
        self._writer = threading.Thread(target=self._write, name="mnemo-store", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Stores what waits, and ends the thread."""
        self._queue.put(None)
        self._writer.join()

    def keys(self, tokens: Sequence[int]) -> List[bytes]:
        """The keys of all whole blocks of a prompt."""
        if self._keys[0] != tuple(tokens):
            self._keys = (tuple(tokens), hash_chain(tokens, self._engine.options.block_tokens))
        return self._keys[1]

    def fetch(self, tokens: Sequence[int]) -> FetchedPrefix:
        """The longest prefix of `tokens` that is there, at most all but the last token.

        Never raises for what the daemon does: a failure is a shorter prefix.
        """
        usable = (len(tokens) - 1) // self._engine.options.block_tokens
        keys = self.keys(tokens)[:usable]
        found = FetchedPrefix()
        parts: Dict[Tuple[int, int], Bytes] = {}
        count = self._taken = 0
        try:
            while keys:
                started = time.perf_counter()
                match = self._space.match(keys, lease=self._lease, deadline=self._deadline)
                found.match_seconds += time.perf_counter() - started
                count = match.blocks
                if count == 0:
                    break
                failed = self._get(keys[:count], match.lease, parts, found)
                if not failed:
                    break
                # Shorter by at least one each time, so this ends.
                count, keys = 0, keys[: min(failed)]
        except MnemoError as error:
            count, found.error = 0, str(error)
        found.blocks = [
            {
                group.name: parts[index, g]
                for g, group in enumerate(self._engine.groups)
                if (index, g) in parts
            }
            for index in range(count)
        ]
        return found

    def store(self, tokens: Sequence[int], index: int) -> None:
        """Hands block `index`, just decoded, to the writer; never waits for the daemon."""
        keys = self.keys(tokens)
        payloads = self._engine.save_block(index)
        parent = keys[index - 1] if index else b""
        blocks = [
            Block(keys[index], payloads[group.name], Part(g), depth=index, parent=parent)
            for g, group in enumerate(self._engine.groups)
        ]
        try:
            self._queue.put_nowait(blocks)
        except queue.Full:
            self._totals.failed_parts += len(blocks)
            self._totals.error = "the writer is behind"

    def drain(self) -> StoreTotals:
        """Waits until all that was given to `store` ended; answers and resets the totals."""
        self._queue.join()
        totals, self._totals = self._totals, StoreTotals()
        return totals

    def _get(
        self,
        keys: Sequence[bytes],
        lease: int,
        parts: Dict[Tuple[int, int], Bytes],
        found: FetchedPrefix,
    ) -> Set[int]:
        """Reads what a prefix of these keys needs into `parts`; answers indexes that failed."""
        started = time.perf_counter()
        failed: Set[int] = set()
        groups = self._engine.groups
        for g, group in enumerate(groups):
            first = max(0, len(keys) - group.blocks_needed) if group.blocks_needed else 0
            wanted = [i for i in range(first, len(keys)) if (i, g) not in parts]
            memory = [self._buffer(group.block_bytes) for _ in wanted]
            results: List[GetResult] = (
                self._space.get(
                    [keys[i] for i in wanted],
                    parts=[(g, 0, 0)],
                    into=memory,
                    lease=lease if g == len(groups) - 1 else 0,
                    deadline=self._deadline,
                )
                if wanted
                else []
            )
            for index, result, buffer in zip(wanted, results, memory):
                if result.error is None:
                    parts[index, g] = buffer
                    found.fetched_bytes += buffer.nbytes
                    for counts, name in (
                        (found.levels, result.level.name),
                        (found.planes, result.plane.value),
                    ):
                        counts[name] = counts.get(name, 0) + 1
                else:
                    failed.add(index)
                    found.misses.append(f"block {index}, {group.name}: {result.error}")
        found.fetch_seconds += time.perf_counter() - started
        return failed

    def _buffer(self, size: int) -> Bytes:
        if self._memory is None or self._taken + size > self._memory.size:
            return np.empty(size, np.uint8)
        buffer = np.frombuffer(self._memory.view, np.uint8, size, self._taken)
        self._taken += size
        return buffer

    def _write(self) -> None:
        while True:
            blocks = self._queue.get()
            try:
                if blocks is None:
                    return
                self._put(blocks)
            finally:
                self._queue.task_done()

    def _put(self, blocks: Sequence[Block]) -> None:
        totals = self._totals
        try:
            results = self._space.put(blocks, deadline=self._deadline)
        except MnemoError as error:
            totals.failed_parts += len(blocks)
            totals.error = str(error)
            return
        for block, result in zip(blocks, results):
            if result.outcome is PutOutcome.STORED:
                totals.stored_parts += 1
                totals.stored_bytes += _size(block.data)
            elif result.outcome is PutOutcome.ALREADY_PRESENT:
                totals.present_parts += 1
            else:
                totals.failed_parts += 1
                totals.error = str(result.error or result.outcome.name)


def _size(data: Any) -> int:
    return memoryview(data).nbytes
