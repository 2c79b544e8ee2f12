"""Reading what a role answered."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, TypeVar

import httpx

Found = TypeVar("Found")


def refused(response: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The body of a refusal: a JSON object with a string `error`."""
    assert response.status_code == status, f"{response.status_code}: {response.text}"
    assert response.headers["content-type"].split(";")[0] == "application/json"
    body = response.json()
    assert isinstance(body, dict), body
    assert isinstance(body.get("error"), str), body
    if code is not None:
        assert body["error"] == code, body
    return body


def answered(response: httpx.Response, status: int) -> Any:
    """The JSON body of a success."""
    assert response.status_code == status, f"{response.status_code}: {response.text}"
    return response.json()


def claims_of(mandate: str) -> dict[str, Any]:
    """The claims, unverified."""
    return json.loads(_part(mandate, 1))


def header_of(mandate: str) -> dict[str, Any]:
    return json.loads(_part(mandate, 0))


def _part(mandate: str, index: int) -> bytes:
    part = mandate.split(".")[index]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def instant(text: str) -> datetime:
    """An RFC 3339 instant in UTC with millisecond precision, as every role writes it."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)


def eventually(look: Callable[[], Found | None], what: str, seconds: float = 20.0) -> Found:
    """Looks until there is something to see. Only for what the product shows with a delay: evidence
    on its way into the store, a record passing its expiry."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not seen within {seconds} s: {what}"
        time.sleep(0.02)
