"""Rows 35 to 59: health, Sessions, leases, delegations, limits."""

from __future__ import annotations

import secrets
from datetime import datetime, timezone
from typing import Any

import httpx

from answers import answered, eventually, instant, refused
from conformance_row import Ground, row
from orchard import LEDGER, LIFECYCLE, READ, WRITE, Application, Orchard
from stack import ROLES

GONE = {
    "already_terminated",
    "session_not_live",
    "session_not_found_or_not_active",
    "session_lease_fenced",
    "session_subject_inactive",
}


@row(35)
def health_and_readiness(ground: Ground) -> None:
    http = ground.orchard.http
    for role in ROLES:
        for path in ("/health", "/ready"):
            answer = http.get(ground.stack.url(role) + path)
            assert answer.status_code == 200, (role, path, answer.text)

    broken = ground.private_stack()
    (broken.home / "audit-replay").rename(broken.home / "moved-away")
    answers = [http.get(broken.url(role) + "/ready") for role in ROLES]
    unready = [answer for answer in answers if answer.status_code == 503]
    assert unready, [answer.text for answer in answers]
    for answer in unready:
        body = answer.json()
        assert isinstance(body.get("reason") or body.get("error"), str), body
    (broken.home / "moved-away").rename(broken.home / "audit-replay")


@row(36)
def a_task_session(ground: Ground) -> None:
    body = answered(ground.orchard.start_answer(), 201)
    assert isinstance(body["agent_session_id"], str)
    assert type(body["lease_generation"]) is int
    assert body["lease_generation"] == 0


def service(orchard: Orchard) -> dict[str, Any]:
    return answered(orchard.start_answer(lifecycle="service"), 201)


@row(37)
def a_service_session(ground: Ground) -> None:
    body = service(ground.orchard)
    assert type(body["lease_generation"]) is int
    assert body["lease_generation"] >= 1
    assert instant(body["heartbeat_deadline_at"]) > datetime.now(timezone.utc)


@row(38)
def a_repeated_start_is_replayed(ground: Ground) -> None:
    orchard = ground.orchard
    key = {"idempotency-key": secrets.token_hex(16), "idempotency-key-kind": "generated"}
    first = orchard.start_answer(headers=key)
    # A client that got 401 comes back with a fresh token and the same key.
    second = orchard.start_answer(headers=key, bearer=orchard.lifecycle())
    assert answered(first, 201) == answered(second, 201)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"


@row(39)
def the_same_key_with_another_body(ground: Ground) -> None:
    orchard = ground.orchard
    key = {"idempotency-key": secrets.token_hex(16)}
    answered(orchard.start_answer(headers=key), 201)
    answer = orchard.start_answer(headers=key, labels=["other"])
    refused(answer, 409, "idempotency_key_conflict")


@row(40)
def the_same_key_of_another_application(ground: Ground) -> None:
    orchard = ground.orchard
    barn = orchard.add_application("barn-bot", "resource://barn")
    key = {"idempotency-key": secrets.token_hex(16)}
    first = orchard.start_answer(headers=key)
    second = orchard.start_answer(barn, orchard.bearer(barn, "resource://barn"), headers=key)
    assert answered(first, 201)["agent_session_id"] != answered(second, 201)["agent_session_id"]
    assert "idempotency-replayed" not in second.headers


@row(41)
def the_starts_of_an_application_transport(ground: Ground) -> None:
    orchard = ground.orchard
    body = {
        "application_id": orchard.application.id,
        "ttl_seconds": 1020,
        "labels": [orchard.application.id],
    }
    ids = {
        answered(orchard.coordinate("POST", "/agents", json=body), 201)["agent_session_id"]
        for _ in range(2)
    }
    assert len(ids) == 2


@row(42)
def inheritance_without_a_parent(ground: Ground) -> None:
    body = answered(ground.orchard.start_answer(parent_authority="inherit"), 201)
    assert body["delegation_edge_id"] is None


@row(43)
def inheritance_from_a_parent_with_one_edge(ground: Ground) -> None:
    orchard = ground.orchard
    chain = orchard.chain()
    answer = orchard.start_answer(parent_id=chain.target, parent_authority="inherit")
    child = answered(answer, 201)
    assert isinstance(child["delegation_edge_id"], str)
    assert child["delegation_edge_id"] != chain.edge


