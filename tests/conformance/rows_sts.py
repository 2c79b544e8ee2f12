"""Rows 1 to 34: the token endpoint and the key sets."""

from __future__ import annotations

import secrets
import statistics
import threading
import time

import httpx
import jwt

from answers import answered, claims_of, eventually, header_of, refused
from conformance_row import Ground, row
from orchard import CLOSE, LEDGER, LIFECYCLE, READ, WRITE, Application

TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"


@row(1)
def a_lifecycle_exchange(ground: Ground) -> None:
    orchard = ground.orchard
    answer = orchard.exchange(scope=LIFECYCLE, resource=LEDGER)
    body = answered(answer, 200)
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    assert body["token_type"] == "Bearer"
    assert type(body["expires_in"]) is int
    assert body["expires_in"] > 0
    assert body["issued_token_type"] == TOKEN_TYPE
    claims = claims_of(body["access_token"])
    assert claims["use"] == "session"
    assert claims["aud"] == [ground.stack.issuer]


@row(2)
def a_lifecycle_exchange_over_a_resource_of_another_application(ground: Ground) -> None:
    orchard = ground.orchard
    orchard.add_application("barn-bot", "resource://barn")
    answer = orchard.exchange(scope=LIFECYCLE, resource=[LEDGER, "resource://barn"])
    body = answered(answer, 200)
    assert body["target_resources"] == [LEDGER]
    assert orchard.start_answer(bearer=body["access_token"]).status_code == 201


@row(3)
def lifecycle_beside_another_scope(ground: Ground) -> None:
    answer = ground.orchard.exchange(scope=f"{LIFECYCLE} {READ}", resource=LEDGER)
    refused(answer, 403, "access_denied")


@row(4)
def a_delegated_mint(ground: Ground) -> None:
    orchard = ground.orchard
    chain = orchard.chain()
    first = claims_of(orchard.mint(chain, ttl_seconds=300))
    second = claims_of(orchard.mint(chain, ttl_seconds=300))
    assert first["use"] == "gateway"
    assert first["exp"] - first["iat"] == 300
    assert first["jti"] != second["jti"]
    assert first["target"] == [LEDGER]
    assert first["agent_session_id"] == chain.target
    assert first["delegation_path"] == [chain.edge]


@row(5)
def a_business_scope_on_a_session_without_delegation(ground: Ground) -> None:
    orchard = ground.orchard
    answer = orchard.exchange(scope=READ, resource=LEDGER, agent_session_id=orchard.start())
    refused(answer, 403, "access_denied")


@row(6)
def a_delegation_without_session(ground: Ground) -> None:
    orchard = ground.orchard
    edge = orchard.chain().edge
    refused(
        orchard.exchange(scope=READ, resource=LEDGER, delegation_edge_id=edge), 403, "access_denied"
    )


@row(7)
def a_scope_outside_the_delegation(ground: Ground) -> None:
    orchard = ground.orchard
    refused(orchard.mint_answer(orchard.chain([READ]), WRITE), 403, "access_denied")


@row(8)
def only_the_resource_may_repeat(ground: Ground) -> None:
    orchard = ground.orchard
    answered(orchard.exchange(scope=LIFECYCLE, resource=[LEDGER, LEDGER]), 200)
    refused(orchard.exchange(scope=[LIFECYCLE, LIFECYCLE], resource=LEDGER), 400, "invalid_request")


@row(9)
def a_json_body(ground: Ground) -> None:
    url = f"{ground.stack.url('sts')}/oauth/2/token"
    refused(ground.orchard.http.post(url, json=ground.orchard.form()), 415)


@row(10)
def a_query_string(ground: Ground) -> None:
    orchard = ground.orchard
    url = f"{ground.stack.url('sts')}/oauth/2/token?zone_id={orchard.zone}"
    form = orchard.form(scope=LIFECYCLE, resource=LEDGER)
    refused(orchard.http.post(url, data=form), 400, "invalid_request")


@row(11)
def a_body_of_70_kib(ground: Ground) -> None:
    answer = ground.orchard.exchange(scope=LIFECYCLE, resource=LEDGER, padding="x" * 70 * 1024)
    refused(answer, 413, "payload_too_large")


@row(12)
def an_unknown_grant_type(ground: Ground) -> None:
    answer = ground.orchard.exchange(
        grant_type="client_credentials", scope=LIFECYCLE, resource=LEDGER
    )
    refused(answer, 400, "invalid_request")


@row(13)
def a_wrong_secret_looks_like_an_unknown_application(ground: Ground) -> None:
    orchard = ground.orchard
    wrong = Application(orchard.application.id, "cs_wrong")
    unknown = Application("0199a1d0-0000-7000-8000-00000000dead", "cs_wrong")

    def refuse(application: Application) -> tuple[str, float]:
        began = time.perf_counter()
        answer = orchard.exchange(application, scope=LIFECYCLE, resource=LEDGER)
        seconds = time.perf_counter() - began
        return refused(answer, 401, "access_denied")["error_description"], seconds

    rounds = [(refuse(wrong), refuse(unknown)) for _ in range(15)]
    texts = {text for pair in rounds for text, _ in pair}
    assert len(texts) == 1, texts
    of_wrong = statistics.median(pair[0][1] for pair in rounds)
    of_unknown = statistics.median(pair[1][1] for pair in rounds)
    assert abs(of_wrong - of_unknown) < 0.05, (of_wrong, of_unknown)


@row(14)
def the_zone_of_another(ground: Ground) -> None:
    other = ground.plant()
    answer = ground.orchard.exchange(scope=LIFECYCLE, resource=LEDGER, zone_id=other.zone)
    refused(answer, 403, "zone_invalid")


