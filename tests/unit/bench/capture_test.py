"""The captured slices are whole, and what reads the models' weights is right."""

import hashlib
import json
import pathlib
import struct
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
SLICES = ROOT / "tests" / "data" / "codecs"
sys.path[:0] = [str(ROOT / "tests/bench/codecs/capture"), str(ROOT / "tests/bench/codecs")]

import forward  # noqa: E402
import slices  # noqa: E402
from weights import Weights  # noqa: E402

PROVENANCE = json.loads((SLICES / "provenance.json").read_text())


@pytest.mark.parametrize("name", sorted(PROVENANCE))
def test_a_slice_is_what_its_provenance_says(name):
    for part, facts in PROVENANCE[name]["files"].items():
        data = (SLICES / f"{name}_{part}.bf16").read_bytes()
        assert hashlib.sha256(data).hexdigest() == facts["sha256"]
        assert len(data) == 2 * np.prod(facts["shape"])


def test_calibration_and_held_out_text_are_different_books():
    for model in slices.LAYERS:
        texts = {PROVENANCE[f"{model}_{book}"]["text"] for book in slices.BOOKS}
        assert len(texts) == 2


def test_all_slices_fit_in_12_mebibytes():
    assert sum(file.stat().st_size for file in SLICES.iterdir()) <= slices.MAX_BYTES


def test_bf16_rounds_to_nearest_even():
    exact = np.array([1.0, 1 + 2**-9, 1 + 2**-8, 1 + 3 * 2**-8, -3.5], np.float32)
    got = slices.from_bf16(slices.to_bf16(exact))
    assert got.tolist() == [1.0, 1.0, 1.0, 1 + 2**-6, -3.5]


def test_rope_turns_pairs_by_their_angle_and_back():
    x = np.random.default_rng(3).normal(size=(5, 2, 8)).astype(np.float32)
    for pairing in ("half", "interleaved"):
        turned = forward.rotate(x, np.arange(5), 10_000.0, pairing)
        assert np.allclose(turned[0], x[0])
        assert not np.allclose(turned[1], x[1])
        assert np.allclose(forward.rotate(turned, -np.arange(5), 10_000.0, pairing), x, atol=1e-5)


def test_a_window_hides_what_lies_before_it():
    seen = forward.attention_mask(first=4, count=2, keys=6, window=3)
    assert seen.tolist() == [
        [False, False, True, True, True, False],
        [False, False, False, True, True, True],
    ]


def _string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def _gguf(kind, shape, data):
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + _string("t")
    header += struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
    header += struct.pack("<IQ", kind, 0)
    return header + bytes(-len(header) % 32) + data


def _half(value):
    return np.float16(value).tobytes()


# One block of a format, and the values that ggml's own reference gives for it.
NIBBLES = bytes(range(0, 256, 16))  # low halves 0, high halves 0 to 15
BLOCKS = {
    "q4_0": (2, _half(0.5) + NIBBLES, [-4.0] * 16 + [0.5 * (i - 8) for i in range(16)]),
    "q4_1": (3, _half(0.5) + _half(1) + NIBBLES, [1.0] * 16 + [0.5 * i + 1 for i in range(16)]),
    "q5_0": (
        6,
        _half(0.5) + struct.pack("<I", 0xFFFF0000) + NIBBLES,
        [-8.0] * 16 + [0.5 * i for i in range(16)],
    ),
    "q8_0": (8, _half(2) + bytes(range(32)), [2.0 * i for i in range(32)]),
}


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_a_block_is_read_as_ggml_reads_it(tmp_path, name):
    kind, data, expected = BLOCKS[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(_gguf(kind, (1, 32), data))
    weights = Weights(path)
    assert weights.get("t").tolist() == [expected]


def test_a_tensor_beyond_the_file_is_refused(tmp_path):
    kind, data, _ = BLOCKS["q8_0"]
    path = tmp_path / "m.gguf"
    path.write_bytes(_gguf(kind, (1, 32), data[:-1]))
    with pytest.raises(ValueError, match="beyond the file"):
        Weights(path).get("t")
