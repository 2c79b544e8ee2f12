"""A running stream through the Gateway, watched on the socket itself."""

from __future__ import annotations

import socket
import time

from orchard import LEDGER, Orchard


class RunningStream:
    """Opens `/sse` and has read its first event."""

    def __init__(self, orchard: Orchard, mandate: str) -> None:
        address = orchard.stack.socket_address("gateway")
        self._socket = socket.create_connection(address, timeout=10)
        request = (
            "GET /sse HTTP/1.1\r\n"
            f"host: {address[0]}:{address[1]}\r\n"
            f"authorization: Bearer {mandate}\r\n"
            f"x-caracal-resource: {LEDGER}\r\n\r\n"
        )
        self._socket.sendall(request.encode())
        self._bytes = b""
        while b"data: first\n\n\r\n" not in self._bytes:
            more = self._socket.recv(4096)
            assert more, f"the stream ended before its first event: {self._bytes!r}"
            self._bytes += more
        head = self._bytes.split(b"\r\n\r\n", 1)[0].lower()
        assert head.startswith(b"http/1.1 200"), head
        assert b"transfer-encoding: chunked" in head, head

    def seconds_to_end(self, deadline: float = 5.0) -> float:
        """Reads to the end of the connection; how long that took."""
        began = time.monotonic()
        self._socket.settimeout(deadline)
        try:
            while more := self._socket.recv(4096):
                self._bytes += more
        except ConnectionResetError:
            pass
        return time.monotonic() - began

    def ended_cleanly(self) -> bool:
        """Whether the body had its last, empty chunk: a reader would take it for whole."""
        body = self._bytes.split(b"\r\n\r\n", 1)[1]
        return body.endswith(b"\r\n\r\n") and b"\r\n0\r\n" in body

    def close(self) -> None:
        self._socket.close()
