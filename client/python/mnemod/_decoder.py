"""Decodes the parts of one read that came encoded, as soon as their calibrations are here."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from ._buffers import digest_of
from ._excerpt import (
    CalibrationCache,
    Damaged,
    Excerpt,
    MissingCalibration,
    Section,
    decode,
)
from ._tensors import Calibration, check_available
from .blocks import Digest
from .errors import Code, MnemoError, make_error


class EncodedPart:
    """What came of a part that is decoded here."""

    __slots__ = ("data", "runs", "digest", "put_digest")

    def __init__(
        self,
        runs: Sequence[Tuple[int, int]],
        digest: Optional[Digest],
        put_digest: Optional[Digest],
    ) -> None:
        self.data = bytearray()
        self.runs = runs
        self.digest = digest
        self.put_digest = put_digest


class Decoded(NamedTuple):
    """What it was decoded to."""

    sections: List[Tuple[Section, memoryview]]
    whole: bool
    lossy: bool
    digest: Digest  # of the bytes that were put


# Is told once what became of a part.
Then = Callable[[Union[Decoded, MnemoError]], None]


class PartDecoder:
    """Of one read. Not thread-safe."""

    def __init__(self, space: int, calibrations: CalibrationCache, verify: bool) -> None:
        """Errors: ImportError (what decoding takes is not installed)."""
        check_available()
        self._space = space
        self._calibrations = calibrations
        self._verify = verify
        # Parts that are here, and the calibrations that they wait for.
        self._waiting: List[Tuple[Excerpt, Set[int], Then]] = []

    def forget(self) -> None:
        """Another try begins: parts that wait will come again."""
        self._waiting = []

    def take(self, part: EncodedPart, size: int, then: Then) -> None:
        """Decodes a part of `size` bytes, now or once its calibrations are learnt."""
        data = memoryview(part.data)
        try:
            if self._verify and digest_of([data]) != part.digest:
                raise Damaged("the bytes differ from their digest on arrival")
            excerpt = Excerpt(data, part.runs)
            if (excerpt.digest, excerpt.payload_bytes) != (part.put_digest, size):
                raise Damaged("the encoded bytes are of another part")
            named = excerpt.calibrations()
        except Damaged as error:
            then(make_error(Code.DATA_LOSS, str(error)))
            return
        known = self._calibrations.find(self._space, named)
        missing = named - set(known)
        if missing:
            self._waiting.append((excerpt, missing, then))
        else:
            then(_decode(excerpt, known))

    def missing(self) -> List[int]:
        """Calibrations that parts wait for."""
        return sorted({number for _, missing, _ in self._waiting for number in missing})

    def learn(self, number: int, answer: Any) -> None:
        """Takes a GetCalibrationResponse, or the MnemoError that says why there is none."""
        error = answer if isinstance(answer, MnemoError) else None
        if error is None:
            try:
                self._calibrations.add(self._space, number, answer.calibration)
            except Damaged as damage:
                error = make_error(Code.INTERNAL, str(damage))
        waiting, self._waiting = self._waiting, []
        for excerpt, missing, then in waiting:
            if number not in missing:
                self._waiting.append((excerpt, missing, then))
            elif error is not None:
                then(error)
            elif missing - {number}:
                self._waiting.append((excerpt, missing - {number}, then))
            else:
                then(_decode(excerpt, self._calibrations.find(self._space, excerpt.calibrations())))


def _decode(
    excerpt: Excerpt, calibrations: Dict[int, Calibration]
) -> Union[Decoded, MnemoError]:
    try:
        sections = [(each, memoryview(decode(each, calibrations))) for each in excerpt.sections]
    except MissingCalibration as error:
        return make_error(Code.NOT_FOUND, str(error))
    except Damaged as error:
        return make_error(Code.DATA_LOSS, str(error))
    return Decoded(sections, excerpt.whole, excerpt.lossy, excerpt.digest)
