"""SGLang's HiCacheStorage: pages of several pools, and nothing ever raises.

Not imported from SGLang: it has the shape that `--hicache-storage-backend
dynamic` loads; SGLang's own base class is mixed in where it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ..blocks import Block, MatchResult, Part
from ..client import WHOLE_BLOCK
from ..failopen import FailOpen
from ..keys import short_key

ALL_PAGES = "all_pages"
TRAILING_PAGES = "trailing_pages"


@dataclass(frozen=True)
class PoolTransfer:
    """What v2 asks of one pool: its pages, by key, and their host memory.

    `name` is a group of the space ("kv", "swa", "mamba"). `hit_policy`:
    ALL_PAGES, every page must be there; TRAILING_PAGES, the last
    `trailing` pages must. `buffers` are writable, one for each key.
    """

    name: str
    keys: Sequence[str] = ()
    hit_policy: str = ALL_PAGES
    trailing: int = 1
    buffers: Optional[Sequence[Any]] = None


class HiCacheStorage:
    """A space as HiCache's third level. Thread-safe.

    Pages belong to this worker's part: (tp_rank, pp_rank) of each pool. The
    backend's prefix (model, sizes) is the space's fingerprint, so keys are the
    page hashes alone. `page_buffer(index)` gives the host memory of v1's
    `host_indices`.
    """

    def __init__(self, engine: FailOpen, *, tp_rank: int = 0, pp_rank: int = 0) -> None:
        self._engine = engine
        self._rank = (tp_rank, pp_rank)
        groups = engine.handle.space.groups
        self._groups = {group.name: index for index, group in enumerate(groups)}
        self._page_buffer: Optional[Callable[[int], Any]] = None

    def register_mem_pool_host(self, page_buffer: Callable[[int], Any]) -> None:
        """Says where v1's pages lie: a host index to its writable buffer."""
        self._page_buffer = page_buffer

    # The first interface: values

    def get(self, key: str, target: Any = None) -> Any:
        """The page's bytes, in `target` if it is given; None if it is missing."""
        found = self.batch_get([key], None if target is None else [target])
        return found[0] if found else None

    def batch_get(self, keys: Sequence[str], targets: Optional[Sequence[Any]] = None) -> List[Any]:
        """For each key its bytes (its target, if given), or None."""
        results = self._read("kv", keys, targets)
        if targets is None:
            return [result.data if result.ok else None for result in results]
        return [target if result.ok else None for target, result in zip(targets, results)]

    def set(self, key: str, value: Any) -> bool:
        """Stores a page."""
        return self.batch_set([key], [value])

    def batch_set(self, keys: Sequence[str], values: Sequence[Any]) -> bool:
        """Stores pages; whether all are stored now."""
        return all(self._write("kv", keys, values))

    def exists(self, key: str) -> bool:
        """Whether the page is there."""
        return self.batch_exists([key]) == 1

    def batch_exists(self, keys: Sequence[str]) -> int:
        """How many pages are there, from the first without a gap."""
        return self._prefix(PoolTransfer("kv", keys))

    # v1: pages of the registered host pool

    def batch_get_v1(self, keys: Sequence[str], host_indices: Sequence[int]) -> List[bool]:
        """Reads each page into the host pool; whether each came."""
        buffers = self._host_buffers(host_indices)
        if buffers is None:
            return [False] * len(keys)
        return [result.ok for result in self._read("kv", keys, buffers)]

    def batch_set_v1(self, keys: Sequence[str], host_indices: Sequence[int]) -> List[bool]:
        """Stores each page from the host pool; whether each is stored now."""
        buffers = self._host_buffers(host_indices)
        return self._write("kv", keys, buffers) if buffers is not None else [False] * len(keys)

    # v2: several pools at once

    def batch_exists_v2(
        self, keys: Sequence[str], pools: Sequence[PoolTransfer]
    ) -> Tuple[int, Dict[str, int]]:
        """Pages usable in all pools, and how far each pool reaches alone.

        `keys` are the pages of pool "kv"; a pool without keys has the same. A
        prefix counts only if every pool supports it by its hit policy.
        """
        if not keys:
            return 0, {pool.name: 0 for pool in pools}
        everything = [PoolTransfer("kv", keys), *(p for p in pools if p.name != "kv")]
        present = {
            # A pool that was given fewer keys lacks the pages that it did not name.
            pool.name: (self._present(pool, pool.keys or keys) + [False] * len(keys))[: len(keys)]
            for pool in everything
        }
        reach = {
            pool.name: max(n for n in range(len(keys) + 1) if _supports(pool, present[pool.name], n))
            for pool in everything
        }
        usable = max(
            n
            for n in range(len(keys) + 1)
            if all(_supports(pool, present[pool.name], n) for pool in everything)
        )
        return usable, reach

    def batch_get_v2(self, pools: Sequence[PoolTransfer]) -> Dict[str, List[bool]]:
        """Reads the pages of each pool into its buffers."""
        return {
            pool.name: [r.ok for r in self._read(pool.name, pool.keys, pool.buffers)]
            for pool in pools
        }

    def batch_set_v2(self, pools: Sequence[PoolTransfer]) -> Dict[str, List[bool]]:
        """Stores the pages of each pool."""
        return {
            pool.name: self._write(pool.name, pool.keys, pool.buffers or ()) for pool in pools
        }

    def clear(self) -> None:
        """Deletes the pages of this space and salt."""
        try:
            self._engine.handle.delete_all()
        except Exception:  # clear, too, must not raise
            return

    def get_stats(self) -> Dict[str, Any]:
        """Counters of what failed."""
        return vars(self._engine.stats())

    def close(self) -> None:
        """Nothing to end: the client belongs to the caller."""

    def _part(self, pool: str) -> Optional[Part]:
        group = self._groups.get(pool)
        if group is None:
            return None
        size = self._engine.handle.space.groups[group].tensor_parallel_size
        # What every rank holds whole is stored once.
        return Part(group, self._rank[0] if size > 1 else 0, self._rank[1])

    def _read(self, pool: str, keys: Sequence[str], buffers: Optional[Sequence[Any]]) -> List[Any]:
        part = self._part(pool)
        names = [short_key(key) for key in keys]
        # A pool that the space does not have reads a part that is not there.
        parts = WHOLE_BLOCK if part is None else (part,)
        if part is None or not keys:
            return [_NO_POOL] * len(keys)
        return list(self._engine.get(names, parts=parts, into=buffers))

    def _write(self, pool: str, keys: Sequence[str], values: Sequence[Any]) -> List[bool]:
        part = self._part(pool)
        if part is None or len(values) != len(keys):
            return [False] * len(keys)
        blocks = [Block(short_key(key), value, part) for key, value in zip(keys, values)]
        return [result.ok for result in self._engine.put(blocks)]

    def _match(self, pool: PoolTransfer) -> MatchResult:
        part = self._part(pool.name)
        if part is None or not pool.keys:
            return MatchResult(present=b"")
        return self._engine.match(
            [short_key(key) for key in pool.keys],
            groups=[part.group],
            tp_ranks=[part.tp_rank],
            pp_ranks=[part.pp_rank],
            bitmap=True,
        )

    def _prefix(self, pool: PoolTransfer) -> int:
        return self._match(pool).blocks

    def _present(self, pool: PoolTransfer, keys: Sequence[str]) -> List[bool]:
        match = self._match(PoolTransfer(pool.name, keys))
        return [match.has(index) for index in range(len(keys))]

    def _host_buffers(self, host_indices: Sequence[int]) -> Optional[List[Any]]:
        if self._page_buffer is None:
            return None
        try:
            return [self._page_buffer(index) for index in host_indices]
        except Exception:  # an index that the pool does not have is a miss
            return None


@dataclass(frozen=True)
class _Missing:
    ok: bool = False
    data: None = None


_NO_POOL = _Missing()


def _supports(pool: PoolTransfer, present: Sequence[bool], length: int) -> bool:
    """Whether this pool lets a prefix of `length` pages be used."""
    if pool.hit_policy == TRAILING_PAGES:
        return all(present[max(0, length - pool.trailing) : length])
    return all(present[:length])
