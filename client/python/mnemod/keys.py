"""Keys that name a block by everything before it."""

from __future__ import annotations

import hashlib
from array import array
import sys
from typing import Any, List

DIGEST_BYTES = 32


def hash_chain(
    tokens: Any,
    block: int = 256,
    *,
    salt: bytes = b"",
    parent: bytes = b"",
    partial: bool = False,
) -> List[bytes]:
    """Returns one 32-byte key for each whole block of `tokens`.

    Key i is SHA-256 of key i-1 and the block's tokens as 4-byte little-endian
    numbers; the first is over `salt` (if there is one, behind its length in 4
    bytes) and `parent`, the key that the chain continues. Depends on nothing
    else: neither on PYTHONHASHSEED nor on the machine. With `partial`, the
    tokens left over at the end make a last key.

    `tokens`: a sequence of ints from 0 to 2^32 - 1, or a numpy array.
    Errors: ValueError (`block` below 1), OverflowError (a token out of range).
    """
    if block < 1:
        raise ValueError(f"block is {block}; at least 1")
    data = _little_endian(tokens)
    width = 4 * block
    whole = len(data) - len(data) % width
    end = len(data) if partial else whole
    digest = parent
    prefix = len(salt).to_bytes(4, "little") + salt if salt else b""
    keys = []
    for start in range(0, end, width):
        digest = hashlib.sha256(prefix + digest + data[start : start + width]).digest()
        prefix = b""
        keys.append(digest)
    return keys


def _little_endian(tokens: Any) -> bytes:
    if hasattr(tokens, "astype") and hasattr(tokens, "dtype"):
        if tokens.size and not 0 <= int(tokens.min()) <= int(tokens.max()) < 1 << 32:
            raise OverflowError("a token is not within 0 and 2^32 - 1")
        return bytes(tokens.astype("<u4").tobytes())
    values = array("I", tokens)
    if values.itemsize != 4:
        raise TypeError("this platform's unsigned int is not 4 bytes")
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def short_key(name: "str | bytes", limit: int = 64) -> bytes:
    """Returns `name` as a key: itself if it fits, otherwise 32 bytes of SHA-256.

    A name that fits and a digest cannot be confused by accident only: give one
    space names of one engine.
    """
    data = name.encode() if isinstance(name, str) else bytes(name)
    return data if len(data) <= limit else hashlib.sha256(data).digest()
