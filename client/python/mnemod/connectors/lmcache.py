"""The object that LMCache's native plugins are: submit, be woken, drain.

Not imported from LMCache: it has the shape that LMCache expects, and any
engine that wants completions by a file descriptor can use it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import os
import threading
from typing import Any, Callable, List, Optional, Sequence, Tuple

from ..blocks import Block
from ..failopen import FailOpen
from ..keys import short_key

# id, whether it worked, why not, for each key whether it was there
Completion = Tuple[int, bool, Optional[str], Optional[List[bool]]]


class LMCacheConnector:
    """Batched calls over chunk keys such as `model@world@worker@hash@dtype`.

    Keys of more than 64 bytes are hashed. Buffers are the engine's own; they
    must stay as they are until their completion was drained. A get or an
    exists that fails is a miss, so its completion is one that worked. Values of
    any size up to 64 MiB: the space is `Space.opaque(...)`. Thread-safe.
    """

    def __init__(self, engine: FailOpen, *, threads: int = 4) -> None:
        self._engine = engine
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mnemo-lmcache")
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)
        self._lock = threading.Lock()
        self._next = 1  # guarded by _lock, as all below
        self._done: List[Completion] = []
        self._closed = False

    @property
    def event_fd(self) -> int:
        """Readable when there are completions to drain."""
        return self._read_fd

    def submit_batch_get(self, keys: Sequence[str], buffers: Sequence[Any]) -> int:
        """Reads each key into its buffer; returns the id of the completion."""
        return self._submit(lambda: self.batch_get(keys, buffers))

    def submit_batch_set(self, keys: Sequence[str], buffers: Sequence[Any]) -> int:
        """Stores each buffer under its key."""
        return self._submit(lambda: self.batch_set(keys, buffers))

    def submit_batch_exists(self, keys: Sequence[str]) -> int:
        """Asks for each key whether it is there."""
        return self._submit(lambda: self.batch_exists(keys))

    def drain_completions(self) -> List[Completion]:
        """What was completed since the last call."""
        with self._lock:
            while self._drain_pipe():
                pass
            done, self._done = self._done, []
        return done

    def close(self) -> None:
        """Waits for what was submitted and ends. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._pool.shutdown(wait=True)
        os.close(self._read_fd)
        os.close(self._write_fd)

    # The same, waited for

    def batch_get(self, keys: Sequence[str], buffers: Sequence[Any]) -> List[bool]:
        """Reads each key into its buffer; whether each was there."""
        results = self._engine.get([short_key(key) for key in keys], into=buffers)
        return [result.ok for result in results]

    def batch_set(self, keys: Sequence[str], buffers: Sequence[Any]) -> List[bool]:
        """Stores each buffer; whether each is stored, by whomever."""
        blocks = [Block(short_key(key), data) for key, data in zip(keys, buffers)]
        return [result.ok for result in self._engine.put(blocks)]

    def batch_exists(self, keys: Sequence[str]) -> List[bool]:
        """For each key whether it is there."""
        if not keys:
            return []
        match = self._engine.match([short_key(key) for key in keys], bitmap=True, peek=True)
        return [match.has(index) for index in range(len(keys))]

    def batched_contains(self, keys: Sequence[str]) -> int:
        """How many keys are there, from the first without a gap."""
        return self._engine.match([short_key(key) for key in keys]).blocks if keys else 0

    def _submit(self, work: Callable[[], List[bool]]) -> int:
        with self._lock:
            if self._closed:
                raise RuntimeError("the connector is closed")
            number = self._next
            self._next += 1
        self._pool.submit(self._complete, number, work)
        return number

    def _complete(self, number: int, work: Callable[[], List[bool]]) -> None:
        completion: Completion
        try:
            completion = (number, True, None, work())
        except Exception as error:  # the engine waits for every id
            completion = (number, False, f"{type(error).__name__}: {error}", None)
        with self._lock:
            self._done.append(completion)
            try:
                os.write(self._write_fd, b"\0")
            except BlockingIOError:
                pass  # full, so readable already

    def _drain_pipe(self) -> bytes:
        try:
            return os.read(self._read_fd, 4096)
        except (BlockingIOError, OSError):
            return b""
