"""When a reader looks again, and when it sleeps."""

import pytest

from mnemod._busy_wait import LONGEST, PAUSE, TAKEN, BusyWait


class Fake:
    """A clock that an offer of the core moves on, and what is waited for, which comes at a time."""

    def __init__(self, cores: int = 2) -> None:
        self.now = 100.0
        self.offer = 10e-6
        self.looking = 0.0
        self.comes_at = 0.0
        self.looks = 0
        self.wait = BusyWait(lambda: self.now, self._offered, cores)

    def _offered(self) -> None:
        self.now += self.offer

    def look(self) -> bool:
        self.looks += 1
        self.now += self.looking
        return self.now >= self.comes_at

    def comes_in(self, seconds: float) -> bool:
        self.comes_at = self.now + seconds
        self.looks = 0
        if self.wait.comes(self.look):
            return True
        self.now = max(self.now, self.comes_at)
        self.wait.woke()
        return False


@pytest.fixture
def fake() -> Fake:
    return Fake()


def test_looks_again_once_a_wait_was_short(fake):
    assert not fake.comes_in(50e-6)  # it does not know yet
    assert fake.looks == 0
    assert fake.comes_in(50e-6)
    assert fake.looks > 1


def test_sleeps_where_waits_are_long(fake):
    fake.comes_in(50e-6)
    assert not fake.comes_in(1.0)
    assert fake.looks <= LONGEST / fake.offer + 1
    assert not fake.comes_in(50e-6)
    assert fake.looks == 0
    assert fake.comes_in(50e-6)


def test_sleeps_for_a_while_where_others_take_the_core(fake):
    fake.comes_in(50e-6)
    fake.offer = 2 * TAKEN
    assert not fake.comes_in(10 * TAKEN)
    fake.offer = 10e-6
    fake.comes_in(50e-6)
    assert not fake.comes_in(50e-6)
    assert fake.looks == 0
    fake.now += PAUSE
    assert fake.comes_in(50e-6)


def test_what_came_while_another_had_the_core_is_seen(fake):
    fake.comes_in(50e-6)
    fake.offer = 2 * TAKEN
    assert fake.comes_in(TAKEN)


def test_on_one_core_it_sleeps():
    fake = Fake(cores=1)
    for _ in range(2):
        assert not fake.comes_in(50e-6)
        assert fake.looks == 0


def test_a_look_that_waited_for_the_interpreter_counts_too(fake):
    fake.comes_in(50e-6)
    fake.looking = 2 * TAKEN
    fake.comes_in(10 * TAKEN)
    fake.looking = 0.0
    fake.comes_in(50e-6)  # a short one: but others had the core just now
    assert not fake.comes_in(50e-6)
    assert fake.looks == 0


def test_it_looks_no_longer_than_its_caller_has_time(fake: Fake) -> None:
    assert not fake.comes_in(50e-6)  # the first sleeps
    fake.comes_at = fake.now + LONGEST
    began = fake.now
    assert not fake.wait.comes(fake.look, left=30e-6)
    assert fake.now - began <= 30e-6 + fake.offer
