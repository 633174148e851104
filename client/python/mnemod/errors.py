"""What a call raises. Every error names its code and keeps the server's words."""

from __future__ import annotations

from enum import IntEnum
from typing import Dict, Optional, Type


class Code(IntEnum):
    """google.rpc.Code."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class MnemoError(Exception):
    """A call, or one key of it, failed.

    `retry_after` is how many seconds the server asked to wait; negative if it
    asked not to try again; None if it said nothing. Of an append,
    `next_position` is where a batch would have had to begin, and below
    `acknowledged` everything is stored; None where it is not known.
    """

    code = Code.UNKNOWN
    next_position: Optional[int] = None
    acknowledged: Optional[int] = None

    def __init__(
        self, message: str, code: Optional[Code] = None, retry_after: Optional[float] = None
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


class InvalidArgumentError(MnemoError):
    """A field is out of its range; the message names both."""

    code = Code.INVALID_ARGUMENT


class NotFoundError(MnemoError):
    """A space, a block or a lease is not there."""

    code = Code.NOT_FOUND


class FailedPreconditionError(MnemoError):
    """The space differs from what was asked, or cannot do this."""

    code = Code.FAILED_PRECONDITION


class OutOfRangeError(MnemoError):
    """The sequence of a watch is gone."""

    code = Code.OUT_OF_RANGE


class ResourceExhaustedError(MnemoError):
    """A quota or the disk is full."""

    code = Code.RESOURCE_EXHAUSTED


class UnavailableError(MnemoError):
    """Nobody answered, or the server sheds load."""

    code = Code.UNAVAILABLE


class DeadlineExceededError(MnemoError):
    """The call's time was over."""

    code = Code.DEADLINE_EXCEEDED


class CancelledError(MnemoError):
    """The call was cancelled."""

    code = Code.CANCELLED


class DataLossError(MnemoError):
    """Stored bytes failed their checksum, or bytes changed on the way."""

    code = Code.DATA_LOSS


class PermissionDeniedError(MnemoError):
    """The caller may not do this."""

    code = Code.PERMISSION_DENIED


class UnauthenticatedError(MnemoError):
    """The server does not know the caller."""

    code = Code.UNAUTHENTICATED


_BY_CODE: Dict[Code, Type[MnemoError]] = {
    kind.code: kind
    for kind in (
        InvalidArgumentError,
        NotFoundError,
        FailedPreconditionError,
        OutOfRangeError,
        ResourceExhaustedError,
        UnavailableError,
        DeadlineExceededError,
        CancelledError,
        DataLossError,
        PermissionDeniedError,
        UnauthenticatedError,
    )
}


def make_error(code: int, message: str, retry_after: Optional[float] = None) -> MnemoError:
    """Returns the error class of `code`, made of `message`."""
    try:
        known = Code(code)
    except ValueError:
        return MnemoError(f"code {code}: {message}", Code.UNKNOWN, retry_after)
    return _BY_CODE.get(known, MnemoError)(message, known, retry_after)


def detached(error: MnemoError) -> MnemoError:
    """Returns the error, for keeping: without the frames that it came through.

    They would keep the caller's buffers alive for as long as the error.
    """
    error.__context__ = None
    error.__traceback__ = None
    return error
