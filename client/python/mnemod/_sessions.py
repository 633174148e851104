"""Put and Get as state machines, without input or output.

The blocking and the asynchronous client drive the same ones. Not thread-safe:
the driver serialises.
"""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Union

from . import _convert
from ._buffers import Run, Sink, Source, layer_runs, packed_position
from ._contract import pb
from ._wire import MAX_PAYLOAD, decode_get_data, encode_put_data
from .blocks import Block, GetResult, Level, Part, PutOutcome, PutResult, Verdict
from .errors import Code, MnemoError, detached, make_error
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

    __slots__ = ("result", "sink", "runs", "whole", "expected", "received", "done", "settled")

    def __init__(self, result: GetResult, sink: Optional[Sink], runs: Sequence[Run]) -> None:
        self.result = result
        self.sink = sink
        self.runs = runs
        self.whole = True
        self.expected = -1
        self.received = 0
        self.done = False
        # Done in an earlier try: what a later one says of it does not count.
        self.settled = False

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
        raises: bool = True,
    ) -> None:
        count = len(keys) * len(parts)
        if into is not None and len(into) != count:
            raise ValueError(f"into: {len(into)} buffers for {count} parts (keys times parts)")
        self._request = request
        self._keys = keys
        self._parts = parts
        self._verify = verify
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
        return bool(self._carried)

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
        result.digest = _convert.from_digest(header.digest)
        result.level = Level(header.level)
        result.depth = header.depth
        item.expected = header.bytes_following
        if item.expected > min(header.size, MAX_PART_BYTES):
            item.fail(make_error(Code.INTERNAL, f"a part of {item.expected} bytes was announced"))
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

    def _complete(self, item: _Incoming) -> None:
        item.done = True
        size = item.result.size
        if not self._verify or item.expected != size or item.sink is None:
            return
        digest = item.sink.digest(size)
        if digest is not None and digest != item.result.digest:
            item.fail(make_error(Code.DATA_LOSS, "the bytes differ from their digest on arrival"))

    def finish(self, error: Optional[MnemoError]) -> List[GetResult]:
        """The results, key by key and within a key part by part.

        Errors: `error`, if no part ended, unless this goes on from another call.
        """
        if self._raises and error and not any(item.done for item in self._items):
            raise error
        left = detached(error or make_error(Code.INTERNAL, "the call ended inside this part"))
        for item in self._items:
            if not item.done:
                item.fail(left)
        return [item.result for item in self._items]