@row(44)
def a_start_with_too_much(ground: Ground) -> None:
    orchard = ground.orchard
    labels = [f"label-{n}" for n in range(33)]
    refused(orchard.start_answer(labels=labels), 400, "invalid_body")
    refused(orchard.start_answer(lifecycle="service", ttl_seconds=60), 400, "invalid_body")


@row(45)
def a_start_for_another_application(ground: Ground) -> None:
    orchard = ground.orchard
    barn = orchard.add_application("barn-bot")
    answer = orchard.start_answer(barn, orchard.bearer())
    refused(answer, 403, "application_ownership_required")


@row(46)
def a_start_without_a_good_bearer(ground: Ground) -> None:
    orchard = ground.orchard
    url = f"{ground.stack.url('coordinator')}/zones/{orchard.zone}/agents"
    body = {"application_id": orchard.application.id}
    refused(orchard.http.post(url, json=body), 401, "missing_token")

    short = orchard.lifecycle(ttl_seconds="1")

    def expired() -> httpx.Response | None:
        answer = orchard.start_answer(bearer=short)
        return answer if answer.status_code == 401 else None

    refused(eventually(expired, "the token's end"), 401)


@row(47)
def a_session_ends_once(ground: Ground) -> None:
    orchard = ground.orchard
    session = orchard.start()
    first = orchard.terminate(session)
    assert (first.status_code, first.content) == (204, b"")
    second = orchard.terminate(session)
    body = refused(second, second.status_code)
    assert second.status_code == 404 or (second.status_code == 409 and body["error"] in GONE)


@row(48)
def a_service_ends_by_its_holder(ground: Ground) -> None:
    orchard = ground.orchard
    session = service(orchard)["agent_session_id"]
    refused(orchard.terminate(session), 400, "lease_generation_required")
    answered(orchard.coordinate("POST", f"/agents/{session}/lease"), 200)
    stale = orchard.terminate(session, json={"lease_generation": 1})
    refused(stale, 409, "session_lease_fenced")
    assert orchard.terminate(session, json={"lease_generation": 2}).status_code == 204


def heartbeat(orchard: Orchard, session: str, generation: int) -> httpx.Response:
    body = {"status": "healthy", "lease_generation": generation}
    return orchard.coordinate("POST", f"/agents/{session}/heartbeat", json=body)


@row(49)
def a_heartbeat_moves_the_deadline(ground: Ground) -> None:
    orchard = ground.orchard
    started = service(orchard)
    body = answered(heartbeat(orchard, started["agent_session_id"], 1), 200)
    agent = body["agent"]
    assert agent["status"] == "active"
    assert type(agent["lease_generation"]) is int
    assert instant(agent["heartbeat_deadline_at"]) > instant(started["heartbeat_deadline_at"])


@row(50)
def a_lease_fences_the_old_holder(ground: Ground) -> None:
    orchard = ground.orchard
    session = service(orchard)["agent_session_id"]
    lease = answered(orchard.coordinate("POST", f"/agents/{session}/lease"), 200)
    assert lease["lease_generation"] == 2
    assert "agent" not in lease
    refused(heartbeat(orchard, session, 1), 409, "session_lease_fenced")
    answered(heartbeat(orchard, session, 2), 200)


@row(51)
def a_suspended_session_says_so(ground: Ground) -> None:
    orchard = ground.orchard
    session = service(orchard)["agent_session_id"]
    assert answered(orchard.suspend(session), 200)["suspended"] == 1
    answer = heartbeat(orchard, session, 1)
    if answer.status_code == 200:
        assert answer.json()["agent"]["status"] == "suspended"
    else:
        refused(answer, 409, "session_suspended")


@row(52)
def the_delegation_of_an_application_transport(ground: Ground) -> None:
    orchard = ground.orchard
    body = answered(orchard.delegate_answer(orchard.start(), orchard.start()), 201)
    assert isinstance(body["delegation_edge_id"], str)
    assert body["scopes"] == [READ]
    assert instant(body["expires_at"]) > datetime.now(timezone.utc)