@row(15)
def a_ttl_out_of_bounds(ground: Ground) -> None:
    orchard = ground.orchard
    chain = orchard.chain()
    for ttl in ("3601", "-1", "abc"):
        refused(orchard.mint_answer(chain, ttl_seconds=ttl), 400, "invalid_request")


@row(16)
def a_ttl_of_two_minutes(ground: Ground) -> None:
    orchard = ground.orchard
    body = answered(orchard.mint_answer(orchard.chain(), ttl_seconds=120), 200)
    claims = claims_of(body["access_token"])
    assert body["expires_in"] == 120
    assert claims["exp"] - claims["iat"] == 120


@row(17)
def concurrent_mints_differ(ground: Ground) -> None:
    orchard = ground.orchard
    chain = orchard.chain()
    mandates: list[str] = []
    both = threading.Barrier(2)

    def mint() -> None:
        both.wait()
        mandates.append(orchard.mint(chain))

    threads = [threading.Thread(target=mint) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({claims_of(mandate)["jti"] for mandate in mandates}) == 2


@row(18)
def an_error_carries_the_request_id(ground: Ground) -> None:
    orchard = ground.orchard
    for answer in (
        orchard.exchange(grant_type="other"),
        orchard.exchange(client_secret="cs_wrong", scope=LIFECYCLE, resource=LEDGER),
        orchard.exchange(scope=CLOSE, resource="resource://nowhere"),
    ):
        body = refused(answer, answer.status_code)
        assert answer.is_client_error
        assert body["requestId"] == answer.headers["x-request-id"]


@row(19)
def the_request_id_is_the_callers_when_it_is_well_formed(ground: Ground) -> None:
    orchard = ground.orchard
    sent = {"x-request-id": "abc-123"}
    answer = orchard.exchange(headers=sent, scope=f"{LIFECYCLE} {READ}", resource=LEDGER)
    assert refused(answer, 403)["requestId"] == "abc-123"
    assert answer.headers["x-request-id"] == "abc-123"
    eventually(lambda: orchard.admin.audit.list(orchard.zone, {"request_id": "abc-123"}), "abc-123")

    for bad in ("a b", "x" * 129, "<script>", "a,b"):
        answer = orchard.exchange(
            headers={"x-request-id": bad}, scope=f"{LIFECYCLE} {READ}", resource=LEDGER
        )
        assert refused(answer, 403)["requestId"] != bad
        assert answer.headers["x-request-id"] != bad


@row(20)
def no_zone_for_an_ordinary_application(ground: Ground) -> None:
    answer = ground.orchard.exchange(zone_id=None, scope=LIFECYCLE, resource=LEDGER)
    refused(answer, 401, "access_denied")


@row(21)
def a_control_key_needs_no_zone(ground: Ground) -> None:
    orchard = ground.orchard
    orchard.admin.resources.create(
        orchard.zone,
        {"name": "Control", "identifier": "caracal-control", "scopes": ["control:app:read"]},
    )
    created = orchard.admin.applications.create(
        orchard.zone,
        {
            "name": "operator-key",
            "registration_method": "managed",
            "traits": ["control:invoke", "control:scope:control:app:read"],
        },
    )
    key = Application(created["id"], created["client_secret"])
    answer = orchard.exchange(
        key, zone_id=None, scope="control:app:read", resource="caracal-control"
    )
    claims = claims_of(answered(answer, 200)["access_token"])
    assert claims["use"] == "resource"
    assert claims["aud"] == ["caracal-control"]
    assert claims["zone_id"] == orchard.zone


def key_set(ground: Ground, zone: str | None) -> httpx.Response:
    url = f"{ground.stack.url('sts')}/.well-known/jwks.json"
    return ground.orchard.http.get(url, params={"zone_id": zone} if zone is not None else None)


@row(32)
def the_key_set(ground: Ground) -> None:
    orchard = ground.orchard
    answer = key_set(ground, orchard.zone)
    keys = answered(answer, 200)["keys"]
    assert "max-age=300" in answer.headers["cache-control"]
    assert header_of(orchard.bearer())["kid"] in {key["kid"] for key in keys}
    for key in keys:
        assert set(key) == {"kty", "crv", "use", "kid", "alg", "x", "y"}
        assert (key["kty"], key["crv"], key["use"], key["alg"]) == ("EC", "P-256", "sig", "ES256")


@row(33)
def the_key_set_of_no_zone(ground: Ground) -> None:
    refused(key_set(ground, None), 400, "invalid_request")
    refused(key_set(ground, ""), 400, "invalid_request")
    refused(key_set(ground, secrets.token_hex(8)), 404, "resource_not_found")


@row(34)
def a_rotated_key_is_published_before_it_signs(ground: Ground) -> None:
    orchard = ground.orchard
    held = answered(key_set(ground, orchard.zone), 200)["keys"]
    old = orchard.lifecycle()
    url = f"{ground.stack.url('sts')}/internal/zones/{orchard.zone}/signing-key/rotate"
    token = ground.stack.secret("stsAdminToken")
    rotated = answered(orchard.http.post(url, headers={"authorization": f"Bearer {token}"}), 200)
    assert rotated["rotated"] is True
    published = {key["kid"] for key in answered(key_set(ground, orchard.zone), 200)["keys"]}
    assert rotated["kid"] in published
    assert {key["kid"] for key in held} < published

    by_kid = {key["kid"]: jwt.PyJWK(key).key for key in held}
    for mandate in (old, orchard.lifecycle()):
        key = by_kid[header_of(mandate)["kid"]]
        jwt.decode(
            mandate, key, ["ES256"], audience=ground.stack.issuer, issuer=ground.stack.issuer
        )
