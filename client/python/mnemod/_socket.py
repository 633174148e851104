"""The sockets of streams: of this host, or over TCP, plain or under TLS.

Both clients use them; none of their calls waits.
"""

from __future__ import annotations

import array
import os
import socket
import ssl
import threading
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

from ._channel import Tls, parse_target
from ._contract import pb
from .blocks import Plane
from .errors import FailedPreconditionError

# host, port
Address = Tuple[str, int]
# Of the contract.
_STREAM_PLANE = {Plane.FAST: 1, Plane.BULK: 2}


class Way(NamedTuple):
    """How a stream is come by: the path of a UNIX socket, or where TCP listens."""

    address: Union[str, Address]
    ticket: bytes
    tls: Optional[Tls] = None
    name: str = ""  # that the certificate must have


class Reach(NamedTuple):
    """How a client reaches its daemon."""

    target: str
    tls: Optional[Tls] = None
    secure: bool = False  # its channel is not plain: no stream over TCP may be


def open_request(plane: Plane) -> Any:
    """The OpenStreamRequest for the way of a plane."""
    return pb.OpenStreamRequest(plane=_STREAM_PLANE[plane])


def way_of(plane: Plane, answer: Any, reach: Reach) -> Way:
    """What an OpenStreamResponse says. Errors: FailedPreconditionError."""
    if plane is Plane.FAST:
        return Way(answer.unix_socket, answer.ticket)
    if not answer.tcp_address:
        # A server that does not know of planes answers with its UNIX socket.
        raise FailedPreconditionError("this node serves no streams over TCP")
    # Whoever answers for the daemon must not talk a client out of its TLS.
    if (reach.secure or reach.tls is not None) and not answer.tls:
        raise FailedPreconditionError(
            "the daemon's streams over TCP are plain, and this client is to use TLS"
        )
    host, port = _split(answer.tcp_address)
    target = parse_target(reach.target)
    by_socket = target.startswith("unix:")
    of_any = host in ("0.0.0.0", "::")
    name = host if by_socket else _split(target)[0]
    if of_any:
        name = ("::1" if host == "::" else "127.0.0.1") if by_socket else name
        host = name
    tls = (reach.tls or Tls()) if answer.tls else None
    if tls is not None and tls.server_name:
        name = tls.server_name
    return Way((host, port), answer.ticket, tls, name)


def _split(address: str) -> Address:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class StreamSocket:
    """A connected socket. One thread may send while another receives."""

    holds = False
    """Whether some of what `send` did not take may have left: the same must follow."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected

    def fileno(self) -> int:
        """Its descriptor; -1 if it is closed."""
        return self._socket.fileno()

    def recv_into(self, view: memoryview) -> Optional[int]:
        """Bytes that were there, 0 at the end; None: nothing now. Errors: OSError."""
        try:
            return self._socket.recv_into(view)
        except BlockingIOError:
            return None

    def send(self, pieces: Sequence[memoryview], fd: int = -1) -> int:
        """Bytes that were taken, with the first of them the descriptor. Errors: OSError."""
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
        try:
            return self._socket.sendmsg(pieces, extra)
        except BlockingIOError:
            return 0

    def has_more(self) -> bool:
        """Whether bytes have come that no event of the descriptor tells of."""
        return False

    def close(self) -> None:
        """Ends it; who waits for it wakes up. Idempotent."""
        try:
            # Not that of TLS, whose state may be in use.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            pass  # it was not connected
        self._socket.close()


class TlsStreamSocket(StreamSocket):
    """The same under TLS, whose state is one thread's at a time."""

    def __init__(self, connected: ssl.SSLSocket) -> None:
        super().__init__(connected)
        self._tls = connected
        self._lock = threading.Lock()

    def recv_into(self, view: memoryview) -> Optional[int]:
        try:
            with self._lock:
                return self._tls.recv_into(view)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except ssl.SSLEOFError:
            return 0

    def send(self, pieces: Sequence[memoryview], fd: int = -1) -> int:
        try:
            with self._lock:
                sent = self._tls.send(pieces[0])
            self.holds = False
            return sent
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self.holds = True  # a record is made of it already
            return 0

    def has_more(self) -> bool:
        with self._lock:
            return self._tls.fileno() >= 0 and self._tls.pending() > 0


def rest_of(pieces: Sequence[memoryview], sent: int) -> List[memoryview]:
    """What is left of pieces behind their first `sent` bytes."""
    for index, piece in enumerate(pieces):
        if sent < len(piece):
            return [piece[sent:], *pieces[index + 1 :]]
        sent -= len(piece)
    return []


def new_socket(family: int, address: Any) -> socket.socket:
    """A socket that is about to connect to `address`. Errors: OSError."""
    made = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_UNIX:
        return made
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if address[0] == "::1" or address[0].startswith("127."):
        # Within a host there is no path that pacing could spare: docs/decisions/0148.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    return made


def start_tls(connected: socket.socket, way: Way) -> ssl.SSLSocket:
    """Puts TLS over it, without the handshake. Errors: OSError, ValueError."""
    tls = way.tls or Tls()
    context = ssl.create_default_context(cadata=tls.ca.decode() if tls.ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate is not None:
        _show(context, tls)
    return context.wrap_socket(connected, server_hostname=way.name, do_handshake_on_connect=False)


def _show(context: ssl.SSLContext, tls: Tls) -> None:
    # The library reads them from files only: here of memory, that nobody else sees.
    fd = os.memfd_create("mnemod-tls", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write((tls.certificate or b"") + b"\n" + (tls.key or b""))
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def connect(way: Way, timeout: float) -> StreamSocket:
    """A socket that is connected. Errors: OSError."""
    if isinstance(way.address, str):
        return StreamSocket(_connect(socket.AF_UNIX, way.address, timeout))
    failure: OSError = OSError(f"{way.name} has no address")
    for family, _, _, _, address in socket.getaddrinfo(*way.address, type=socket.SOCK_STREAM):
        try:
            connected = _connect(family, address, timeout)
        except OSError as error:
            failure = error
            continue
        if way.tls is None:
            return StreamSocket(connected)
        try:
            secured = start_tls(connected, way)
            secured.do_handshake()
            return TlsStreamSocket(secured)
        except BaseException:
            connected.close()
            raise
    raise failure


def _connect(family: int, address: Any, timeout: float) -> socket.socket:
    made = new_socket(family, address)
    try:
        # A UNIX socket whose backlog is full counts as one that is not there.
        made.settimeout(0 if family == socket.AF_UNIX else max(timeout, 0.001))
        made.connect(address)
        return made
    except BaseException:
        made.close()
        raise
