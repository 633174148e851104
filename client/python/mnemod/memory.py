"""Memory that the daemon of the same host reads and writes by itself.

    pool = mnemod.alloc(1 << 30)                       # for an engine to pin
    rows = pool.numpy().reshape(512, -1)               # or pool.view
    client.register(pool)
    space.get(keys, into=[rows[i] for i in range(len(keys))])

A block is then copied once, between the daemon's memory and this, and only its
name travels. Linux only.
"""

from __future__ import annotations

from bisect import bisect_right
import ctypes
import fcntl
import mmap
import os
import threading
from typing import Any, List, Optional, Sequence, Tuple

from ._stream import Kind, Slice

# Of one part, by the protocol.
MAX_SLICES = 1024
MAX_RUNS = 65536

# Of <linux/fcntl.h>; Python's fcntl does not have them on every version.
_F_ADD_SEALS = 1033
_F_SEAL_SHRINK = 0x0002
_F_SEAL_GROW = 0x0004


class Memory:
    """A range of this process's memory, and how the daemon comes to it.

    Made by `alloc`, `Memory.of_file` and `Memory.of_process`. Immutable but for
    `close`; thread-safe.
    """

    def __init__(
        self, kind: Kind, buffer: Any, fd: int = -1, file_offset: int = 0, owned: bool = False
    ) -> None:
        self.kind = kind
        self.fd = fd
        """The descriptor that the daemon gets; -1 for memory of the process."""
        self.file_offset = file_offset
        """Where it begins in the file of `fd`."""
        self.address, self.size = address_of(buffer)
        """Where it lies in this process, and its bytes."""
        self._buffer = buffer  # None once it is closed
        self._view: Optional[memoryview] = None
        self._owned = owned

    @classmethod
    def of_file(cls, file: Any, buffer: Any, offset: int = 0) -> "Memory":
        """Memory that is mapped from a file on a tmpfs, such as an engine's in /dev/shm.

        `buffer` is what the engine sees of it (a mmap, a numpy array of all of it),
        `file` its descriptor or an object with fileno(), and `offset` where `buffer`
        begins in the file. The descriptor is duplicated. Its pages should be there
        (pinned, or touched once): the daemon makes none for it. Errors: ValueError
        (the buffer lies outside of the file), BufferError (it has gaps), OSError.
        """
        number = file if isinstance(file, int) else file.fileno()
        length = os.fstat(number).st_size
        _, size = address_of(buffer)
        if not 0 <= offset <= length - size:
            raise ValueError(f"buffer: bytes {offset} to {offset + size} of a file of {length}")
        return cls(Kind.FILE, buffer, fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 0), offset)

    @classmethod
    def of_process(cls, buffer: Any) -> "Memory":
        """Any memory of this process, which the daemon reaches through the kernel.

        Only if the daemon runs as the same user and allows it. Errors: BufferError.
        """
        return cls(Kind.PROCESS, buffer)

    @property
    def view(self) -> memoryview:
        """All of it, as bytes. Errors: ValueError (closed)."""
        if self._view is None:
            if self._buffer is None:
                raise ValueError("the memory is closed")
            self._view = memoryview(self._buffer).cast("B")
        return self._view

    def numpy(self, dtype: Any = "u1") -> Any:
        """All of it, as a numpy array of one dimension."""
        import numpy

        return numpy.frombuffer(self.view, dtype=dtype)

    def region(self) -> Tuple[int, int]:
        """What is registered of it: bytes, of its file or behind an address; the address."""
        if self.kind is Kind.PROCESS:
            return self.size, self.address
        return self.file_offset + self.size, 0

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._buffer is None

    def close(self) -> None:
        """Lets go of it; idempotent.

        A client that it is registered with uses it no more. Memory of `alloc` is
        given back as soon as nothing views it any more.
        """
        buffer, view, fd = self._buffer, self._view, self.fd
        self._buffer, self._view, self.fd = None, None, -1
        if fd >= 0:
            os.close(fd)
        try:
            if view is not None:
                view.release()
            if self._owned and buffer is not None:
                buffer.close()
        except BufferError:
            pass  # an array views it still: the memory goes with that

    def __enter__(self) -> "Memory":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Also of one whose making failed.
        if getattr(self, "fd", -1) >= 0:
            os.close(self.fd)


