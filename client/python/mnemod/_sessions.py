"""Put and Get as state machines, without input or output.

The blocking and the asynchronous client drive the same ones. Not thread-safe:
the driver serialises.
"""

from __future__ import annotations

from functools import partial
import time
from typing import Any, List, Mapping, Optional, Sequence, Tuple, Union

from . import _convert, _stream
from ._buffers import Run, Sink, Source, layer_runs, packed_position
from ._contract import pb
from ._decoder import Decoded, EncodedPart, PartDecoder
from ._excerpt import TAKES, TAKES_MASK, CalibrationCache
from ._lane import LaneRequest, places, read, registered, spots_of
from ._meter import FetchMeter, Share, together
from ._payload import Receiving, Sending
from ._stream import Offered, Scope
from ._wire import MAX_PAYLOAD, decode_get_data, encode_put_data
from .blocks import Block, Digest, GetResult, Level, Part, Plane, PutOutcome, PutResult, Verdict
from .errors import Code, MnemoError, detached, make_error
from .memory import Memory, MemoryMap
from .spaces import SpaceInfo


class Wait:
    """Nothing may be sent before the server has answered."""


class Done:
    """Everything is sent."""


WAIT = Wait()
DONE = Done()

# Payload that needs no grant.
UNGRANTED_BYTES = MAX_PAYLOAD
# No part is larger; what a server says is not believed beyond it.
MAX_PART_BYTES = 64 << 20


def offered(block: Block, source: Source) -> Offered:
    """A part to be stored, for a frame."""
    digest = block.digest or source.digest()
    part = Part(*block.part)
    return Offered(
        block.key, part, source.size, block.depth, block.parent, block.stretch, digest
    )


class PutSession:
    """One Put, over as many tries as it takes.

    Parts that ended are not sent again in a later try.
    """

    def __init__(
        self, start: Any, blocks: Sequence[Block], sources: Sequence[Source], raises: bool = True
    ) -> None:
        self._start = start
        self._raises = raises
        self._blocks = blocks
        self._sources = sources
        self._results: List[Optional[PutResult]] = [None] * len(blocks)
        self._verdicts: List[Any] = []
        self._plane = Plane.INLINE  # of this try
        self._begin()

    def _begin(self) -> None:
        # Of this try: which parts it carries, by index into PutStart.parts.
        self._carried = [i for i, result in enumerate(self._results) if result is None]
        self._verdicts = []
        self._started = False
        self._granted = UNGRANTED_BYTES
        self._sent = 0
        self._part = 0
        self._offset = 0
        for index in self._carried:
            self._sources[index].rewind()

    def retry(self) -> bool:
        """Begins another try with what has not ended; false if all has."""
        self._begin()
        # A reservation names parts of the first try.
        self._start.reservation = 0
        return bool(self._carried)

    def _start_message(self) -> bytes:
        start = pb.PutStart()
        start.CopyFrom(self._start)
        for index in self._carried:
            start.parts.append(_convert.to_offer(self._blocks[index], self._sources[index]))
        data: bytes = pb.PutRequest(start=start).SerializeToString()
        return data

    def next_message(self) -> Union[bytes, Wait, Done]:
        """The next message to send, serialised."""
        if not self._started:
            self._started = True
            return self._start_message()
        while self._part < len(self._carried):
            index = self._carried[self._part]
            size = self._sources[index].size
            if self._offset >= size or not self._wanted(self._part):
                self._part += 1
                self._offset = 0
                continue
            count = min(MAX_PAYLOAD, size - self._offset, self._granted - self._sent)
            if count <= 0:
                return WAIT
            pieces = self._sources[index].take(count)
            message = encode_put_data(self._part, self._offset, pieces)
            self._offset += count
            self._sent += count
            return message
        return DONE

    def _wanted(self, part: int) -> bool:
        # Until the first grant every part counts as wanted.
        return not self._verdicts or self._verdicts[part].verdict == int(Verdict.WANT)

    def on_response(self, response: Any) -> None:
        """Takes a message of the server. Errors: MnemoError (it breaks the contract)."""
        if response.HasField("grant"):
            grant = response.grant
            if grant.verdicts:
                if len(grant.verdicts) != len(self._carried):
                    raise make_error(Code.INTERNAL, "grant: not one verdict for each part")
                self._verdicts = list(grant.verdicts)
            self._granted = max(self._granted, grant.bytes_granted)
        elif response.HasField("result"):
            result = response.result
            if result.index >= len(self._carried):
                raise make_error(Code.INTERNAL, f"result for part {result.index}, not in the call")
            index = self._carried[result.index]
            block = self._blocks[index]
            self._results[index] = _convert.from_put_result(result, block.key, block.part)

    def lane_request(self, plane: Plane, memories: MemoryMap) -> Optional[LaneRequest]:
        """What this try asks of a stream; None if a buffer is not registered for it."""
        self._plane = plane
        sources = [self._sources[index] for index in self._carried]
        spots = spots_of(plane, memories, sources)
        if spots is None:
            return None
        parts = [offered(self._blocks[i], self._sources[i]) for i in self._carried]

        def body(regions: Mapping[Memory, int]) -> bytes:
            return _stream.put(
                Scope(self._start.space.id, self._start.salt),
                parts,
                places(spots, regions),
                reservation=self._start.reservation,
                durability=self._start.durability,
                time_to_live=self._start.time_to_live_seconds,
            )

        payload = Sending(sources) if plane is Plane.BULK else None
        return LaneRequest(_stream.Type.PUT, body, registered(spots), payload)

    def on_lane_answer(self, body: bytes) -> None:
        """Takes the answer of the stream. Errors: MnemoError."""
        stored = read(_stream.stored, body)
        if len(stored) != len(self._carried):
            raise make_error(Code.INTERNAL, "an answer of the stream: not one for each part")
        for index, part in zip(self._carried, stored):
            block = self._blocks[index]
            self._results[index] = PutResult(
                block.key, block.part, part.outcome, part.digest, part.error, self._plane
            )

    def finish(self, error: Optional[MnemoError]) -> List[PutResult]:
        """The results, in the order of the blocks.

        Errors: `error`, if no part ended, unless this goes on from another call.
        """
        if self._raises and error and all(result is None for result in self._results):
            raise error
        if error is None:
            error = make_error(Code.INTERNAL, "the call ended without a result for this part")
        error = detached(error)
        return [
            result or PutResult(block.key, block.part, PutOutcome.FAILED, error=error)
            for result, block in zip(self._results, self._blocks)
        ]


