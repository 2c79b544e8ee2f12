"""Requests that no HTTP library would send, byte by byte."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass, field

Headers = list[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Malformed:
    """One malformed request."""

    name: str
    method: str
    target: bytes
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    # Broken below HTTP semantics: the connection may just end, and the refusal may have no body.
    broken_framing: bool = False
    # Operators' routes that answer in plain text, by contract.
    plain_text: bool = False
    # The exact bytes, instead of the parts above.
    raw: bytes | None = None

    def render(self, host: str) -> bytes:
        if self.raw is not None:
            return self.raw
        lines = [f"{self.method} ".encode() + self.target + b" HTTP/1.1", b"host: " + host.encode()]
        names = {name.lower() for name, _ in self.headers}
        for name, value in self.headers:
            text = value if isinstance(value, bytes) else value.encode("latin-1")
            lines.append(name.encode() + b": " + text)
        if self.body and not names & {"content-length", "transfer-encoding"}:
            lines.append(f"content-length: {len(self.body)}".encode())
        lines.append(b"connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


@dataclass(frozen=True)
class WireAnswer:
    """What came back; no status when the connection ended without an answer."""

    status: int | None
    content_type: str
    body: bytes

    def refuses(self, request: Malformed) -> str | None:
        """Why this is no proper refusal of the request; None when it is one."""
        if request.broken_framing and (self.status is None or 400 <= self.status < 500):
            return None
        if self.status is None:
            return "no answer"
        if not 400 <= self.status < 500:
            return f"answered {self.status}: {self.body[:200]!r}"
        if request.plain_text and self.content_type.startswith("text/plain"):
            return None
        if self.content_type.split(";")[0] != "application/json":
            return f"{self.status} is {self.content_type!r}: {self.body[:200]!r}"
        try:
            error = json.loads(self.body)
        except ValueError:
            return f"{self.status} is no JSON: {self.body[:200]!r}"
        if not isinstance(error, dict) or not isinstance(error.get("error"), str):
            return f"{self.status} has no string `error`: {self.body[:200]!r}"
        return None


def send(address: tuple[str, int], request: Malformed, timeout: float = 10.0) -> WireAnswer:
    """Sends the request, says that nothing more comes, and reads the answer."""
    with socket.create_connection(address, timeout=timeout) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connection.sendall(request.render(f"{address[0]}:{address[1]}"))
            if request.broken_framing:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            # The answer may have come before the whole request was sent.
            pass
        response = http.client.HTTPResponse(connection, method=request.method)
        try:
            response.begin()
            body = response.read()
        except (http.client.HTTPException, ConnectionResetError, ValueError):
            return WireAnswer(None, "", b"")
        return WireAnswer(response.status, response.getheader("content-type", ""), body)
