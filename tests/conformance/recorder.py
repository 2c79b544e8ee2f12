"""A proxy in front of one role that writes down every call a client makes to it."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from upstream import read_body

# Headers that belong to one connection, not to the message.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}


@dataclass
class Call:
    """One call as it went over the wire."""

    role: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode(), keep_blank_values=True)

    def json(self) -> dict:
        return json.loads(self.body)


class Recorder:
    """Stands before the roles; every role's calls land in one list, in order."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._servers: list[ThreadingHTTPServer] = []

    def before(self, role: str, port: int) -> str:
        """Starts a proxy before the role at this port; returns the proxy's URL."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(role, port))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self._servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    def take(self) -> list[Call]:
        """The calls since the last take."""
        calls, self.calls = self.calls, []
        return calls

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _handler(self, role: str, port: int) -> type[BaseHTTPRequestHandler]:
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def forward(self) -> None:
                body = read_body(self)
                headers = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in HOP_BY_HOP
                }
                behind = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                try:
                    behind.request(self.command, self.path, body or None, headers)
                    answer = behind.getresponse()
                    content = answer.read()
                finally:
                    behind.close()
                lower = {name.lower(): value for name, value in self.headers.items()}
                recorder.calls.append(
                    Call(role, self.command, self.path, lower, body, answer.status)
                )
                self.send_response_only(answer.status, answer.reason)
                for name, value in answer.getheaders():
                    if name.lower() not in HOP_BY_HOP | {"content-length"}:
                        self.send_header(name, value)
                if answer.status != 204:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

        return Handler
