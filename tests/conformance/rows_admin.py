"""Rows 77 to 83: the Admin API and the published reconcilers."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from caracalai_admin import AdminApiError, ensure_application, ensure_grants, ensure_resource

from answers import answered, refused
from conformance_row import Ground, row
from orchard import LEDGER, LIFECYCLE, OPERATIONS, READ, Application, Orchard


@contextmanager
def writes(http: httpx.Client) -> Iterator[list[str]]:
    """Method and path of every write while the block runs."""
    seen: list[str] = []

    def note(request: httpx.Request) -> None:
        if request.method != "GET":
            seen.append(f"{request.method} {request.url.path}")

    http.event_hooks["request"].append(note)
    try:
        yield seen
    finally:
        http.event_hooks["request"].remove(note)


@row(77)
def a_list_over_more_than_one_page(ground: Ground) -> None:
    orchard = ground.orchard
    made = {orchard.application.id} | {orchard.add_application(f"bot-{n}").id for n in range(4)}
    found: list[str] = []
    cursor = None
    for _ in range(50):
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = answered(orchard.administer("GET", "/applications", params=query), 200)
        assert isinstance(page["items"], list)
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert cursor is None
    assert len(found) == len(set(found))
    assert set(found) == made


@row(78)
def admin_errors_and_deletes(ground: Ground) -> None:
    orchard = ground.orchard
    refused(orchard.administer("GET", "/applications/nobody"), 404, "application_not_found")
    refused(orchard.administer("POST", "/applications", json={}), 400, "invalid_application")
    spare = orchard.add_application("spare")
    deleted = orchard.administer("DELETE", f"/applications/{spare.id}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    refused(orchard.administer("DELETE", f"/applications/{spare.id}"), 404)


@row(79)
def grants_converge(ground: Ground) -> None:
    orchard = ground.orchard
    with writes(orchard.http) as seen:
        ensure_grants(orchard.admin, orchard.zone, grants=orchard.grants)
    assert seen == []


def ensure_ledger(orchard: Orchard) -> None:
    ensure_resource(
        orchard.admin,
        orchard.zone,
        name="Mirror",
        identifier="resource://mirror",
        scopes=[READ],
        # Stored as it was sent: a normalised URL would be drift for ever.
        upstream_url="HTTP://127.0.0.1:9/Base/?region=eu",
        credential_provider_id=orchard.provider,
        operations=OPERATIONS[:1],
        operation_enforcement="enforced",
    )


@row(80)
def a_resource_converges(ground: Ground) -> None:
    orchard = ground.orchard
    with writes(orchard.http) as first:
        ensure_ledger(orchard)
    with writes(orchard.http) as second:
        ensure_ledger(orchard)
    assert [write.split(" ")[0] for write in first] == ["POST"]
    assert second == []


@row(81)
def a_chosen_secret_replaces_the_old_one_at_once(ground: Ground) -> None:
    orchard = ground.orchard
    old, chosen = orchard.application, f"chosen-{secrets.token_hex(24)}"
    answered(orchard.exchange(scope=LIFECYCLE, resource=LEDGER), 200)
    identity = ensure_application(
        orchard.admin, orchard.zone, name="ledger-bot", traits=[], client_secret=chosen
    )
    assert identity == old.id
    refused(orchard.exchange(old, scope=LIFECYCLE, resource=LEDGER), 401, "access_denied")
    answered(orchard.exchange(Application(old.id, chosen), scope=LIFECYCLE, resource=LEDGER), 200)


@row(82)
def a_provider_keeps_its_secret_when_its_placement_changes(ground: Ground) -> None:
    config = {"header_name": "X-Key", "api_key": "pear-key-1"}
    orchard = ground.plant(provider={"name": "pear", "kind": "api_key", "config_json": config})
    path = f"/providers/{orchard.provider}"
    moved = answered(
        orchard.administer("PATCH", path, json={"config_json": {"header_name": "X-Moved"}}), 200
    )
    assert moved["config_json"]["header_name"] == "X-Moved"
    assert moved["secret_config_keys"] == ["api_key"]
    assert "pear-key-1" not in str(moved)
    answered(orchard.call(orchard.mint(orchard.chain())), 200)
    seen = orchard.upstream.last()
    assert seen.header("x-moved") == "pear-key-1"
    assert seen.header("x-key") is None


@row(83)
def an_unknown_request_has_no_audit(ground: Ground) -> None:
    orchard = ground.orchard
    with pytest.raises(AdminApiError) as missing:
        orchard.admin.audit.by_request(orchard.zone, "nobody-asked-this")
    assert (missing.value.status, missing.value.code) == (404, "request_not_found")
