"""The service behind the Gateway: says what it received."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Received:
    """One request as the upstream saw it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name.lower()]
        return ", ".join(values) if values else None

    def header_names(self) -> set[str]:
        return {name for name, _ in self.headers}


def read_body(handler: BaseHTTPRequestHandler) -> bytes:
    """The body of a request, with a declared length or in chunks."""
    if "chunked" in handler.headers.get("transfer-encoding", "").lower():
        body = b""
        while size := int(handler.rfile.readline().split(b";")[0], 16):
            body += handler.rfile.read(size)
            handler.rfile.readline()
        while handler.rfile.readline().strip():
            pass
        return body
    return handler.rfile.read(int(handler.headers.get("content-length", "0")))


@dataclass
class Upstream:
    """Answers every method and path with what it received, as JSON. `/redirect` answers 302,
    `/teapot` 418, and `/sse` sends one event, then stays silent until its connection ends."""

    received: list[Received] = field(default_factory=list)
    streams_ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def last(self) -> Received:
        return self.received[-1]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def answer(self) -> None:
                received = Received(
                    self.command,
                    self.path,
                    [(name.lower(), value) for name, value in self.headers.items()],
                    read_body(self),
                )
                upstream.received.append(received)
                path = self.path.split("?")[0]
                if path == "/sse":
                    self.stream()
                elif path == "/redirect":
                    self.whole(302, {}, [("Location", "/entries")])
                elif path == "/teapot":
                    self.whole(418, {"short": "stout"}, [("X-Kind", "teapot")])
                else:
                    echo = {
                        "method": received.method,
                        "path": received.target,
                        "headers": dict(received.headers),
                        "body_length": len(received.body),
                    }
                    self.whole(200, echo, [])

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def whole(self, status: int, body: dict, headers: list[tuple[str, str]]) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def stream(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                event = b"data: first\n\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                try:
                    self.connection.recv(1)
                except OSError:
                    pass
                self.close_connection = True
                upstream.streams_ended.release()

        return Handler
