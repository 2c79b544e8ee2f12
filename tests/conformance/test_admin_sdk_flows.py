"""The published admin client: its reconcilers, and what an operator reads with it."""

from __future__ import annotations

import asyncio
import secrets

import httpx
import pytest
from caracalai import ResourceBinding
from caracalai_admin import (
    AdminApiError,
    GovernedUpstream,
    GovernedUpstreamGrant,
    GovernedUpstreamProvider,
    GovernedUpstreamResource,
    ensure_api_key_provider,
    ensure_application,
    ensure_governed_upstreams,
    ensure_grants,
    ensure_resource,
)

from answers import claims_of, refused
from orchard import CLOSE, LEDGER, LIFECYCLE, READ, WRITE, Application, Orchard
from rows_admin import writes


# Reconcilers


def test_an_application_converges_to_one(orchard: Orchard) -> None:
    def ensure(secret: str) -> str:
        return ensure_application(
            orchard.admin,
            orchard.zone,
            name="tally-bot",
            traits=["team:pears"],
            client_secret=secret,
        )

    first_secret, second_secret = secrets.token_hex(24), secrets.token_hex(24)
    first = ensure(first_secret)
    with writes(orchard.http) as seen:
        assert ensure(second_secret) == first
    # The secret is set on every run; nothing else is.
    assert seen == [f"PATCH /v1/zones/{orchard.zone}/applications/{first}"]
    named = [
        application
        for application in orchard.admin.applications.list(orchard.zone)
        if application["name"] == "tally-bot"
    ]
    assert [application["traits"] for application in named] == [["team:pears"]]
    old = orchard.exchange(Application(first, first_secret), scope=LIFECYCLE, resource=LEDGER)
    refused(old, 401, "access_denied")
    new = orchard.exchange(Application(first, second_secret), scope=LIFECYCLE, resource=LEDGER)
    refused(new, 403, "access_denied")


def test_a_provider_converges_to_one(orchard: Orchard) -> None:
    def ensure(**fields: str) -> str | None:
        return ensure_api_key_provider(
            orchard.admin,
            orchard.zone,
            name="pear-key",
            identifier="provider://pear-key",
            public_config={"header_name": "X-Key"},
            **fields,
        )

    assert ensure() is None
    made = ensure(api_key="k-1")
    assert ensure(api_key="k-2") == made
    assert ensure() == made
    providers = orchard.admin.providers.list(orchard.zone)
    mine = [entry for entry in providers if entry["identifier"] == "provider://pear-key"]
    assert [entry["secret_config_keys"] for entry in mine] == [["api_key"]]


def test_governed_upstreams_converge_and_work(orchard: Orchard) -> None:
    upstreams = [
        GovernedUpstream(
            GovernedUpstreamProvider(
                "pear-key", "provider://pear-key", {"header_name": "X-Key"}, "k-1"
            ),
            GovernedUpstreamResource(
                "Pears", "resource://pears", [READ], orchard.upstream.url, "transport_uniform"
            ),
            [GovernedUpstreamGrant(orchard.application.id, [READ])],
        )
    ]
    ensure_governed_upstreams(orchard.admin, orchard.zone, upstreams=upstreams)
    with writes(orchard.http) as seen:
        ensure_governed_upstreams(orchard.admin, orchard.zone, upstreams=upstreams)
    assert [write for write in seen if "/providers/" not in write] == []

    async def flow() -> httpx.Response:
        client = orchard.client(resources=[ResourceBinding("resource://pears", "http://pears")])
        async with client.application_transport("resource://pears", scopes=[READ]) as transport:
            response = await transport.get("http://pears/any/path")
        await client.aclose()
        return response

    assert asyncio.run(flow()).json()["headers"]["x-key"] == "k-1"
    # The set is the whole: the ledger's grant went with it.
    refused(orchard.exchange(scope=LIFECYCLE, resource=LEDGER), 403, "access_denied")


def test_a_drifted_resource_is_patched_once(orchard: Orchard) -> None:
    def ensure(scopes: list[str]) -> dict:
        return ensure_resource(
            orchard.admin, orchard.zone, name="Ledger", identifier=LEDGER, scopes=scopes
        )

    with writes(orchard.http) as seen:
        ensure([READ, WRITE, CLOSE])
        ensure([READ, WRITE, CLOSE, "ledger:void"])
        changed = ensure(["ledger:void", CLOSE, WRITE, READ])
    assert [write.split(" ")[0] for write in seen] == ["PATCH"]
    assert set(changed["scopes"]) == {READ, WRITE, CLOSE, "ledger:void"}
    assert changed["upstream_url"] == orchard.upstream.url


def test_a_changed_grant_adds_one_version(orchard: Orchard) -> None:
    def versions() -> list[dict]:
        policies = orchard.admin.policies.list(orchard.zone)
        policy = next(entry for entry in policies if entry["name"] == "application-grants")
        return orchard.admin.policies.get(orchard.zone, policy["id"])["versions"]

    before = len(versions())
    ensure_grants(orchard.admin, orchard.zone, grants=[])
    ensure_grants(orchard.admin, orchard.zone, grants=[])
    after = versions()
    assert len(after) == before + 1
    assert [version["version"] for version in after] == list(range(before + 1, 0, -1))


# What the operator reads


