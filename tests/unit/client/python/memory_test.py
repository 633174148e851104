"""Memory that the daemon reads and writes: made, found again, given back."""

import fcntl
import gc
import mmap
import os

import numpy
import pytest

from mnemod import Memory, alloc
from mnemod._stream import Kind, Slice
from mnemod._wire import as_segments
from mnemod.memory import MemoryMap, address_of, to_slices

PAGE = mmap.PAGESIZE
SEALS = 0x2 | 0x4  # F_SEAL_SHRINK, F_SEAL_GROW


def test_memory_is_whole_pages_that_are_there_and_keep_their_size():
    with alloc(PAGE + 1) as memory:
        assert (memory.kind, memory.size, memory.file_offset) == (Kind.FILE, 2 * PAGE, 0)
        assert memory.region() == (2 * PAGE, 0)
        assert memory.address % PAGE == 0
        assert os.fstat(memory.fd).st_blocks * 512 == 2 * PAGE
        assert fcntl.fcntl(memory.fd, 1034) & SEALS == SEALS
        for size in (PAGE, 4 * PAGE):
            with pytest.raises(PermissionError):
                os.ftruncate(memory.fd, size)
        assert not os.get_inheritable(memory.fd)


def test_what_is_written_here_is_in_the_file_and_the_other_way_round():
    with alloc(PAGE) as memory:
        memory.view[7] = 9
        assert os.pread(memory.fd, 1, 7) == b"\x09"
        os.pwrite(memory.fd, b"\x05", 8)
        assert memory.numpy()[8] == 5
        assert memory.numpy("<u2").shape == (PAGE // 2,)


@pytest.mark.parametrize("size", (0, -1))
def test_no_memory_is_none_at_all(size):
    with pytest.raises(ValueError, match="nbytes"):
        alloc(size)


def descriptors():
    gc.collect()  # what other tests left must not go in between
    return set(os.listdir("/proc/self/fd"))


def test_closing_gives_everything_back():
    before = descriptors()
    memory = alloc(PAGE)
    assert memory.view.nbytes == PAGE and not memory.closed
    memory.close()
    memory.close()
    assert memory.closed and memory.fd == -1
    assert descriptors() == before
    with pytest.raises(ValueError, match="closed"):
        memory.view


def test_memory_that_is_dropped_gives_its_descriptor_back():
    before = descriptors()
    alloc(PAGE)
    assert descriptors() == before


def test_an_array_outlives_the_memory_that_it_views():
    memory = alloc(PAGE)
    array = memory.numpy()
    array[:] = 3
    memory.close()
    assert array.sum() == 3 * PAGE


@pytest.fixture
def shm_file():
    path = f"/dev/shm/mnemod-test-{os.getpid()}"
    file = open(path, "w+b")
    os.unlink(path)
    file.truncate(4 * PAGE)
    yield file
    file.close()


def test_a_file_of_an_engine_is_known_by_its_mapping(shm_file):
    engine = mmap.mmap(shm_file.fileno(), 2 * PAGE, offset=PAGE)
    memory = Memory.of_file(shm_file, engine, PAGE)
    assert (memory.size, memory.file_offset) == (2 * PAGE, PAGE)
    assert memory.region() == (3 * PAGE, 0)
    assert memory.address == address_of(engine)[0]
    assert memory.fd != shm_file.fileno()
    registered = MemoryMap()
    registered.add(memory)
    row = memoryview(engine)[100:200]
    assert registered.find([row]) == (memory, [Slice(PAGE + 100, 100)])
    memory.close()
    assert registered.find([row]) is None
    row.release()
    engine.close()


def test_a_mapping_outside_of_its_file_is_refused(shm_file):
    engine = mmap.mmap(shm_file.fileno(), 2 * PAGE)
    for offset in (-1, 2 * PAGE + 1):
        with pytest.raises(ValueError, match="buffer: bytes"):
            Memory.of_file(shm_file, engine, offset)


def test_memory_of_the_process_has_no_descriptor():
    array = numpy.zeros(100, "u1")
    memory = Memory.of_process(array)
    assert (memory.kind, memory.fd, memory.size) == (Kind.PROCESS, -1, 100)
    assert memory.address == array.ctypes.data
    assert memory.region() == (100, array.ctypes.data)


def test_addresses_are_those_of_the_bytes():
    array = numpy.arange(100, dtype="u1")
    assert address_of(array[10:20]) == (array.ctypes.data + 10, 10)
    assert address_of(memoryview(array)[5:]) == (array.ctypes.data + 5, 95)
    frozen = array.copy()
    frozen.flags.writeable = False
    assert address_of(frozen) == (frozen.ctypes.data, 100)
    with pytest.raises((BufferError, ValueError)):
        address_of(array[::2])
    with pytest.raises(TypeError):
        address_of(7)


class Pool:
    """Registered memory with a few rows."""

    def __init__(self):
        self.memory = alloc(16 * PAGE)
        self.rows = self.memory.numpy().reshape(16, PAGE)
        self.map = MemoryMap()
        self.map.add(self.memory)

    def find(self, data):
        return self.map.find(as_segments(data))


@pytest.fixture
def pool():
    return Pool()


def test_buffers_within_are_found(pool):
    assert pool.find(pool.rows[2]) == (pool.memory, [Slice(2 * PAGE, PAGE)])
    assert pool.find(pool.memory.view) == (pool.memory, [Slice(0, 16 * PAGE)])
    assert pool.find([pool.rows[3], pool.rows[1][:7]]) == (
        pool.memory,
        [Slice(3 * PAGE, PAGE), Slice(PAGE, 7)],
    )


def test_rows_with_equal_gaps_are_one_slice(pool):
    assert pool.find(pool.rows[1::5, 8:24]) == (
        pool.memory,
        [Slice(PAGE + 8, 16, 5 * PAGE, 3)],
    )


def test_buffers_outside_or_across_are_not_found(pool):
    other = alloc(PAGE)
    pool.map.add(other)
    assert pool.find(numpy.zeros(10, "u1")) is None
    assert pool.find([pool.rows[0], other.numpy()]) is None
    assert pool.find([pool.rows[0], numpy.zeros(10, "u1")]) is None
    assert pool.find([]) is None
    assert MemoryMap().find(as_segments(pool.rows[0])) is None
    # Neighbours in the address space are two memories all the same.
    whole = numpy.zeros(64, "u1")
    halves = MemoryMap()
    halves.add(Memory.of_process(whole[:32]))
    halves.add(Memory.of_process(whole[32:]))
    assert halves.find([memoryview(whole)]) is None
    assert halves.find([memoryview(whole)[32:40]])[1] == [Slice(0, 8)]


def test_memory_may_not_overlap_what_is_registered(pool):
    with pytest.raises(ValueError, match="overlaps"):
        pool.map.add(Memory.of_process(pool.rows[3]))
    pool.map.add(pool.memory)  # again
    assert len(pool.map) == 1 and pool.memory in pool.map
    pool.map.remove(pool.memory)
    pool.map.remove(pool.memory)
    assert len(pool.map) == 0 and pool.memory not in pool.map
    closed = alloc(PAGE)
    closed.close()
    with pytest.raises(ValueError, match="closed"):
        pool.map.add(closed)


def test_more_slices_than_a_part_may_have_are_not_found(pool):
    uneven = [pool.memory.view[5 * i : 5 * i + i % 4 + 1] for i in range(1, 1026)]
    assert pool.map.find(uneven) is None
    assert pool.map.find(uneven[:1024]) is not None


@pytest.mark.parametrize(
    "runs, slices",
    (
        ([(0, 5)], [Slice(0, 5)]),
        ([(0, 5), (5, 5), (10, 5)], [Slice(0, 5, 5, 3)]),
        ([(0, 5), (9, 5), (18, 5), (28, 5)], [Slice(0, 5, 9, 3), Slice(28, 5)]),
        ([(0, 5), (9, 6)], [Slice(0, 5), Slice(9, 6)]),
        ([(9, 5), (0, 5)], [Slice(9, 5), Slice(0, 5)]),
        ([(0, 5), (4, 5)], [Slice(0, 5), Slice(4, 5)]),
        ([(0, 5), (0, 5)], [Slice(0, 5), Slice(0, 5)]),
    ),
)
def test_equal_steps_become_one_slice(runs, slices):
    assert to_slices(runs) == slices
    expanded = [
        (each.offset + i * each.stride, each.length) for each in slices for i in range(each.runs)
    ]
    assert expanded == runs


def test_the_address_of_a_view_is_the_same_whether_it_may_be_written_or_not():
    view = memoryview(bytearray(64))
    start, size = address_of(view.toreadonly())
    assert size == 64
    assert address_of(view) == (start, 64)
    assert address_of(view[3:7]) == address_of(view[3:7].toreadonly()) == (start + 3, 4)
    assert address_of(view[:0])[1] == 0


def test_asking_for_an_address_keeps_nothing_of_the_buffer():
    data = bytearray(64)
    with memoryview(data) as view:
        address_of(view)
    data.append(1)  # BufferError while anything views it
