#!/usr/bin/env python3
"""Writes the asyncio client from the blocking one, so that the two never differ.

Usage: generate_aio.py [FOLDER]

aio.py comes from client.py, aio_contexts.py from context_client.py, aio_auth.py from
auth_client.py, and aio_block_keeping.py from block_keeping.py: the same with other names, `async def` where something is
awaited, and asynchronous iterators. Run after changing one of them;
tests/unit/client/python/contract_test.py fails when this was forgotten.
"""

from __future__ import annotations

import pathlib
import re
import sys

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "mnemod"

FILES = {
    "client.py": "aio.py",
    "context_client.py": "aio_contexts.py",
    "auth_client.py": "aio_auth.py",
    "block_keeping.py": "aio_block_keeping.py",
}
NAMES = [
    (r"\bTransport\b", "AsyncTransport"),
    (r"\bWatchStream\b", "AsyncWatchStream"),
    (r"\bSpaceHandle\b", "AsyncSpaceHandle"),
    (r"\bContextHandle\b", "AsyncContextHandle"),
    (r"\bAuth\b", "AsyncAuth"),
    (r"\bKeepsBlocks\b", "AsyncKeepsBlocks"),
    (r"\bClient\b", "AsyncClient"),
    (r"\bWatch\b(?!\")", "AsyncWatch"),
    (r"\"Watch\"", '"AsyncWatch"'),
    (r"\bIterator\b", "AsyncIterator"),
    (r"_transport import", "_aio_transport import"),
    (r"from \.context_client import", "from .aio_contexts import"),
    (r"from \.auth_client import", "from .aio_auth import"),
    (r"from \.block_keeping import", "from .aio_block_keeping import"),
    (r"aio=False", "aio=True"),
    (r"__enter__", "__aenter__"),
    (r"__exit__", "__aexit__"),
    (r"__iter__", "__aiter__"),
    (r"__next__", "__anext__"),
    (r"next\(self\._events\)", "self._events.__anext__()"),
    (r"(?<!async )for response in self\._stream", "async for response in self._stream"),
    (r"(?<!async )for message in stream:", "async for message in stream:"),
]
# What is awaited wherever it is called.
AWAITED = r"self\._transport\.(?:call|put|get|append)\(|self\._channel\.close\(|self\._events\.__anext__\("
ALWAYS_ASYNC = {"__aenter__", "__aexit__", "_read"}
FIRST_LINES = (
    '"""The asyncio client: the calls of the blocking one as coroutines.\n\n'
    "Written by scripts/generate_aio.py from {source}; change that one.\n"
    '"""\n'
)


def split_methods(text: str) -> "list[str]":
    """The text in pieces, each but the first starting at a `def`."""
    return re.split(r"(?m)^(?=    def |def |class |@|    @)", text)


def method_name(piece: str) -> str:
    found = re.match(r"\s*def (\w+)", piece)
    return found.group(1) if found else ""


def make_async(text: str) -> str:
    pieces = split_methods(re.sub(f"({AWAITED})", r"await \1", text))
    is_async = set(ALWAYS_ASYNC)
    generators = {method_name(p) for p in pieces if "-> AsyncIterator" in p and "yield" in p}
    while True:
        # A method that awaits is a coroutine, and so is what calls it.
        calls = "|".join(sorted(is_async - generators - {"_read"}))
        pieces = [re.sub(rf"(?<!await )(self\.(?:{calls})\()", r"await \1", p) for p in pieces]
        found = {method_name(p) for p in pieces if re.search(r"await |async for ", p)}
        found = (found - {""}) | is_async
        if found == is_async:
            break
        is_async = found
    return "".join(
        p.replace("    def ", "    async def ", 1) if method_name(p) in is_async else p
        for p in pieces
    )


def generate(source: str) -> str:
    """Returns the text of the asyncio client of a blocking one."""
    text = (PACKAGE / source).read_text().split('"""\n', 1)[1]
    for pattern, replacement in NAMES:
        text = re.sub(pattern, replacement, text)
    return FIRST_LINES.format(source=source) + make_async(text)


def main() -> int:
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE
    for source, output in FILES.items():
        (folder / output).write_text(generate(source))
    return 0


if __name__ == "__main__":
    sys.exit(main())
