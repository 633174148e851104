"""A plan spends a budget of bits where they take most error away."""

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "tests/bench/codecs")]

from plans import choose  # noqa: E402

BITS = {"one": 1.0, "two": 2.0, "four": 4.0}


def bits_of(_layer, codec, _role):
    return BITS[codec]


def learnt(weights):
    """Errors that fall to a quarter with each bit, times a weight of each place."""
    return {(layer, role, codec): weight * 4.0**-bits
            for (layer, role), weight in weights.items() for codec, bits in BITS.items()}


WEIGHTS = {(0, "k"): 1.0, (0, "v"): 1.0, (1, "k"): 1.0, (1, "v"): 100.0}


def spent(plan):
    return sum(BITS[codec] for layer in plan for codec in layer.values()) / 4


def test_what_matters_most_gets_the_bits():
    plan = choose(learnt(WEIGHTS), BITS, bits_of, 1.75)
    assert plan[1]["v"] == "four"
    assert spent(plan) == 1.75


def test_a_budget_is_never_passed():
    for budget in (1.0, 1.2, 1.5, 2.0, 2.3, 3.9, 4.0, 9.0):
        assert spent(choose(learnt(WEIGHTS), BITS, bits_of, budget)) <= budget


def test_a_budget_below_the_fewest_bits_is_refused():
    with pytest.raises(ValueError, match="below the fewest"):
        choose(learnt(WEIGHTS), BITS, bits_of, 0.9)


def test_bits_that_take_nothing_away_are_not_spent():
    errors = learnt(WEIGHTS)
    errors[0, "v", "four"] = errors[0, "v", "two"] = 1.0
    assert choose(errors, BITS, bits_of, 9.0)[0]["v"] == "one"