def test_the_operator_reads_sessions_and_delegations(orchard: Orchard) -> None:
    admin, zone = orchard.admin, orchard.zone
    first = orchard.chain([READ, WRITE], constraints={"resources": [LEDGER], "max_hops": 3})
    third = orchard.start(parent_id=first.source, parent_authority="none")
    second_edge = orchard.delegate(first.target, third, [READ], ttl_seconds=300)

    inbound = admin.delegations.inbound(zone, first.target)
    outbound = admin.delegations.outbound(zone, first.source)
    assert [entry["delegation_id"] for entry in inbound] == [first.edge]
    assert [entry["delegation_id"] for entry in outbound] == [first.edge]
    active = {entry["delegation_id"] for entry in admin.delegations.active(zone)["items"]}
    assert active == {first.edge, second_edge}

    walked = admin.delegations.traverse(zone, first.edge)
    assert [(step["delegation_id"], step["depth"]) for step in walked] == [
        (first.edge, 1),
        (second_edge, 2),
    ]
    impact = admin.delegations.impact(zone, first.edge)
    assert impact["delegation_id"] == first.edge
    assert set(impact["affected_sessions"]) == {first.target, third}
    assert len(impact["affected_delegations"]) == 2

    authority = admin.sessions.effective_authority(zone, third)
    assert authority["session_id"] == third
    assert authority["inbound_delegations"] == [second_edge]
    assert authority["effective_scopes"] == [READ]
    children = admin.sessions.children(zone, first.source)
    assert [child["session_id"] for child in children] == [third]
    assert children[0]["parent_session_id"] == first.source

    result = admin.delegations.revoke(zone, first.edge)
    assert result["revoked_delegations"] == 2
    assert type(result["affected_sessions"]) is int
    with pytest.raises(AdminApiError) as gone:
        admin.delegations.revoke(zone, first.edge)
    assert (gone.value.status, gone.value.code) == (404, "delegation_not_found")


def test_the_operator_ends_a_session(orchard: Orchard) -> None:
    session = orchard.start()
    child = orchard.start(parent_id=session, parent_authority="none")
    orchard.admin.sessions.terminate(orchard.zone, session)
    shown = orchard.admin.sessions.get(orchard.zone, child)
    assert (shown["status"], shown["termination_reason"]) == ("terminated", "parent_terminated")


def test_the_operator_reads_who_changed_what(orchard: Orchard) -> None:
    rows = orchard.admin.admin_audit.list(orchard.zone, {"method": "POST", "limit": 50})
    kinds = {row["entity_type"] for row in rows}
    assert {"applications", "providers", "resources", "policies", "policy-sets"} <= kinds
    assert all(row["actor_name"] == "bootstrap" for row in rows)
    sequence = [row["chain_seq"] for row in rows]
    assert sequence == sorted(sequence, reverse=True)


def test_the_operator_reads_what_a_zone_holds(orchard: Orchard) -> None:
    admin, zone = orchard.admin, orchard.zone
    parent = orchard.start(ttl_seconds=120)
    child = orchard.start(parent_id=parent, labels=["picker"])
    sessions = {row["session_id"]: row for row in admin.sessions.list(zone, {"status": "active"})}
    assert set(sessions) == {parent, child}
    assert sessions[child]["parent_session_id"] == parent
    assert sessions[child]["labels"] == ["picker"]
    assert sessions[parent]["child_count"] == 1
    assert sessions[parent]["ttl_seconds"] == 120
    labelled = admin.sessions.list(zone, {"label": "picker"})
    assert [row["session_id"] for row in labelled] == [child]

    records = admin.authority_records.list(zone, {"kind": "application", "status": "active"})
    mine = claims_of(orchard.bearer())["sid"]
    assert mine in {row["authority_record_id"] for row in records}
    assert {row["subject_id"] for row in records} == {orchard.application.id}
    assert admin.zones.dcr_status(zone) == {
        "id": zone,
        "dcr_enabled": False,
        "live_dcr_applications": 0,
    }


def test_the_policy_templates_are_documents_that_validate(orchard: Orchard) -> None:
    templates = {template["id"]: template for template in orchard.admin.policy_templates.list()}
    assert set(templates) >= {
        "application-bindings",
        "resource-grants",
        "label-confinement",
        "zone-restriction",
    }
    for template in templates.values():
        assert orchard.admin.policies.validate(template["content"])["valid"] is True


def test_a_policy_set_is_tried_before_it_governs(orchard: Orchard) -> None:
    admin, zone = orchard.admin, orchard.zone
    policy_set = admin.policy_sets.list(zone)[0]
    bootstrap = {
        "schema_version": "2026-05-20",
        "principal": {"type": "Application", "id": orchard.application.id, "zone_id": zone},
        "resource": {"type": "Resource", "id": "r", "identifier": LEDGER, "scopes": [READ]},
        "action": {"id": "TokenExchange"},
        "context": {
            "actor_claims": {"caracal_client_id": orchard.application.id},
            "challenge_resolved": False,
            "requested_scopes": [LIFECYCLE],
        },
    }
    tried = admin.policy_sets.simulate(
        zone, policy_set["id"], policy_set["active_version_id"], bootstrap
    )
    assert tried["dry_run"] is True
    assert tried["warnings"] == []
    assert tried["result"]["decision"] == "allow"
    assert tried["result"]["determining_policies"] == [{"policy": "caracal-bootstrap"}]


def test_an_archived_zone_mints_and_proxies_nothing(orchard: Orchard) -> None:
    chain = orchard.chain()
    held = orchard.mint(chain)
    with pytest.raises(AdminApiError) as living:
        orchard.admin.zones.delete(orchard.zone)
    assert (living.value.status, living.value.code) == (409, "zone_has_live_authority")
    assert orchard.administer("DELETE", "?force=true").status_code == 204
    refused(orchard.exchange(scope=LIFECYCLE, resource=LEDGER), 401, "access_denied")
    assert orchard.call(held).status_code in {401, 403}
    assert orchard.start_answer().status_code == 401