def alloc(nbytes: int, *, name: str = "mnemod") -> Memory:
    """Returns page-aligned memory of at least `nbytes` that the daemon maps.

    It is a sealed memfd with all its pages, charged to this process: an engine can
    pin it, numpy and others view it. Its size is `nbytes`, rounded up to whole
    pages. `name` shows in /proc. Errors: ValueError, OSError (no memory).
    """
    if nbytes < 1:
        raise ValueError(f"nbytes is {nbytes}; at least 1")
    size = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(fd, 0, size)
        fcntl.fcntl(fd, _F_ADD_SEALS, _F_SEAL_SHRINK | _F_SEAL_GROW)
        return Memory(Kind.FILE, mmap.mmap(fd, size), fd, owned=True)
    except BaseException:
        os.close(fd)
        raise


class _PyBuffer(ctypes.Structure):
    """Py_buffer, of Python's C interface."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


def address_of(buffer: Any) -> Tuple[int, int]:
    """Where a contiguous buffer lies, and its bytes. Errors: BufferError, TypeError."""
    view = buffer if isinstance(buffer, memoryview) else None
    if view is not None and view.nbytes and view.c_contiguous and not view.readonly:
        # In half of the time; it takes no memory that is read-only.
        return ctypes.addressof(ctypes.c_char.from_buffer(view)), view.nbytes
    found = _PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(buffer), ctypes.byref(found), 0)
    try:
        return found.buf or 0, found.len
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(found))


class MemoryMap:
    """What memory is registered, by address. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Sorted by address; replaced as a whole, so that find takes no lock.
        self._starts: List[int] = []
        self._memories: List[Memory] = []

    def add(self, memory: Memory) -> None:
        """Errors: ValueError (closed, or it overlaps other memory that is registered)."""
        with self._lock:
            known = [each for each in self._memories if not each.closed and each is not memory]
            if memory.closed:
                raise ValueError("the memory is closed")
            for each in known:
                if memory.address < each.address + each.size and (
                    each.address < memory.address + memory.size
                ):
                    raise ValueError("the memory overlaps memory that is registered")
            self._set(known + [memory])

    def remove(self, memory: Memory) -> None:
        """Forgets it; idempotent."""
        with self._lock:
            self._set([each for each in self._memories if each is not memory])

    def _set(self, memories: List[Memory]) -> None:
        memories.sort(key=lambda memory: memory.address)
        # A reader between these two compares what it found with its range.
        self._starts, self._memories = [memory.address for memory in memories], memories

    def state(self) -> object:
        """The same object until memory is added or removed."""
        return self._memories

    def __contains__(self, memory: Memory) -> bool:
        return not memory.closed and any(each is memory for each in self._memories)

    def __len__(self) -> int:
        return len(self._memories)

    def find(self, segments: Sequence[memoryview]) -> "Optional[Tuple[Memory, List[Slice]]]":
        """The memory that all of `segments` lie in, and where in its region.

        None if there is no such one, or if it takes too many slices.
        """
        starts, memories = self._starts, self._memories
        if not segments:
            return None
        spans = [address_of(segment) for segment in segments]
        index = bisect_right(starts, spans[0][0]) - 1
        if not 0 <= index < len(memories) or memories[index].closed:
            return None
        memory = memories[index]
        first, last = memory.address, memory.address + memory.size
        for address, size in spans:
            if address < first or address + size > last:
                return None
        shift = memory.file_offset - first
        slices = to_slices([(address + shift, size) for address, size in spans])
        fits = len(slices) <= MAX_SLICES and len(spans) <= MAX_RUNS
        return (memory, slices) if fits else None


def to_slices(runs: Sequence[Tuple[int, int]]) -> List[Slice]:
    """Runs (offset, length), in order, as few slices: equal steps become one."""
    slices: List[Slice] = []
    for offset, length in runs:
        if slices:
            start, size, stride, count = slices[-1]
            step = offset - start - (count - 1) * stride
            if size == length and step >= size and (count == 1 or step == stride):
                slices[-1] = Slice(start, size, step, count + 1)
                continue
        slices.append(Slice(offset, length))
    return slices
