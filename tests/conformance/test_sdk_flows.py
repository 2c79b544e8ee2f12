"""Every operation of the published client and of the published admin client that the stack serves."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import httpx
import pytest
from caracalai import (
    AccessDenied,
    Authority,
    CaracalEvent,
    CoordinatorError,
    DelegationConstraints,
    InvalidRequest,
    ResourceBinding,
    ResourceNotFound,
    ScopeInsufficient,
    ZoneMismatch,
    describe_authority,
)
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

from answers import answered, claims_of, refused
from orchard import CLOSE, LEDGER, LEDGER_PREFIX, LIFECYCLE, READ, WRITE, Application, Orchard
from rows_admin import writes

Plant = Callable[..., Orchard]


def narrow(scopes: list[str], max_hops: int = 1, ttl_seconds: int = 600) -> Authority:
    constraints = DelegationConstraints(resources=[LEDGER], max_hops=max_hops)
    return Authority.narrow(scopes, ttl_seconds=ttl_seconds, constraints=constraints)


def code(error: pytest.ExceptionInfo[CoordinatorError]) -> tuple[int, str | None]:
    return error.value.status, error.value.code


# Sessions


def test_a_session_lives_as_long_as_its_block(orchard: Orchard) -> None:
    async def flow() -> str:
        client = orchard.client()
        async with client.session(task="count pears", labels=["counter"], ttl_seconds=300) as ctx:
            shown = orchard.admin.sessions.get(orchard.zone, ctx.session_id)
            assert shown["status"] == "active"
            assert shown["lifecycle"] == "task"
            assert shown["labels"] == ["counter"]
            assert shown["metadata"] == {"task": "count pears"}
            assert shown["ttl_seconds"] == 300
            assert ctx.delegation_id is None
        await client.aclose()
        return ctx.session_id

    session = asyncio.run(flow())
    assert orchard.admin.sessions.get(orchard.zone, session)["status"] == "terminated"


def test_a_block_that_fails_ends_its_session_too(orchard: Orchard) -> None:
    async def flow() -> str:
        client = orchard.client()
        try:
            async with client.session() as ctx:
                raise KeyError("the block's own error")
        except KeyError:
            return ctx.session_id
        finally:
            await client.aclose()

    session = asyncio.run(flow())
    assert orchard.admin.sessions.get(orchard.zone, session)["status"] == "terminated"


def test_a_start_with_a_callers_key_is_replayed(orchard: Orchard) -> None:
    async def flow() -> None:
        client, key = orchard.client(), f"ticket-{secrets.token_hex(4)}"
        replays: list[bool] = []
        client.on_event(
            lambda event: replays.append(event.replayed) if event.path.endswith("/agents") else None
        )
        first = await client.start_session(heartbeat_interval=0, idempotency_key=key)
        again = await client.start_session(heartbeat_interval=0, idempotency_key=key)
        assert again.session_id == first.session_id
        assert replays == [False, True]
        with pytest.raises(CoordinatorError) as conflict:
            await client.start_session(
                heartbeat_interval=0, idempotency_key=key, labels=["another"]
            )
        assert code(conflict) == (409, "idempotency_key_conflict")
        await first.aclose()
        with pytest.raises(CoordinatorError) as inactive:
            await client.start_session(heartbeat_interval=0, idempotency_key=key)
        assert code(inactive) == (409, "idempotency_result_inactive")
        await client.aclose()

    asyncio.run(flow())


def test_a_narrowed_child_may_do_what_it_was_given_and_no_more(orchard: Orchard) -> None:
    async def flow() -> None:
        client = orchard.client()
        async with client.session():
            async with client.session(
                authority=narrow([READ]), labels=[orchard.application.id]
            ) as child:
                assert child.hop == 1
                allowed = await client.fetch(LEDGER, "/entries", scopes=[READ])
                assert allowed.status_code == 200
                with pytest.raises(AccessDenied):
                    await client.fetch(LEDGER, "/entries", method="POST", scopes=[WRITE])
        await client.aclose()

    asyncio.run(flow())


def test_an_inheriting_child_has_its_parents_authority(orchard: Orchard) -> None:
    async def flow() -> None:
        client, labels = orchard.client(), [orchard.application.id]
        async with client.session():
            async with client.session(authority=narrow([READ]), labels=labels) as parent:
                async with client.session(labels=labels) as child:
                    assert child.delegation_id not in {None, parent.delegation_id}
                    assert child.parent_delegation_id == parent.delegation_id
                    response = await client.fetch(LEDGER, "/entries/1", scopes=[READ])
                    assert response.status_code == 200
        await client.aclose()

    asyncio.run(flow())


def test_a_child_without_authority_mints_nothing(orchard: Orchard) -> None:
    async def flow() -> None:
        client, labels = orchard.client(), [orchard.application.id]
        async with client.session():
            async with client.session(authority=narrow([READ]), labels=labels):
                async with client.session(authority=Authority.none(), labels=labels) as child:
                    assert child.delegation_id is None
                    with pytest.raises(AccessDenied) as denied:
                        client.mint_mandate(LEDGER, [READ])
                    assert "lifecycle-only" in denied.value.__notes__[0]
        await client.aclose()

    asyncio.run(flow())


def test_authority_shrinks_over_two_delegations_and_never_grows(orchard: Orchard) -> None:
    async def flow() -> None:
        client, labels = orchard.client(), [orchard.application.id]
        async with client.session():
            async with client.session(authority=narrow([READ, WRITE], 3), labels=labels):
                async with client.session(
                    authority=narrow([READ], 2, 300), labels=labels
                ) as grandchild:
                    mandate = claims_of(client.mint_mandate(LEDGER, [READ]).token)
                    assert mandate["hop_count"] == 2
                    assert mandate["delegation_path"][-1] == grandchild.delegation_id
                    with pytest.raises(CoordinatorError) as wider:
                        async with client.session(authority=narrow([WRITE], 1, 60), labels=labels):
                            pytest.fail("the child got more than its parent had")
                    assert code(wider) == (403, "delegation_exceeds_parent_authority")
        await client.aclose()

    asyncio.run(flow())


def test_narrowing_without_a_resource_is_refused_and_the_child_ended(orchard: Orchard) -> None:
    async def flow() -> str:
        client = orchard.client()
        async with client.session() as parent:
            with pytest.raises(CoordinatorError) as broad:
                async with client.session(authority=Authority.narrow([READ], ttl_seconds=60)):
                    pytest.fail("an unbounded delegation was given")
            assert code(broad) == (403, "broad_delegation_permission_required")
            children = orchard.admin.sessions.children(orchard.zone, parent.session_id)
        await client.aclose()
        assert len(children) == 1
        return children[0]["status"]

    assert asyncio.run(flow()) == "terminated"


# Service sessions


def test_a_service_session_lives_by_its_lease(orchard: Orchard) -> None:
    async def flow() -> str:
        client = orchard.client()
        handle = await client.start_session(heartbeat_interval=0, task="index pears")
        first_deadline = handle.heartbeat_deadline_at
        assert handle.lease_generation == 1
        await handle.heartbeat()
        assert handle.heartbeat_deadline_at > first_deadline
        assert handle.status == "active"
        await handle.aclose()
        await client.aclose()
        return handle.session_id

    session = asyncio.run(flow())
    assert orchard.admin.sessions.get(orchard.zone, session)["status"] == "terminated"


def test_a_takeover_fences_the_old_holder(orchard: Orchard) -> None:
    async def flow() -> None:
        old_process, new_process = orchard.client(), orchard.client()
        lost: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        old = await old_process.start_session(
            heartbeat_interval=0.02, on_lease_lost=lost.set_result
        )
        new = await new_process.attach_session(old.session_id, heartbeat_interval=0)
        assert new.lease_generation == old.lease_generation + 1
        error = await asyncio.wait_for(lost, 5)
        assert isinstance(error, CoordinatorError)
        assert (error.status, error.code) == (409, "session_lease_fenced")
        # To the old holder a fenced session is gone; its close ends nothing.
        await old.aclose()
        await new.heartbeat()
        assert orchard.admin.sessions.get(orchard.zone, new.session_id)["status"] == "active"
        await new.aclose()
        await old_process.aclose()
        await new_process.aclose()

    asyncio.run(flow())


def test_a_suspended_service_can_be_resumed_and_attached(orchard: Orchard) -> None:
    async def flow() -> None:
        client = orchard.client()
        handle = await client.start_session(heartbeat_interval=0)
        assert orchard.admin.sessions.suspend(orchard.zone, handle.session_id) == {"suspended": 1}
        with pytest.raises(CoordinatorError) as suspended:
            await client.attach_session(handle.session_id, heartbeat_interval=0)
        assert code(suspended) == (409, "session_suspended")
        assert orchard.admin.sessions.resume(orchard.zone, handle.session_id) == {"resumed": 1}
        attached = await client.attach_session(handle.session_id, heartbeat_interval=0)
        assert attached.status == "active"
        await attached.aclose()
        await client.aclose()

    asyncio.run(flow())


def test_a_heartbeat_gets_a_fresh_token_after_the_old_one_was_refused(orchard: Orchard) -> None:
    async def flow() -> None:
        client = orchard.client()
        handle = await client.start_session(heartbeat_interval=0)
        before = orchard.admin.applications.rotate_secret(orchard.zone, orchard.application.id)
        assert before["client_secret"] != orchard.application.secret
        # The token that the client holds was made before the rotation and stays good.
        await handle.heartbeat()
        await handle.aclose()
        await client.aclose()

    asyncio.run(flow())


# Delegation


def test_a_delegation_is_given_accepted_used_and_revoked(orchard: Orchard) -> None:
    async def flow() -> None:
        issuer, receiver = orchard.client(), orchard.client()
        async with issuer.session() as source:
            async with receiver.session(
                parent_ctx=None, authority=Authority.none(), labels=[orchard.application.id]
            ) as target:
                async with issuer.bind(source):
                    delegation = await issuer.delegate(
                        to_session_id=target.session_id,
                        resource_id=LEDGER,
                        scopes=[READ],
                        ttl_seconds=600,
                    )
                assert list(delegation.scopes) == [READ]
                async with receiver.accept_delegation(
                    delegation.delegation_id, validate=True
                ) as accepted:
                    assert describe_authority(accepted).delegation_id == delegation.delegation_id
                    response = await receiver.fetch(LEDGER, "/entries", scopes=[READ])
                    assert response.status_code == 200
                    await issuer.revoke_delegation(delegation.delegation_id)
                    with pytest.raises(AccessDenied):
                        await receiver.fetch(LEDGER, "/entries", scopes=[READ])
        await issuer.aclose()
        await receiver.aclose()

    asyncio.run(flow())


def test_a_revoked_delegation_is_not_accepted(orchard: Orchard) -> None:
    async def flow() -> None:
        client = orchard.client()
        async with client.session() as source:
            async with client.session(authority=Authority.none()) as target:
                async with client.bind(source):
                    delegation = await client.delegate(
                        to_session_id=target.session_id,
                        resource_id=LEDGER,
                        scopes=[READ],
                        ttl_seconds=600,
                    )
                    await client.revoke_delegation(delegation.delegation_id)
                with pytest.raises(RuntimeError, match="is not live"):
                    async with client.accept_delegation(delegation.delegation_id, validate=True):
                        pytest.fail("a revoked delegation was accepted")
        await client.aclose()

    asyncio.run(flow())


def test_a_delegation_to_another_application(orchard: Orchard) -> None:
    barn_resource = "resource://barn"
    barn = orchard.add_application("barn-bot", barn_resource)

    async def flow() -> None:
        issuer = orchard.client()
        receiver = orchard.client(
            application_id=barn.id,
            client_secret=barn.secret,
            resources=[ResourceBinding(barn_resource, "http://barn-upstream")],
        )
        target = await receiver.start_session(heartbeat_interval=0, labels=[barn.id])
        async with issuer.session() as source:
            delegation = await issuer.delegate(
                to_session_id=target.session_id,
                to_application_id=barn.id,
                resource_id=barn_resource,
                scopes=[READ],
                ttl_seconds=600,
            )
            async with receiver.bind(target.context):
                async with receiver.accept_delegation(delegation.delegation_id, validate=True):
                    mandate = claims_of(receiver.mint_mandate(barn_resource, [READ]).token)
                    hops = [hop["application_id"] for hop in mandate["delegation_chain"]]
                    assert hops == [orchard.application.id, barn.id]
                    async with issuer.bind(source):
                        await issuer.revoke_delegation(delegation.delegation_id)
                    with pytest.raises(AccessDenied):
                        receiver.mint_mandate(barn_resource, [READ])
        # The edge is cut; the Session belongs to the other application and goes on.
        await target.heartbeat()
        assert target.status == "active"
        await target.aclose()
        await issuer.aclose()
        await receiver.aclose()

    asyncio.run(flow())


# Calls and mandates


def test_a_transport_pins_bound_hosts_and_leaves_others_alone(orchard: Orchard) -> None:
    async def flow() -> None:
        client = orchard.client()
        async with client.session():
            async with client.session(authority=narrow([READ]), labels=[orchard.application.id]):
                async with client.transport(scopes=[READ]) as transport:
                    governed = await transport.get(f"{LEDGER_PREFIX}/entries?x=1")
                    assert governed.status_code == 200
                    assert governed.json()["path"] == "/entries?x=1"
                    assert "authorization" not in governed.json()["headers"]
                    plain = await transport.get(f"{orchard.upstream.url}/anything")
                    seen = plain.json()["headers"]
                    assert not {"authorization", "baggage", "x-caracal-resource"} & set(seen)
        await client.aclose()

    asyncio.run(flow())


def test_a_body_passes_through_a_transport(orchard: Orchard) -> None:
    async def flow() -> None:
        client = orchard.client()
        async with client.application_transport(LEDGER, scopes=[READ, WRITE]) as transport:
            response = await transport.post(f"{LEDGER_PREFIX}/entries", content=b"p" * 100_000)
            assert response.json()["body_length"] == 100_000
        await client.aclose()

    asyncio.run(flow())


def test_a_transport_without_scopes_sends_nothing(orchard: Orchard) -> None:
    async def flow() -> None:
        client = orchard.client()
        received = len(orchard.upstream.received)
        async with client.session():
            with pytest.raises(RuntimeError, match="use=gateway"):
                await client.fetch(LEDGER, "/entries")
        await client.aclose()
        assert len(orchard.upstream.received) == received

    asyncio.run(flow())


def test_lifecycle_mandates_are_cached_and_gateway_mandates_are_not(orchard: Orchard) -> None:
    async def flow() -> None:
        client = orchard.client()
        exchanges: list[CaracalEvent] = []
        client.on_event(
            lambda event: exchanges.append(event) if event.type == "token.exchange" else None
        )
        first = client.mint_mandate(LEDGER, [LIFECYCLE])
        assert client.mint_mandate(LEDGER, [LIFECYCLE]).token == first.token
        assert [event.cached for event in exchanges] == [False, True]
        assert 0 < first.expires_in_seconds <= 900
        async with client.session():
            async with client.session(authority=narrow([READ]), labels=[orchard.application.id]):
                one = client.mint_mandate(LEDGER, [READ]).token
                two = client.mint_mandate(LEDGER, [READ]).token
        assert claims_of(one)["jti"] != claims_of(two)["jti"]
        assert claims_of(one)["use"] == "gateway"
        await client.aclose()

    asyncio.run(flow())


def test_headers_for_a_peer_carry_a_token_that_the_coordinator_takes(orchard: Orchard) -> None:
    async def flow() -> None:
        client = orchard.client()
        async with client.session() as ctx:
            headers = client.headers()
            assert f"caracal.agent_session={ctx.session_id}" in headers["baggage"]
            bearer = headers["authorization"].removeprefix("Bearer ")
            answered(orchard.coordinate("GET", f"/agents/{ctx.session_id}", bearer), 200)
        await client.aclose()

    asyncio.run(flow())


def test_refusals_arrive_as_the_clients_own_exceptions(orchard: Orchard, plant: Plant) -> None:
    other = plant()
    client = orchard.client()
    with pytest.raises(ResourceNotFound):
        client.mint_mandate("resource://nowhere", [READ])
    with pytest.raises(ScopeInsufficient):
        client.mint_mandate(LEDGER, ["ledger:unheard"])
    with pytest.raises(AccessDenied):
        client.mint_mandate(LEDGER, [CLOSE])
    with pytest.raises(InvalidRequest):
        client.mint_mandate(LEDGER, [LIFECYCLE], ttl_seconds=3601)
    with pytest.raises(ZoneMismatch):
        orchard.client(zone_id=other.zone).mint_mandate(LEDGER, [LIFECYCLE])
    with pytest.raises(AccessDenied) as wrong:
        orchard.client(client_secret="cs_wrong").mint_mandate(LEDGER, [LIFECYCLE])
    assert wrong.value.http_status == 401
    assert wrong.value.request_id


def test_a_coordinator_error_carries_its_request_id(orchard: Orchard) -> None:
    async def flow() -> None:
        client = orchard.client()
        with pytest.raises(CoordinatorError) as missing:
            await client.attach_session("nobody")
        assert code(missing) == (404, "session_not_found")
        assert missing.value.request_id
        await client.aclose()

    asyncio.run(flow())


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