class _Incoming:
    """One part being read."""

    __slots__ = (
        "result", "sink", "runs", "whole", "expected", "received", "done", "settled", "encoded",
    )  # fmt: skip

    def __init__(self, result: GetResult, sink: Optional[Sink], runs: Sequence[Run]) -> None:
        self.result = result
        self.sink = sink
        self.runs = runs
        self.whole = True
        self.expected = -1
        self.received = 0
        self.done = False
        self.encoded: Optional[EncodedPart] = None
        # Done in an earlier try: what a later one says of it does not count.
        self.settled = False

    def is_packed(self) -> bool:
        """Whether a layer range lies side by side in its buffer, not at its own place."""
        return self.sink is not None and self.sink.size == sum(length for _, length in self.runs)

    def fail(self, error: MnemoError) -> None:
        self.result.error = error
        self.result.data = None
        self.done = True


class GetSession:
    """One Get, over as many tries as it takes, straight into the caller's memory."""

    def __init__(
        self,
        request: Any,
        info: SpaceInfo,
        keys: Sequence[bytes],
        parts: Sequence[Part],
        into: Optional[Sequence[Any]],
        verify: bool,
        meter: FetchMeter,
        raises: bool = True,
        calibrations: Optional[CalibrationCache] = None,
    ) -> None:
        """With `calibrations`, parts that lie encoded are decoded here."""
        count = len(keys) * len(parts)
        if into is not None and len(into) != count:
            raise ValueError(f"into: {len(into)} buffers for {count} parts (keys times parts)")
        self._request = request
        self._decoder: Optional[PartDecoder] = None
        if calibrations is not None:
            self._decoder = PartDecoder(request.space.id, calibrations, verify)
            request.takes.extend(TAKES)
        self._keys = keys
        self._parts = parts
        self._verify = verify
        self._meter = meter
        self._began = time.perf_counter()  # this try
        self._raises = raises
        self._is_range = bool(request.first_layer or request.layer_count)
        runs = [self._runs(info, part) if self._is_range else [] for part in parts]
        self._items = [
            _Incoming(
                GetResult(key, part),
                Sink(into[k * len(parts) + p]) if into is not None else None,
                runs[p],
            )
            for k, key in enumerate(keys)
            for p, part in enumerate(parts)
        ]
        self._carried = list(range(len(keys)))
        # Of this try.
        self._plane = Plane.INLINE
        self._receiving: Optional[Receiving] = None

    def _runs(self, info: SpaceInfo, part: Part) -> Sequence[Run]:
        if part.group >= len(info.space.groups):
            return []
        group = info.space.groups[part.group]
        if group.pipeline_layers and part.pp_rank >= len(group.pipeline_layers):
            return []
        first, count = self._request.first_layer, self._request.layer_count
        return layer_runs(group, info.space.tokens_per_block, part.pp_rank, first, count)

    def request(self) -> Any:
        """The request of this try."""
        request = pb.GetRequest()
        request.CopyFrom(self._request)
        request.keys.extend(self._keys[k] for k in self._carried)
        if self._request.stretches:
            del request.stretches[:]
            request.stretches.extend(self._request.stretches[k] for k in self._carried)
        return request

    def retry(self) -> bool:
        """Begins another try with what has not ended; false if all has."""
        self._began = 0.0  # what is left of a read tells little
        width = len(self._parts)
        self._carried = [
            k
            for k in range(len(self._keys))
            if not all(item.done for item in self._items[k * width : (k + 1) * width])
        ]
        for item in self._items:
            item.settled = item.done
            if not item.done:
                item.expected = -1
                item.received = 0
                item.encoded = None
        if self._decoder is not None:
            self._decoder.forget()
        return bool(self._carried)

    def lane_request(self, plane: Plane, memories: MemoryMap) -> Optional[LaneRequest]:
        """What this try asks of a stream; None if a buffer is not registered for it."""
        self._plane, self._receiving = plane, None
        width = len(self._parts)
        sinks: List[Sink] = []
        for k in self._carried:
            for item in self._items[k * width : (k + 1) * width]:
                if item.sink is None or (self._is_range and not item.is_packed()):
                    return None
                sinks.append(item.sink)
        spots = spots_of(plane, memories, sinks)
        if spots is None:
            return None
        if plane is Plane.BULK:
            self._receiving = Receiving(sinks, self._verify)
        keys = [self._keys[k] for k in self._carried]
        stretches = [self._request.stretches[k] for k in self._carried if self._request.stretches]

        def body(regions: Mapping[Memory, int]) -> bytes:
            return _stream.get(
                Scope(self._request.space.id, self._request.salt),
                keys,
                self._parts,
                places(spots, regions),
                stretches,
                layers=(self._request.first_layer, self._request.layer_count),
                lease=self._request.lease,
                takes=TAKES_MASK if self._decoder is not None else 0,
            )

        return LaneRequest(_stream.Type.GET, body, registered(spots), self._receiving)

    def on_lane_answer(self, body: bytes) -> None:
        """Takes the answer of the stream. Errors: MnemoError."""
        got = read(_stream.got, body)
        if len(got) != len(self._carried) * len(self._parts):
            raise make_error(Code.INTERNAL, "an answer of the stream: not one for each part")
        for index, part in enumerate(got):
            item = self._item(index)
            if item.settled:
                continue
            if part.error is not None:
                item.fail(part.error)
                continue
            result = item.result
            result.plane = self._plane
            result.size, result.digest = part.size, part.digest
            result.level, result.depth = part.level, part.depth
            result.fidelity = part.fidelity
            if part.fidelity is not None and part.written != part.size:
                result.digest = None  # of layers alone there is none
            item.expected = item.received = part.written
            if item.sink is None or part.written > item.sink.size:
                raise make_error(Code.INTERNAL, f"part {index}: {part.written} bytes written")
            if self._receiving is not None and self._receiving.received(index) != part.written:
                item.fail(make_error(Code.INTERNAL, f"part {index}: other bytes than came"))
                continue
            if part.encoded:
                self._begin_encoded(item, index, part.runs, part.digest, part.put_digest)
                if item.encoded is not None:
                    # A copy: it is decoded into where it lies.
                    item.encoded.data += item.sink.read(part.written)
                    self._arrived(item)
                continue
            result.data = item.sink.view(part.written)
            digest = None if self._receiving is None else self._receiving.digest(index)
            self._complete(item, digest)

    def _item(self, index: int) -> _Incoming:
        width = len(self._parts)
        if index >= len(self._carried) * width:
            raise make_error(Code.INTERNAL, f"index {index} is not in the call")
        return self._items[self._carried[index // width] * width + index % width]

    def on_message(self, message: bytes) -> None:
        """Takes a serialised message. Errors: MnemoError (it breaks the contract)."""
        try:
            piece = decode_get_data(message)
        except ValueError as error:
            raise make_error(Code.INTERNAL, f"answer of Get: {error}") from None
        if piece is not None:
            self._on_data(*piece)
            return
        response = pb.GetResponse.FromString(message)
        if response.HasField("header"):
            self._on_header(response.header)
        elif response.HasField("data"):
            data = response.data
            self._on_data(data.index, data.offset, memoryview(data.data))

    def _on_header(self, header: Any) -> None:
        item = self._item(header.index)
        if item.settled:
            return
        if header.HasField("error"):
            # Also behind data: it withdraws a part that could not be read on.
            item.fail(_convert.from_item_error(header.error))
            return
        if item.done or item.expected >= 0:
            raise make_error(Code.INTERNAL, f"part {header.index}: a second header")
        result = item.result
        result.size = header.size
        result.fidelity = _convert.from_fidelity(header)
        if result.fidelity is None or header.HasField("digest"):
            result.digest = _convert.from_digest(header.digest)
        result.level = Level(header.level)
        result.depth = header.depth
        item.expected = header.bytes_following
        if item.expected > min(header.size, MAX_PART_BYTES):
            item.fail(make_error(Code.INTERNAL, f"a part of {item.expected} bytes was announced"))
            return
        if header.HasField("encoded"):
            runs = [(run.first, run.count) for run in header.encoded.runs]
            put_digest = _convert.from_digest(header.put_digest)
            self._begin_encoded(item, header.index, runs, result.digest, put_digest)
            return
        if item.sink is None:
            item.sink = Sink(bytearray(item.expected))
        if item.sink.size < item.expected:
            item.fail(
                make_error(
                    Code.INVALID_ARGUMENT,
                    f"into: {item.sink.size} bytes for a part of {item.expected}",
                )
            )
            return
        # A buffer as long as the whole part gets a range at its own place.
        item.whole = not self._is_range or item.sink.size == header.size
        result.data = item.sink.view(header.size if item.whole else item.expected)
        if item.expected == 0:
            self._complete(item)

    def _on_data(self, index: int, offset: int, data: memoryview) -> None:
        item = self._item(index)
        if item.done:
            return
        if item.encoded is not None:
            self._on_encoded_data(item, index, offset, data)
            return
        if item.expected < 0 or item.sink is None:
            raise make_error(Code.INTERNAL, f"data of part {index} before its header")
        if item.received + len(data) > item.expected:
            raise make_error(Code.INTERNAL, f"part {index}: more than {item.expected} bytes")
        position = offset
        if not item.whole:
            try:
                position = packed_position(item.runs, offset, len(data))
            except ValueError as error:
                raise make_error(Code.INTERNAL, f"part {index}: {error}") from None
        if position + len(data) > item.sink.size:
            raise make_error(Code.INTERNAL, f"part {index}: offset {offset} is outside of it")
        item.sink.write(position, data)
        item.received += len(data)
        if item.received == item.expected:
            self._complete(item)

    def _begin_encoded(
        self,
        item: _Incoming,
        index: int,
        runs: Sequence[Tuple[int, int]],
        digest: Optional[Digest],
        put_digest: Optional[Digest],
    ) -> None:
        size = item.result.size
        if self._decoder is None or not 0 < item.expected <= size <= MAX_PART_BYTES:
            raise make_error(Code.INTERNAL, f"part {index}: encoded in {item.expected} bytes")
        read = sum(length for _, length in item.runs) if self._is_range else size
        if item.sink is None:
            item.sink = Sink(bytearray(read))
        if item.sink.size < read:
            item.fail(
                make_error(
                    Code.INVALID_ARGUMENT, f"into: {item.sink.size} bytes for a part of {read}"
                )
            )
            return
        item.whole = not self._is_range or item.sink.size == size
        item.encoded = EncodedPart(runs, digest, put_digest)

    def _on_encoded_data(
        self, item: _Incoming, index: int, offset: int, data: memoryview
    ) -> None:
        assert item.encoded is not None
        if offset != item.received or item.received + len(data) > item.expected:
            raise make_error(Code.INTERNAL, f"part {index}: other bytes than were announced")
        item.encoded.data += data
        item.received += len(data)
        if item.received == item.expected:
            self._arrived(item)

    def _arrived(self, item: _Incoming) -> None:
        """All of an encoded part is here."""
        assert item.encoded is not None and self._decoder is not None
        item.result.bytes_received = len(item.encoded.data)
        self._decoder.take(item.encoded, item.result.size, partial(self._decoded, item))

    def _decoded(self, item: _Incoming, outcome: Union[Decoded, MnemoError]) -> None:
        """Puts what a part was decoded to where it belongs."""
        if isinstance(outcome, MnemoError):
            item.fail(outcome)
            return
        assert item.sink is not None
        written = 0
        for section, data in outcome.sections:
            position = section.offset
            if not item.whole:
                try:
                    position = packed_position(item.runs, section.offset, section.size)
                except ValueError as error:
                    item.fail(make_error(Code.DATA_LOSS, str(error)))
                    return
            if position + section.size > item.sink.size:
                item.fail(make_error(Code.DATA_LOSS, "a section is outside of the part"))
                return
            item.sink.write(position, data)
            written += section.size
        item.encoded = None
        item.expected = item.received = written
        result = item.result
        result.data = item.sink.view(result.size if item.whole else written)
        result.digest = None if outcome.lossy else outcome.digest
        if outcome.whole and outcome.lossy:
            result.digest = item.sink.digest(result.size)
        self._complete(item)

    def missing_calibrations(self) -> List[int]:
        """What parts that are here take to be decoded: to be asked for, and learnt."""
        return self._decoder.missing() if self._decoder is not None else []

    def calibration_request(self, number: int) -> Any:
        """Asks for one of them."""
        return pb.GetCalibrationRequest(space=self._request.space, id=number)

    def learn(self, number: int, answer: Any) -> None:
        """Takes the answer, or the MnemoError that says why there is none."""
        assert self._decoder is not None
        self._decoder.learn(number, answer)

    def _complete(self, item: _Incoming, digest: Optional[Digest] = None) -> None:
        """`digest`: of what came, if it is known already."""
        item.done = True
        size = item.result.size
        if not self._verify or item.expected != size or item.sink is None:
            return
        said = item.result.digest
        if digest is None and said is not None:
            digest = item.sink.digest(size)
        if digest is not None and said is not None and digest != said:
            item.fail(make_error(Code.DATA_LOSS, "the bytes differ from their digest on arrival"))

    def finish(self, error: Optional[MnemoError]) -> List[GetResult]:
        """The results, key by key and within a key part by part.

        Errors: `error`, if no part ended, unless this goes on from another call.
        """
        if self._raises and error and not any(item.done for item in self._items):
            raise error
        self._measure()
        unfinished = [item for item in self._items if not item.done]
        if unfinished:
            left = detached(error or make_error(Code.INTERNAL, "the call ended inside this part"))
            for item in unfinished:
                item.fail(left)
        return [item.result for item in self._items]

    def _measure(self) -> None:
        """Tells the meter how long it took, if all of it came in one try."""
        if self._began == 0.0 or not self._items:
            return
        seconds = time.perf_counter() - self._began
        for item in self._items:
            if not item.done or item.result.error is not None:
                return
        width = len(self._parts)
        shares = []
        for first in range(0, len(self._items), width):
            level, size = Level.UNSPECIFIED, 0
            for item in self._items[first : first + width]:
                size += item.expected
                if item.result.level > level:
                    level = item.result.level
            shares.append(Share(level, 1, size))
        if len(shares) > 1:
            shares = together(shares)
        self._meter.record(self._items[0].result.plane, shares, seconds)
