"""The parser of llama.cpp's sequence states: exact both ways, and never over-reads.

The states here are written by an independent writer that follows the format's
description field by field, so that parser and builder cannot agree on a mistake.
"""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from mnemod.connectors.llama_state import (
    CacheRows,
    GroupLayout,
    LayerRows,
    build_state,
    parse_state,
    state_bytes,
)

F16 = 1
FULL = GroupLayout((LayerRows(F16, 8, F16, 4), LayerRows(F16, 8, F16, 4)))
WINDOW = GroupLayout((LayerRows(F16, 6, F16, 6),) * 3, k_rotation=2, v_rotation=1)


def payload_of(layout: GroupLayout, tokens: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(tokens * layout.token_bytes())


def written(caches, sequence=1, magic=0xAF143CD8) -> bytes:
    """A state, field by field. `caches`: (layout, positions, payload) each."""
    out = struct.pack("<Ii", magic, sequence)
    for layout, positions, payload in caches:
        tokens = len(positions)
        out += struct.pack("<II", 1, tokens)
        if not tokens:
            continue
        out += b"".join(struct.pack("<iIi", p, 1, sequence) for p in positions)
        out += struct.pack("<IIII", 0, len(layout.layers), layout.k_rotation, layout.v_rotation)
        keys, values, at = b"", b"", 0
        for rows in layout.layers:
            length = tokens * rows.k_row_bytes
            keys += struct.pack("<iQ", rows.k_type, rows.k_row_bytes) + payload[at : at + length]
            at += length
            length = tokens * rows.v_row_bytes
            if length:
                values += struct.pack("<iQ", rows.v_type, rows.v_row_bytes)
                values += payload[at : at + length]
            at += length
        out += keys + values
    return out


def hybrid(tokens: int = 5, first: int = 256) -> bytes:
    positions = range(first, first + tokens)
    return written(
        [
            (FULL, positions, payload_of(FULL, tokens, 1)),
            (WINDOW, positions, payload_of(WINDOW, tokens, 2)),
        ]
    )


def test_parses_groups_as_layer_major_keys_before_values():
    state = parse_state(hybrid())
    assert state.layouts == (FULL, WINDOW)
    assert state.sequence == 1
    for layout, rows, seed in zip(state.layouts, state.caches, (1, 2)):
        assert rows.positions.tolist() == list(range(256, 261))
        assert rows.payload.tobytes() == payload_of(layout, 5, seed)


def test_sections_cover_the_payload_in_order():
    sections = list(FULL.sections(tokens=5))
    assert [(s.layer, s.is_value, s.offset, s.length) for s in sections] == [
        (0, False, 0, 40),
        (0, True, 40, 20),
        (1, False, 60, 40),
        (1, True, 100, 20),
    ]


def test_rebuilds_byte_for_byte():
    data = hybrid()
    state = parse_state(data)
    rebuilt = build_state(state.layouts, state.sequence, state.caches)
    assert rebuilt.tobytes() == data
    assert state_bytes(state.layouts, [5, 5]) == len(data)


def test_rebuilds_a_cache_without_cells():
    data = written([(FULL, range(3), payload_of(FULL, 3, 1)), (WINDOW, [], b"")])
    state = parse_state(data, [FULL, WINDOW])
    assert build_state([FULL, WINDOW], 1, state.caches).tobytes() == data


def test_reads_layers_without_values_against_a_layout():
    latent = GroupLayout((LayerRows(F16, 8, 0, 0), LayerRows(F16, 8, 0, 0)))
    data = written([(latent, range(4), payload_of(latent, 4, 3))])
    state = parse_state(data, [latent])
    assert state.caches[0].payload.tobytes() == payload_of(latent, 4, 3)
    assert build_state([latent], 1, state.caches).tobytes() == data


def test_a_missing_payload_becomes_zeros_in_the_same_places():
    positions = np.arange(4, dtype=np.int32)
    data = build_state([WINDOW], 1, [CacheRows(positions, None)])
    rows = parse_state(data, [WINDOW]).caches[0]
    assert rows.positions.tolist() == [0, 1, 2, 3]
    assert not rows.payload.any() and rows.payload.size == 4 * WINDOW.token_bytes()


def test_payloads_do_not_alias_the_input():
    data = bytearray(hybrid())
    state = parse_state(data)
    before = state.caches[0].payload.tobytes()
    data[:] = bytes(len(data))
    assert state.caches[0].payload.tobytes() == before


@pytest.mark.parametrize("layouts", [None, [FULL, WINDOW]])
def test_every_truncation_is_refused(layouts):
    data = hybrid(tokens=3)
    full_cache = len(written([(FULL, range(3), payload_of(FULL, 3, 1))]))
    for length in range(len(data)):
        if layouts is None and length == full_cache:
            continue  # a whole state of one cache; only a layout can tell
        with pytest.raises(ValueError):
            parse_state(data[:length], layouts)


def test_trailing_bytes_are_refused():
    for tail in (b"\0", bytes(8), bytes(64)):
        with pytest.raises(ValueError):
            parse_state(hybrid() + tail, [FULL, WINDOW])


HEADER, CACHE, CELLS = 8, 8, 12 * 5  # bytes before the layer header of `hybrid`


@pytest.mark.parametrize(
    ("offset", "form", "value", "says"),
    [
        (0, "<I", 0x67677371, "magic"),
        (8, "<I", 2, "streams"),
        (8, "<I", 0xFFFFFFFF, "streams"),
        (12, "<I", 0xFFFFFFFF, "cells"),
        (12, "<I", 1 << 23, "bytes"),
        (16, "<i", -1, "negative"),
        (20, "<I", 2, "cells"),
        (24, "<i", 0, "cells"),
        (HEADER + CACHE + CELLS, "<I", 1, "transposed"),
        (HEADER + CACHE + CELLS + 4, "<I", 0, "layers"),
        (HEADER + CACHE + CELLS + 4, "<I", 0xFFFFFFFF, "layers"),
        (HEADER + CACHE + CELLS + 20, "<Q", 0, "0 bytes"),
        (HEADER + CACHE + CELLS + 20, "<Q", 1 << 40, "bytes"),
        (HEADER + CACHE + CELLS + 20, "<Q", (1 << 64) - 1, "bytes"),
    ],
)
def test_a_corrupt_field_is_named(offset, form, value, says):
    data = bytearray(hybrid())
    struct.pack_into(form, data, offset, value)
    with pytest.raises(ValueError, match=says):
        parse_state(data)


def test_another_type_or_row_size_than_the_layout_is_refused():
    other = GroupLayout((LayerRows(F16, 8, F16, 4), LayerRows(0, 8, F16, 4)))
    with pytest.raises(ValueError, match="layout"):
        parse_state(hybrid(), [other, WINDOW])
    with pytest.raises(ValueError, match="layers"):
        parse_state(hybrid(), [WINDOW, FULL])
    with pytest.raises(ValueError, match="caches"):
        parse_state(hybrid(), [FULL, WINDOW, WINDOW])


def test_random_damage_is_an_error_or_a_state_that_rebuilds():
    seed = 20240717
    print(f"seed {seed}")
    rng = random.Random(seed)
    original = hybrid()
    for _ in range(3000):
        data = bytearray(original[: rng.randrange(len(original) + 1)])
        for _ in range(rng.randrange(4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            state = parse_state(data)
        except ValueError:
            continue
        assert build_state(state.layouts, state.sequence, state.caches).tobytes() == data


def test_building_refuses_what_does_not_fit():
    positions = np.arange(2, dtype=np.int32)
    payload = np.zeros(2 * FULL.token_bytes(), np.uint8)
    with pytest.raises(ValueError, match="payload"):
        build_state([FULL], 1, [CacheRows(positions, payload[:-1])])
    with pytest.raises(ValueError, match="layouts"):
        build_state([FULL, WINDOW], 1, [CacheRows(positions, payload)])
    with pytest.raises(ValueError, match="without layers"):
        build_state([GroupLayout(())], 1, [CacheRows(positions, payload)])
