"""A server of the stream protocol that does what a test says, for the Python client.

`serve(connection)` runs for each stream, on a thread of its own, until it returns or
the client goes away. The daemon itself is what the integration tests run.
"""

from __future__ import annotations

import array
import os
import socket
import struct
import tempfile
import threading

from mnemod import _stream

_HEADER = struct.Struct("<4sBBHIIQII")


class Gone(Exception):
    """The client has closed the stream."""


class Request:
    def __init__(self, type_, id_, timeout_ms, body, descriptors):
        self.type = type_
        self.id = id_
        self.timeout_ms = timeout_ms
        self.body = body
        self.descriptors = descriptors


class Connection:
    def __init__(self, accepted):
        self.socket = accepted
        self._bytes = b""
        self._descriptors = []

    def _need(self, count):
        while len(self._bytes) < count:
            space = socket.CMSG_LEN(4 * array.array("i").itemsize)
            data, extra, _, _ = self.socket.recvmsg(1 << 16, space)
            for _, _, numbers in extra:
                self._descriptors += array.array("i", numbers)
            if not data:
                raise Gone
            self._bytes += data

    def receive(self):
        """The next request."""
        self._need(_stream.HEADER_BYTES)
        head = _HEADER.unpack(self._bytes[: _stream.HEADER_BYTES])
        end = _stream.HEADER_BYTES + head[4]
        self._need(end)
        body, self._bytes = self._bytes[_stream.HEADER_BYTES : end], self._bytes[end:]
        descriptors, self._descriptors = self._descriptors, []
        return Request(head[2], head[6], head[5], body, descriptors)

    def send(self, data):
        self.socket.sendall(data)

    def answer(self, request, body, code=0):
        """Answers with what belongs behind code 0, or with an error of this text."""
        if code:
            body = struct.pack("<H", len(body)) + body
        self.send(
            _stream.frame(request.type + _stream.ANSWER, request.id, bytes([code]) + body)
        )

    def welcome(self, requests=64):
        """Answers HELLO, which is returned."""
        hello = self.receive()
        assert hello.type == _stream.Type.HELLO
        self.answer(hello, struct.pack("<IIQHQ", requests, 16, 1 << 30, 0, 0))
        return hello

    def register(self, region=1):
        """Answers REGISTER, which is returned; its descriptors are the caller's."""
        request = self.receive()
        assert request.type == _stream.Type.REGISTER
        self.answer(request, struct.pack("<IB", region, 1))
        return request


class FakeLane:
    def __init__(self, serve):
        self._folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self._folder.name, "s")
        self.opened = 0
        self._serve = serve
        self._threads = []
        self._connections = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(16)
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def _accept(self):
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self.opened += 1
            self._connections.append(accepted)
            thread = threading.Thread(target=self._run, args=(accepted,))
            self._threads.append(thread)
            thread.start()

    def _run(self, accepted):
        try:
            self._serve(Connection(accepted))
        except (Gone, OSError):
            pass
        finally:
            accepted.close()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join()
        self._folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
