"""The ways in which a request can be malformed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from wire import Headers, Malformed

JSON: Headers = [("content-type", "application/json")]
FORM: Headers = [("content-type", "application/x-www-form-urlencoded")]

# Path segments that are no id. What a router makes of them, no object may be found by them.
BAD_IDS = [
    b"%00",
    b"%2e%2e",
    b"..",
    b"a%20b",
    b"a%2fb",
    b"%2F%2e%2e%2Fzones",
    b"%zz",
    b"%",
    b"%ff",
    b"\xc3\xa9",
    b"%5c",
    b"x" * 129,
    b"a'b",
    b"a%0d%0ab",
    b"*",
]

BAD_PAGES = [
    "limit=0",
    "limit=-1",
    "limit=abc",
    "limit=1.5",
    "limit=99999999999999999999",
    "limit=",
    "cursor=",
    "cursor=not-a-cursor",
    "cursor=%00",
    "limit=1&limit=2",
]


def bodies(
    method: str,
    path: str,
    credentials: Headers,
    good: dict[str, Any],
    wrong: list[tuple[str, Any]],
    limit: int,
) -> Iterator[Malformed]:
    """A JSON body broken in every way, then with one wrong value at a time."""
    target, text = path.encode(), json.dumps(good).encode()

    def case(name: str, body: bytes, headers: Headers = JSON) -> Malformed:
        return Malformed(name, method, target, credentials + headers, body)

    yield case("cut off", text[:-1])
    yield case("followed by more", text + b"}")
    for other in (b"[]", b'"text"', b"7", b"null", b"true", b"\x00", b"NaN"):
        yield case(f"is {other!r}", other)
    yield case("not UTF-8", text[:-1] + b',"x":"\xff\xfe"}')
    yield case("half a surrogate pair", text[:-1] + b',"x":"\\ud800"}')
    yield case("deeply nested", b'{"x":' + b"[" * 60_000 + b"]" * 60_000 + b"}")
    yield case("empty", b"", JSON + [("content-length", "0")])
    yield case("too large", b'{"x":"' + b"x" * limit + b'"}')
    yield case("XML by its type", text, [("content-type", "application/xml")])
    yield case("a form by its type", text, FORM)
    yield case("no media type at all", text, [("content-type", ";;;")])
    longer = credentials + JSON + [("content-length", str(len(text) + 9))]
    yield Malformed("shorter than it says", method, target, longer, text, broken_framing=True)
    for field, value in wrong:
        shown = json.dumps(value)
        shown = shown if len(shown) < 40 else shown[:37] + "..."
        yield case(f"{field} = {shown}", json.dumps({**good, field: value}).encode())


def ids(method: str, template: str, credentials: Headers, body: bytes = b"") -> Iterator[Malformed]:
    """The path with each of its `{id}` places filled with what is no id; `{zone}` stays."""
    for bad in BAD_IDS:
        yield Malformed(
            f"{method} {template} with {bad[:24]!r}",
            method,
            template.encode().replace(b"{id}", bad),
            credentials + (JSON if body else []),
            body,
        )


def queries(path: str, credentials: Headers, bad: list[str]) -> Iterator[Malformed]:
    """The path with each of these queries."""
    for query in bad:
        yield Malformed(f"?{query[:60]}", "GET", f"{path}?{query}".encode(), credentials)


def forms(path: str, good: dict[str, Any], wrong: list[tuple[str, Any]]) -> Iterator[Malformed]:
    """A form broken in every way, then with one wrong value at a time; None leaves a field out."""
    target, text = path.encode(), urlencode(good, doseq=True).encode()

    def case(name: str, body: bytes, headers: Headers = FORM) -> Malformed:
        return Malformed(name, "POST", target, headers, body)

    yield case("empty", b"", FORM + [("content-length", "0")])
    yield case("bad percent escape", text + b"&x=%zz")
    yield case("half a percent escape", text + b"&x=%4")
    yield case("not UTF-8", text + b"&scope=%ff%fe")
    yield case("raw bytes that are not UTF-8", text + b"&x=\xff\xfe")
    yield case("too large", text + b"&x=" + b"x" * 66_000)
    yield case("JSON by its type", text, JSON)
    yield case("no media type", text, [])
    yield case("text by its type", text, [("content-type", "text/plain")])
    longer = FORM + [("content-length", str(len(text) + 9))]
    yield Malformed("shorter than it says", "POST", target, longer, text, broken_framing=True)
    for field in good:
        if field != "resource":
            yield case(f"{field} twice", text + f"&{field}=x".encode())
    for field, value in wrong:
        fields = {name: each for name, each in {**good, field: value}.items() if each is not None}
        yield case(f"{field} = {str(value)[:40]!r}", urlencode(fields, doseq=True).encode())


def framing(target: bytes = b"/health") -> Iterator[Malformed]:
    """Requests that are broken below the meaning of HTTP."""

    def raw(name: str, text: bytes) -> Malformed:
        return Malformed(name, "GET", target, broken_framing=True, raw=text)

    host = b"Host: localhost\r\n"
    line = b"GET " + target + b" HTTP/1.1\r\n"
    yield raw("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n")
    yield raw("no version", b"GET " + target + b"\r\n\r\n")
    yield raw("an unknown version", b"GET " + target + b" HTTP/9.9\r\n" + host + b"\r\n")
    yield raw("a space in the target", b"GET /a b HTTP/1.1\r\n" + host + b"\r\n")
    yield raw("a null byte in the target", b"GET /a\x00b HTTP/1.1\r\n" + host + b"\r\n")
    yield raw("a null byte in a header", line + host + b"x-a: a\x00b\r\n\r\n")
    yield raw("a header name with a space", line + host + b"x a: b\r\n\r\n")
    yield raw("a header without a colon", line + host + b"x-a\r\n\r\n")
    yield raw("a folded header", line + host + b"x-a: b\r\n c\r\n\r\n")
    yield raw("a huge header", line + host + b"x-a: " + b"y" * 70_000 + b"\r\n\r\n")
    yield raw("a huge target", b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\n" + host + b"\r\n")
    yield raw("a thousand headers", line + host + b"x-a: b\r\n" * 1000 + b"\r\n")
    post = b"POST " + target + b" HTTP/1.1\r\n" + host
    yield raw("a negative length", post + b"content-length: -1\r\n\r\n")
    yield raw("a length that is no number", post + b"content-length: abc\r\n\r\n")
    yield raw("two lengths", post + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab")
    yield raw("a chunk size that is no number", post + b"transfer-encoding: chunked\r\n\r\nzz\r\n")
    yield raw(
        "an endless chunk size", post + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n"
    )
    yield raw("an unknown transfer coding", post + b"transfer-encoding: zip\r\n\r\nabc")
    yield raw("CONNECT", b"CONNECT example.org:443 HTTP/1.1\r\n" + host + b"\r\n")
    yield raw("half a head", line + host + b"x-a: b")