@row(53)
def a_delegation_by_resource_identifier(ground: Ground) -> None:
    orchard = ground.orchard
    source, target = orchard.start(), orchard.start()
    for name in (LEDGER, orchard.resource):
        answer = orchard.delegate_answer(source, target, constraints=None, resource_id=name)
        assert answered(answer, 201)["resource_id"] == orchard.resource


@row(54)
def delegations_that_cannot_be(ground: Ground) -> None:
    orchard = ground.orchard
    first, second, third = orchard.start(), orchard.start(), orchard.start()
    refused(orchard.delegate_answer(first, first), 400, "self_delegation_denied")
    broad = orchard.delegate_answer(first, second, constraints=None)
    refused(broad, 403, "broad_delegation_permission_required")

    wide = {"resources": [LEDGER], "max_hops": 3}
    orchard.delegate(first, second, [READ], constraints=wide)
    wider = orchard.delegate_answer(second, third, [READ, WRITE])
    refused(wider, 403, "delegation_exceeds_parent_authority")
    cycle = orchard.delegate_answer(second, first, [READ], ttl_seconds=300)
    refused(cycle, 409, "delegation_cycle_denied")


def across(orchard: Orchard) -> tuple[Application, str, str, str]:
    """An edge to a Session of another application: the application, its token, Session and edge."""
    barn = orchard.add_application("barn-bot", "resource://barn")
    token = orchard.bearer(barn, "resource://barn")
    target = answered(orchard.start_answer(barn, token), 201)["agent_session_id"]
    edge = orchard.delegate(orchard.start(), target, receiver_application_id=barn.id)
    return barn, token, target, edge


@row(55)
def the_receiver_sees_its_delegation(ground: Ground) -> None:
    orchard = ground.orchard
    _, token, target, edge = across(orchard)
    path = f"/delegations/inbound/{target}/{edge}"
    body = answered(orchard.coordinate("GET", path, token), 200)
    assert (body["id"], body["status"]) == (edge, "active")
    refused(orchard.coordinate("GET", path), 404)


@row(56)
def inbound_delegations_as_a_page(ground: Ground) -> None:
    orchard = ground.orchard
    chain = orchard.chain()
    page = answered(orchard.coordinate("GET", f"/delegations/inbound/{chain.target}"), 200)
    assert [item["id"] for item in page["items"]] == [chain.edge]
    assert page["next_cursor"] is None


@row(57)
def only_the_issuer_revokes(ground: Ground) -> None:
    orchard = ground.orchard
    barn = orchard.add_application("barn-bot", "resource://barn")
    chain = orchard.chain()
    by_other = orchard.revoke(chain.edge, orchard.bearer(barn, "resource://barn"))
    refused(by_other, 403, "issuer_ownership_required")
    orchard.mint(chain)
    revoked = answered(orchard.revoke(chain.edge), 200)
    assert type(revoked["revoked_edges"]) is int
    assert revoked["revoked_edges"] == 1
    refused(orchard.mint_answer(chain), 403, "access_denied")


@row(59)
def every_limit_answers_429_and_says_when_to_return(ground: Ground) -> None:
    tight = ground.plant(
        ground.private_stack(
            STS_MINT_RATE_LIMIT_PER_MIN="4",
            COORDINATOR_RATE_LIMIT_PER_MIN="12",
            API_V1_RATE_LIMIT_PER_MIN="40",
            MAX_AGENTS_PER_ZONE="3",
        )
    )
    bearer = tight.bearer()
    for _ in range(3):
        answered(tight.start_answer(bearer=bearer), 201)
    full = refused(tight.start_answer(bearer=bearer), 429, "session_zone_limit_exceeded")
    assert full

    def mint() -> httpx.Response:
        return tight.exchange(scope=LIFECYCLE, resource=LEDGER)

    def list_sessions() -> httpx.Response:
        return tight.operate("GET", "/agents")

    def get_zone() -> httpx.Response:
        return tight.administer("GET", "")

    for ask, code in (
        (mint, "provider_rate_limited"),
        (list_sessions, "rate_limited"),
        (get_zone, "rate_limited"),
    ):
        answers = [ask() for _ in range(41)]
        limited = [answer for answer in answers if answer.status_code == 429]
        assert answers[0].status_code == 200
        assert limited, f"no 429 for {code}"
        for answer in limited:
            refused(answer, 429, code)
            assert 1 <= int(answer.headers["retry-after"]) <= 60
