"""A peer that speaks just enough HTTP/2 to refuse every call."""

from __future__ import annotations

import socket
import struct
import threading
from typing import List

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS, _RST_STREAM, _SETTINGS, _PING, _ACK = 1, 3, 4, 6, 1


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class ResettingServer:
    """Answers the headers of each call with RST_STREAM and `code`; counts the calls."""

    def __init__(self, code: int) -> None:
        self.calls = 0
        self._code = code
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: List[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def target(self) -> str:
        return "127.0.0.1:%d" % self._listener.getsockname()[1]

    def __enter__(self) -> "ResettingServer":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for held in (self._listener, *self._open):
            try:
                held.shutdown(socket.SHUT_RDWR)
            except OSError:  # the client has closed it already
                pass
            held.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as incoming:
                if incoming.read(len(_PREFACE)) != _PREFACE:
                    return
                connection.sendall(_frame(_SETTINGS, 0, 0))
                while len(head := incoming.read(9)) == 9:
                    size, kind = int.from_bytes(head[:3], "big"), head[3]
                    flags, (stream,) = head[4], struct.unpack(">I", head[5:])
                    payload = incoming.read(size)
                    if kind == _HEADERS:
                        self.calls += 1
                        connection.sendall(
                            _frame(_RST_STREAM, 0, stream, struct.pack(">I", self._code))
                        )
                    elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                        echo = payload if kind == _PING else b""
                        connection.sendall(_frame(kind, _ACK, 0, echo))
        except OSError:
            pass
