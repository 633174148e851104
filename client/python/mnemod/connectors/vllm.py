"""vLLM's secondary tier: look-ups that never wait, jobs that run behind.

Not imported from vLLM: it has the shape of its SecondaryTierManager, whose
primary tier is a mapped file of rows.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum
import threading
import time
from typing import Any, Callable, Dict, List, Sequence, Set, Tuple

from ..blocks import Block, Part
from ..failopen import FailOpen

# A job's blocks: key and the memory of its row (a buffer or a strided array).
Rows = Sequence[Tuple[bytes, Any]]

GROUP_BYTES = 4


class Lookup(Enum):
    """What the scheduler is told of a key."""

    HIT = "hit"
    MISS = "miss"
    HIT_PENDING = "hit_pending"
    """Somebody is writing it."""
    RETRY = "retry"
    """Not known yet; it is being asked."""


def split_key(key: bytes) -> Tuple[bytes, int]:
    """An offload key's block hash and its 4-byte big-endian group index."""
    if len(key) <= GROUP_BYTES:
        raise ValueError(f"an offload key of {len(key)} bytes; a hash and 4 bytes of group")
    return key[:-GROUP_BYTES], int.from_bytes(key[-GROUP_BYTES:], "big")


class SecondaryTier:
    """Blocks of 16 tokens behind vLLM's primary tier, for one worker rank.

    `lookup` answers from what is known and takes no longer than a dictionary
    does: an unknown key is RETRY and is asked in the background, together with
    whatever else was asked meanwhile. A HIT holds a lease for `lease` seconds,
    until its load ends. A load that fails, fails its job alone, and the key is
    a MISS from then on. Thread-safe.
    """

    def __init__(
        self,
        engine: FailOpen,
        *,
        tp_rank: int = 0,
        pp_rank: int = 0,
        lease: float = 30.0,
        threads: int = 2,
        remembered: int = 65_536,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._rank = (tp_rank, pp_rank)
        self._lease = lease
        self._remembered = remembered
        self._clock = clock
        self._jobs_pool = ThreadPoolExecutor(threads, thread_name_prefix="mnemo-vllm")
        self._lookup_pool = ThreadPoolExecutor(1, thread_name_prefix="mnemo-vllm-lookup")
        self._lock = threading.Lock()
        # Key to what is known, until when, and the lease; guarded by _lock, as
        # all below.
        self._known: "OrderedDict[bytes, Tuple[Lookup, float, int]]" = OrderedDict()
        self._asked: Set[bytes] = set()
        # Those of `_asked` whose answer is on its way: asking twice would leave
        # a lease behind that nobody knows.
        self._flying: Set[bytes] = set()
        self._asking = False
        self._running: Dict[int, "Future[Any]"] = {}
        self._finished: List[Tuple[int, bool]] = []

    def lookup(self, key: bytes) -> Lookup:
        """What is known of the key. Never waits for the server."""
        with self._lock:
            known = self._known.get(key)
            if known is not None and self._clock() < known[1]:
                return known[0]
            if key in self._flying:
                return Lookup.RETRY
            self._asked.add(key)
            start = not self._asking
            self._asking = True
        if start:
            self._lookup_pool.submit(self._answer)
        return Lookup.RETRY

    def submit_store(self, job: int, rows: Rows) -> None:
        """Stores each row under its key, from where it lies."""
        self._submit(job, self._store, rows)

    def submit_load(self, job: int, rows: Rows) -> None:
        """Reads each key into its row."""
        self._submit(job, self._load, rows)

    def get_finished_jobs(self) -> List[Tuple[int, bool]]:
        """Jobs that ended since the last call, and whether all their blocks did."""
        with self._lock:
            finished, self._finished = self._finished, []
        return finished

    def drain_jobs(self) -> None:
        """Waits until no job runs."""
        while True:
            with self._lock:
                running = list(self._running.values())
            if not running:
                return
            for future in running:
                future.result()

    def close(self) -> None:
        """Ends the jobs and releases what is leased."""
        self._jobs_pool.shutdown(wait=True)
        self._lookup_pool.shutdown(wait=True)
        with self._lock:
            leases = {lease for _, _, lease in self._known.values() if lease}
            self._known.clear()
        for lease in leases:
            self._engine.release(lease)

    def _part(self, group: int) -> Part:
        return Part(group, *self._rank)

    def _answer(self) -> None:
        """Asks for all keys that were looked up meanwhile, until none are left."""
        while True:
            with self._lock:
                keys, self._asked = self._asked, set()
                self._flying = set(keys)
                if not keys:
                    self._asking = False
                    return
            for key in keys:
                try:
                    answer = self._ask(key)
                except Exception:  # a key that is none is a miss
                    answer = (Lookup.MISS, 1.0, 0)
                self._remember(key, *answer)

    def _ask(self, key: bytes) -> Tuple[Lookup, float, int]:
        block, group = split_key(key)
        # Each key is matched alone, so that its lease is its own.
        match = self._engine.match(
            [block],
            groups=[group],
            tp_ranks=[self._rank[0]],
            pp_ranks=[self._rank[1]],
            lease=self._lease,
        )
        if match.blocks and match.lease:
            return Lookup.HIT, match.lease_seconds * 0.8, match.lease
        # Without a lease it could be gone before it is read: not a hit.
        return (Lookup.HIT_PENDING if match.pending else Lookup.MISS), 0.05, 0

    def _remember(self, key: bytes, what: Lookup, seconds: float, lease: int) -> None:
        with self._lock:
            self._flying.discard(key)
            self._known[key] = (what, self._clock() + seconds, lease)
            self._known.move_to_end(key)
            while len(self._known) > self._remembered:
                self._known.popitem(last=False)

    def _submit(self, job: int, work: Callable[[Rows], bool], rows: Rows) -> None:
        with self._lock:
            future = self._jobs_pool.submit(self._run, job, work, rows)
            self._running[job] = future

    def _run(self, job: int, work: Callable[[Rows], bool], rows: Rows) -> None:
        try:
            ok = work(rows)
        except Exception:  # a job always ends; a bad key fails it
            ok = False
        with self._lock:
            self._running.pop(job, None)
            self._finished.append((job, ok))

    def _store(self, rows: Rows) -> bool:
        blocks = []
        for key, row in rows:
            block, group = split_key(key)
            blocks.append(Block(block, row, self._part(group)))
        results = self._engine.put(blocks)
        with self._lock:
            for key, _ in rows:
                self._known.pop(key, None)
        return all(result.ok for result in results)

    def _load(self, rows: Rows) -> bool:
        ok = True
        by_group: Dict[int, List[Tuple[bytes, bytes, Any]]] = {}
        for key, row in rows:
            block, group = split_key(key)
            by_group.setdefault(group, []).append((key, block, row))
        for group, items in by_group.items():
            results = self._engine.get(
                [block for _, block, _ in items],
                parts=[self._part(group)],
                into=[row for _, _, row in items],
            )
            for (key, _, _), result in zip(items, results):
                ok = ok and result.ok
                self._forget(key, result.ok)
        return ok

    def _forget(self, key: bytes, was_read: bool) -> None:
        """Ends the lease of a key that was read or is gone."""
        with self._lock:
            known = self._known.pop(key, None)
            if not was_read:
                self._known[key] = (Lookup.MISS, self._clock() + 1.0, 0)
        if known is not None and known[2]:
            self._engine.release(known[2])
