"""Every operation of the published client that the stack serves."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

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

from answers import answered, claims_of
from orchard import CLOSE, LEDGER, LEDGER_PREFIX, LIFECYCLE, READ, WRITE, Orchard

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
