"""Keys are the same everywhere and for ever."""

import hashlib
import os
import struct
import subprocess
import sys

import pytest

from mnemod import hash_chain, short_key


def test_a_chain_is_sha256_over_the_parent_and_little_endian_tokens():
    tokens = list(range(10))
    first = hashlib.sha256(struct.pack("<4I", 0, 1, 2, 3)).digest()
    second = hashlib.sha256(first + struct.pack("<4I", 4, 5, 6, 7)).digest()
    assert hash_chain(tokens, block=4) == [first, second]
    rest = hashlib.sha256(second + struct.pack("<2I", 8, 9)).digest()
    assert hash_chain(tokens, block=4, partial=True) == [first, second, rest]


def test_known_keys_never_change():
    assert [key.hex()[:16] for key in hash_chain([1, 2, 3, 4], block=2)] == [
        "34fb5c825de7ca4a",
        hashlib.sha256(
            bytes.fromhex("34fb5c825de7ca4aea6e712f19d439c1da0c92c37b423936c5f618545ca4fa1f")
            + struct.pack("<2I", 3, 4)
        ).hexdigest()[:16],
    ]


def test_a_chain_goes_on_from_its_parent_and_is_set_apart_by_salt():
    tokens = list(range(64))
    keys = hash_chain(tokens, block=16)
    assert hash_chain(tokens[32:], block=16, parent=keys[1]) == keys[2:]
    salted = hash_chain(tokens, block=16, salt=b"tenant")
    assert not set(salted) & set(keys)
    # The salt enters the first block only, so that a chain can be continued.
    assert hash_chain(tokens[16:], block=16, parent=salted[0]) == salted[1:]
    # A salt cannot be mistaken for tokens or for a parent.
    assert hash_chain(tokens, block=16, salt=keys[0]) != hash_chain(tokens, block=16, parent=keys[0])


def test_numpy_tokens_of_any_width_give_the_same_keys():
    numpy = pytest.importorskip("numpy")
    tokens = [7, 2**31, 2**32 - 1, 0] * 8
    expected = hash_chain(tokens, block=8)
    assert hash_chain(numpy.array(tokens, dtype=numpy.int64), block=8) == expected
    assert hash_chain(numpy.array(tokens, dtype=">u4"), block=8) == expected
    for bad in (-1, 2**32):
        with pytest.raises(OverflowError):
            hash_chain(numpy.array([bad] * 8, dtype=numpy.int64), block=8)
        with pytest.raises(OverflowError):
            hash_chain([bad] * 8, block=8)


def test_keys_do_not_depend_on_python_s_hash_seed():
    program = "import mnemod; print(mnemod.hash_chain(range(99), block=9, salt=b's')[-1].hex())"
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(answers) == 1


def test_names_that_are_too_long_become_digests():
    assert short_key("m@1@0@ab@half") == b"m@1@0@ab@half"
    assert short_key("x" * 64) == b"x" * 64
    assert short_key("x" * 65) == hashlib.sha256(b"x" * 65).digest()
    assert short_key("é" * 33) == hashlib.sha256("é".encode() * 33).digest()


def test_a_block_of_no_tokens_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        hash_chain([1], block=0)
