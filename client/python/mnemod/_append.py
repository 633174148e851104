"""Append as a state machine, without input or output.

The blocking and the asynchronous client drive the same one. Not thread-safe:
the driver serialises.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Iterable, Iterator, NamedTuple, Optional, Union

from . import _context_convert as convert
from ._contract import pb
from ._sessions import DONE, WAIT, Done, Wait
from .contexts import AppendResult, Tokens
from .errors import Code, MnemoError, detached, make_error
from .spaces import Durability

# Batches that may be unanswered: so many are kept, to be sent again.
MAX_UNANSWERED = 16


class _Batch(NamedTuple):
    end: int
    message: bytes


class AppendSession:
    """One append, over as many tries as it takes.

    A later try goes on with the last batch that the server says it has: the
    server compares, so tokens of another writer are never taken for ours.
    """

    def __init__(
        self,
        context_id: int,
        writer_id: int,
        durability: Durability,
        dimension: int,
        tokens: Iterable[Tokens],
        first_position: Optional[int],
    ) -> None:
        self._start = pb.AppendStart(
            context=pb.ContextRef(id=context_id), writer_id=writer_id, durability=int(durability)
        )
        self._dimension = dimension
        self._source = iter(tokens)
        self._first = first_position
        self._made: Optional[int] = first_position
        self._acknowledged: Optional[int] = first_position
        self._expected: Optional[int] = None
        self._repeated = 0
        self._unanswered: Deque[_Batch] = deque()
        self._messages: Iterator[_Batch] = self._batches()
        self._exhausted = False
        self._begin()

    def _begin(self) -> None:
        self._started = False
        self._ready = False
        self._resend = 0  # of the unanswered, how many this try has sent

    def retry(self) -> bool:
        """Begins another try with what is not acknowledged; false if all is."""
        self._begin()
        return not (self._exhausted and not self._unanswered)

    def _batches(self) -> Iterator[_Batch]:
        for tokens in self._source:
            columns = convert.Columns(tokens, self._dimension)
            for count, message in columns.messages(self._position()):
                self._made = self._position() + count
                yield _Batch(self._made, message)

    def _position(self) -> int:
        if self._made is None:
            raise make_error(Code.INTERNAL, "no position before the server has answered")
        return self._made

    def next_message(self) -> Union[bytes, Wait, Done]:
        """The next message to send, serialised."""
        if not self._started:
            self._started = True
            data: bytes = pb.AppendRequest(start=self._start).SerializeToString()
            return data
        if not self._ready:
            return WAIT
        if self._resend < len(self._unanswered):
            self._resend += 1
            return self._unanswered[self._resend - 1].message
        if self._exhausted:
            return DONE
        if len(self._unanswered) >= MAX_UNANSWERED:
            return WAIT
        batch = next(self._messages, None)
        if batch is None:
            self._exhausted = True
            return DONE
        self._unanswered.append(batch)
        self._resend += 1
        return batch.message

    def on_response(self, response: Any) -> None:
        """Takes a message of the server. Errors: MnemoError (a refusal, or it breaks the
        contract)."""
        if response.HasField("ready"):
            self._ready = True
            self._forget_stored(response.ready.next_position)
            if self._made is None:
                self._first = self._made = self._acknowledged = response.ready.next_position
        elif response.HasField("ack"):
            if not self._unanswered:
                raise make_error(Code.INTERNAL, "a batch was acknowledged that was not sent")
            batch = self._unanswered.popleft()
            self._resend -= 1
            self._acknowledged = batch.end
            self._repeated += bool(response.ack.repeated_batch)
            if response.ack.next_position < batch.end:
                raise make_error(Code.INTERNAL, "an acknowledgement does not reach its batch")
        elif response.HasField("refusal"):
            self._expected = response.refusal.next_position
            # Raised here, since a write that meets the end of the stream can hide
            # the status that follows.
            raise make_error(response.refusal.error.code, response.refusal.error.message)

    def _forget_stored(self, next_position: int) -> None:
        """Keeps of what is stored the last batch, which stands for those before it."""
        stored = sum(batch.end <= next_position for batch in self._unanswered)
        for _ in range(stored - 1):
            self._unanswered.popleft()
            self._repeated += 1

    def finish(self, error: Optional[MnemoError]) -> AppendResult:
        """What was stored.

        Errors: `error`, with `next_position` and `acknowledged` beside it.
        """
        if error is None and (self._unanswered or not self._exhausted):
            error = make_error(Code.INTERNAL, "the call ended before all was acknowledged")
        if error is not None:
            error = detached(error)
            error.next_position = self._expected
            error.acknowledged = self._acknowledged
            raise error
        return AppendResult(self._first or 0, self._acknowledged or 0, self._repeated)
