"""What vLLM's tier does between threads, with an engine that can be held up."""

import contextlib
import threading
import types

from mnemod import MatchResult
from mnemod.connectors.vllm import Lookup, SecondaryTier, split_key

KEY = b"hash" * 8 + bytes(4)


class HeldEngine:
    """Answers a match when it is told to."""

    def __init__(self):
        self.asked = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.matches = 0
        self.released = []

    def match(self, keys, **options):
        self.matches += 1
        lease = self.matches
        self.asked.release()
        assert self.go_on.acquire(timeout=20), "never told to go on"
        return MatchResult(blocks=1, lease=lease, lease_seconds=options["lease"])

    def get(self, keys, **options):
        return [types.SimpleNamespace(ok=True) for _ in keys]

    def release(self, lease):
        self.released.append(lease)


def test_a_key_that_is_being_asked_is_not_asked_again():
    """Two leases for one hit would leave one behind."""
    engine = HeldEngine()
    with contextlib.closing(SecondaryTier(engine)) as tier:
        assert tier.lookup(KEY) is Lookup.RETRY
        assert engine.asked.acquire(timeout=20)
        assert tier.lookup(KEY) is Lookup.RETRY
        other = b"other" + bytes(4)
        assert tier.lookup(other) is Lookup.RETRY
        engine.go_on.release()
        # The other key's turn: so the first was answered, and not asked again.
        assert engine.asked.acquire(timeout=20)
        assert tier.lookup(KEY) is Lookup.HIT
        engine.go_on.release()
        tier.submit_load(1, [(KEY, bytearray(1))])
        tier.drain_jobs()
        assert tier.get_finished_jobs() == [(1, True)]
        assert engine.released == [1]
    assert engine.matches == 2
    # What was leased and never read is released at the end.
    assert engine.released == [1, 2]


def test_an_answer_is_forgotten_when_its_lease_nears_its_end():
    now = [0.0]
    engine = HeldEngine()
    with contextlib.closing(SecondaryTier(engine, lease=10.0, clock=lambda: now[0])) as tier:
        tier.lookup(KEY)
        assert engine.asked.acquire(timeout=20)
        tier.lookup(b"other" + bytes(4))
        engine.go_on.release()
        assert engine.asked.acquire(timeout=20)
        assert tier.lookup(KEY) is Lookup.HIT
        now[0] = 9.0
        assert tier.lookup(KEY) is Lookup.RETRY
        engine.go_on.release(2)


def test_an_offload_key_is_a_hash_and_a_big_endian_group():
    assert split_key(b"hash\x00\x00\x01\x02") == (b"hash", 258)
    for bad in (b"", b"\0\0\0\1"):
        try:
            split_key(bad)
        except ValueError as error:
            assert "4 bytes of group" in str(error)
        else:
            raise AssertionError(bad)
