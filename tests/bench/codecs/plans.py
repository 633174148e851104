"""Bits where they count: a codec for each layer's keys and values within a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable

# By layer: role -> codec.
Plan = list[dict[str, str]]


def choose(
    learnt: dict[tuple[int, str, str], float],
    codecs: Iterable[str],
    bits_of: Callable[[int, str, str], float],
    budget: float,
) -> Plan:
    """The least sum of squared errors at `budget` bits a value on average, nearly.

    `bits_of` has the bits of a value of (layer, codec, role), `learnt` the squared error of
    each (layer, role, codec); errors of layers
    and roles add up. Starts with the fewest bits everywhere, and then takes the step
    that wins most for its bits, while one fits. Raises ValueError if the budget
    is below the fewest bits.
    """
    places = sorted({(layer, role) for layer, role, _ in learnt})
    codecs = list(codecs)
    now = {
        place: min(codecs, key=lambda codec: (bits_of(place[0], codec, place[1]),
                                         learnt[(*place, codec)]))
        for place in places
    }
    left = budget * len(places) - sum(
        bits_of(layer, codec, role) for (layer, role), codec in now.items())
    if left < 0:
        raise ValueError(f"a budget of {budget} bits is below the fewest")
    while True:
        best = None
        for place, codec in now.items():
            for other in codecs:
                cost = bits_of(place[0], other, place[1]) - bits_of(place[0], codec, place[1])
                gain = learnt[(*place, codec)] - learnt[(*place, other)]
                if gain <= 0 or cost > left:
                    continue
                worth = gain / cost if cost > 0 else float("inf")
                if best is None or worth > best[0]:
                    best = (worth, place, other, cost)
        if best is None:
            break
        _, place, other, cost = best
        now[place] = other
        left -= cost
    layers = 1 + max(layer for layer, _ in places)
    return [{role: now[layer, role] for role in ("k", "v")} for layer in range(layers)]
