"""Admin tokens: what each may do, and that a deleted one does nothing."""

from __future__ import annotations

import hashlib
import hmac
import base64
from typing import Any

import httpx
import pytest
from caracalai_admin import AdminApiError, AdminClient

from answers import answered, refused
from orchard import Orchard


def mint_token(orchard: Orchard, **fields: Any) -> dict[str, Any]:
    body = {"name": "test", "scope": "global", **fields}
    return answered(platform(orchard, "POST", "/v1/admin-tokens", json=body), 201)


def platform(
    orchard: Orchard, method: str, path: str, token: str | None = None, **request: Any
) -> httpx.Response:
    headers = {"authorization": f"Bearer {token or orchard.stack.admin_token}"}
    return orchard.http.request(method, orchard.stack.url("api") + path, headers=headers, **request)


def client(orchard: Orchard, token: str) -> AdminClient:
    return AdminClient(
        api_url=orchard.stack.url("api"), admin_token=token, http_client=orchard.http, retries=0
    )


def error(raised: pytest.ExceptionInfo[AdminApiError]) -> tuple[int, str]:
    return raised.value.status, raised.value.code


def test_a_reader_reads_and_writes_nothing(orchard: Orchard) -> None:
    reader = client(orchard, mint_token(orchard, capability="read")["token"])
    assert reader.zones.get(orchard.zone)["id"] == orchard.zone
    assert reader.applications.list(orchard.zone)
    reader.policies.list(orchard.zone)
    for write in (
        lambda: reader.zones.create({"name": "never"}),
        lambda: reader.zones.patch(orchard.zone, {"name": "never"}),
        lambda: reader.applications.delete(orchard.zone, orchard.application.id),
        lambda: reader.applications.rotate_secret(orchard.zone, orchard.application.id),
        lambda: reader.policy_sets.create(orchard.zone, "never"),
    ):
        with pytest.raises(AdminApiError) as raised:
            write()
        assert error(raised) == (403, "admin_token_read_only")
    valid = {"content": "# caracal:data-document\npackage caracal.authz\nrestrict := []\n"}
    token = mint_token(orchard, capability="read")["token"]
    answered(platform(orchard, "POST", "/v1/policies/validate", token, json=valid), 200)


def test_a_zone_token_stays_in_its_zone(orchard: Orchard, plant) -> None:
    other = plant()
    token = mint_token(orchard, scope="zone", zone_id=orchard.zone, capability="write")["token"]
    bound = client(orchard, token)
    assert bound.applications.list(orchard.zone)
    for reach in (
        lambda: bound.applications.list(other.zone),
        lambda: bound.zones.list(),
        lambda: bound.zones.create({"name": "never"}),
    ):
        with pytest.raises(AdminApiError) as raised:
            reach()
        assert error(raised) == (403, "admin_token_zone_mismatch")
    # No spelling of the path leads out either.
    for spelling in (
        f"/v1/zones/{orchard.zone}/../{other.zone}/applications",
        f"/v1/zones/{orchard.zone}%2f..%2f{other.zone}/applications",
        f"/v1/zones//{other.zone}/applications",
    ):
        answer = platform(orchard, "GET", spelling, token)
        assert answer.status_code in {400, 403, 404}, spelling


def test_a_secret_is_shown_only_to_who_may_reveal(orchard: Orchard) -> None:
    path = f"/v1/zones/{orchard.zone}/applications/{orchard.application.id}/client-secret"
    shown = platform(orchard, "GET", path)
    assert answered(shown, 200) == {"client_secret": orchard.application.secret}
    assert shown.headers["cache-control"] == "no-store"
    writer = mint_token(orchard, capability="write")["token"]
    refused(platform(orchard, "GET", path, writer), 403, "reveal_capability_required")
    revealer = mint_token(orchard, capability="read", reveal=True)["token"]
    answered(platform(orchard, "GET", path, revealer), 200)
    rows = orchard.admin.admin_audit.list(orchard.zone, {"entity_id": orchard.application.id})
    reveals = [row for row in rows if row["path"].endswith("/client-secret")]
    assert sorted(row["status_code"] for row in reveals) == [200, 200, 403]


def test_a_deleted_token_does_nothing(orchard: Orchard) -> None:
    minted = mint_token(orchard, capability="write")
    assert answered(platform(orchard, "GET", "/v1/zones", minted["token"]), 200)["items"]
    deleted = platform(orchard, "DELETE", f"/v1/admin-tokens/{minted['id']}")
    assert deleted.status_code == 204
    refused(platform(orchard, "GET", "/v1/zones", minted["token"]), 401, "invalid_admin_token")


def test_a_token_is_shown_once(orchard: Orchard) -> None:
    minted = mint_token(orchard, capability="read")
    listed = answered(platform(orchard, "GET", "/v1/admin-tokens"), 200)["items"]
    mine = next(row for row in listed if row["id"] == minted["id"])
    assert "token" not in mine
    assert minted["token"] not in str(listed)


def test_the_console_tokens_need_an_account(orchard: Orchard) -> None:
    key = orchard.stack.admin_token.encode()
    digest = hmac.digest(key, b"caracal:console:write:v1", hashlib.sha256)
    derived = "cat_" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    refused(platform(orchard, "GET", "/v1/zones", derived), 401, "invalid_account_assertion")


def test_headers_cannot_name_another_author(orchard: Orchard) -> None:
    body = {"name": "by-someone", "registration_method": "managed"}
    headers = {"x-caracal-authorized-by": "someone else", "x-caracal-created-via": "operator"}
    made = answered(orchard.administer("POST", "/applications", json=body, headers=headers), 201)
    assert made["created_by"].startswith("admin:")
    assert made["created_via_operator"] is False
