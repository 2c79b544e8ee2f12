"""The first hour of an operator, step by step, on a stack with the default limits.

The steps build on one another: read them, and run them, in order.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from caracalai import AccessDenied, Caracal, CoordinatorError
from caracalai_admin import (
    AdminApiError,
    AdminClient,
    ResourceGrant,
    author_grants_document,
    ensure_grants,
)

from answers import answered, claims_of, eventually, refused
from conftest import SHAPES, admin_of
from orchard import GRANT_TYPE, LEDGER, LEDGER_PREFIX, READ
from recorder import Call, Recorder
from stack import ROLES, Stack
from upstream import Upstream

POST_SCOPE = "ledger:post"


@dataclass
class Journey:
    """What the steps so far have made."""

    stack: Stack
    admin: AdminClient
    http: httpx.Client
    upstream: Upstream
    recorder: Recorder
    made: SimpleNamespace = field(default_factory=SimpleNamespace)

    def api(self, method: str, path: str, **request: Any) -> httpx.Response:
        headers = request.pop("headers", {"authorization": f"Bearer {self.stack.admin_token}"})
        return self.http.request(method, self.stack.url("api") + path, headers=headers, **request)

    def in_zone(self, method: str, path: str, **request: Any) -> httpx.Response:
        return self.api(method, f"/v1/zones/{self.made.zone}{path}", **request)

    def exchange(self, **fields: Any) -> httpx.Response:
        form = {
            "grant_type": GRANT_TYPE,
            "zone_id": self.made.zone,
            "application_id": self.made.application,
            "client_secret": self.made.secret,
            "resource": LEDGER,
            **fields,
        }
        return self.http.post(f"{self.stack.url('sts')}/oauth/2/token", data=form)

    def audit(self, **query: Any) -> list[dict[str, Any]]:
        return self.admin.audit.list(self.made.zone, query)

    def client(self) -> Caracal:
        """The published client, configured by environment only."""
        variables = {
            "CARACAL_ZONE_ID": self.made.zone,
            "CARACAL_APPLICATION_ID": self.made.application,
            "CARACAL_APP_CLIENT_SECRET": self.made.secret,
            "CARACAL_STS_URL": self.made.urls["sts"],
            "CARACAL_COORDINATOR_URL": self.made.urls["coordinator"],
            "CARACAL_GATEWAY_URL": self.made.urls["gateway"],
            "CARACAL_RESOURCES": f"{LEDGER}={LEDGER_PREFIX}",
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            return Caracal()

    def request(
        self, client: Caracal, method: str = "GET", scopes: tuple[str, ...] = (READ,)
    ) -> httpx.Response:
        """One call through the client's application transport, to the address that it knows."""

        async def call() -> httpx.Response:
            async with client.application_transport(LEDGER, scopes=list(scopes)) as transport:
                return await transport.request(method, f"{LEDGER_PREFIX}/entries")

        return asyncio.run(call())

    def activate(self, set_version: str) -> dict[str, Any]:
        answer = self.in_zone(
            "POST",
            f"/policy-sets/{self.made.policy_set}/activate",
            json={"version_id": set_version},
        )
        return answered(answer, 202)

    def wait_loaded(self, set_version: str, outbox: str | None = None) -> None:
        def loaded() -> bool:
            query = {"version_id": set_version, **({"outbox_id": outbox} if outbox else {})}
            path = f"/policy-sets/{self.made.policy_set}/activation-status"
            status = answered(self.in_zone("GET", path, params=query), 200)
            state = status["propagation_status"]
            assert state in {"waiting_for_outbox", "waiting_for_sts", "loaded"}, status
            return state == "loaded"

        eventually(loaded, "the activated policy set is loaded")


def policies_of(event: dict[str, Any]) -> list[str]:
    return [entry["policy"] for entry in event["determining_policies_json"] or []]


def steps_of(calls: list[Call]) -> list[tuple[str, str]]:
    """Method and path of each call, ids left out."""
    steps = []
    for call in calls:
        path = call.path.split("?")[0]
        if call.role == "coordinator":
            collection = path.split("/")[3]
            path = f"/{collection}" + ("/id" if len(path.split("/")) > 4 else "")
        steps.append((call.method, path))
    return steps


@pytest.fixture(scope="class")
def journey(
    shape: str, tmp_path_factory: pytest.TempPathFactory, upstream: Upstream, http: httpx.Client
) -> Iterator[Journey]:
    stack = SHAPES[shape].start(tmp_path_factory.mktemp("journey") / "home")
    recorder = Recorder()
    journey = Journey(stack, admin_of(stack, http), http, upstream, recorder)
    journey.made.urls = {
        role: recorder.before(role, stack.port(role)) for role in ("sts", "coordinator", "gateway")
    }
    yield journey
    recorder.close()
    stack.close()


class TestFirstRunJourney:
    def test_step_01_a_stack_has_five_services(self, journey: Journey) -> None:
        stack = journey.stack
        assert set(stack.addresses) == set(ROLES)
        assert stack.issuer == stack.url("sts")
        assert len(stack.admin_token) == 64
        assert (stack.home / "secrets").stat().st_mode & 0o777 == 0o700

    def test_step_02_five_services_are_ready(self, journey: Journey) -> None:
        for role in ROLES:
            ready = journey.http.get(journey.stack.url(role) + "/ready")
            assert ready.status_code == 200, (role, ready.text)

    def test_step_03_a_zone(self, journey: Journey) -> None:
        answer = journey.api("POST", "/v1/zones", json={"name": "orchard"})
        zone = answered(answer, 201)
        journey.made.zone = zone["id"]
        assert zone["slug"] == "orchard"

        refused(journey.api("POST", "/v1/zones", json={"name": ""}), 400, "invalid_zone")
        again = journey.api("POST", "/v1/zones", json={"name": "other", "slug": "orchard"})
        refused(again, 409, "zone_slug_conflict")
        refused(journey.api("POST", "/v1/zones", json={"name": "x"}, headers={}), 401)

    def test_step_04_an_application_with_a_secret_shown_now(self, journey: Journey) -> None:
        body = {"name": "ledger-bot", "registration_method": "managed"}
        application = answered(journey.in_zone("POST", "/applications", json=body), 201)
        journey.made.application = application["id"]
        journey.made.secret = application["client_secret"]
        assert journey.made.secret.startswith("cs_")

        refused(journey.in_zone("POST", "/applications", json=body), 409, "application_name_taken")
        shown = journey.admin.applications.get(journey.made.zone, journey.made.application)
        assert "client_secret" not in shown
        audited = journey.admin.admin_audit.list(journey.made.zone)
        assert any(
            row["method"] == "POST"
            and row["status_code"] == 201
            and row["path"].endswith("/applications")
            for row in audited
        ), audited
        assert journey.made.secret not in json.dumps(audited)

    def test_step_05_a_provider(self, journey: Journey) -> None:
        body = {"name": "pear-open", "kind": "none", "config_json": {}}
        provider = answered(journey.in_zone("POST", "/providers", json=body), 201)
        journey.made.provider = provider["id"]
        assert provider["identifier"] == "provider://pear-open"
        assert provider["config_json"] == {}
        assert provider["secret_config_keys"] == []

    def test_step_06_a_resource(self, journey: Journey) -> None:
        body = {
            "name": "Ledger",
            "identifier": LEDGER,
            "upstream_url": journey.upstream.url,
            "scopes": [READ],
            "credential_provider_id": journey.made.provider,
            "operations": [{"method": "GET", "path": "/entries", "scope": READ}],
        }
        unbound = {**body, "credential_provider_id": None}
        refused(
            journey.in_zone("POST", "/resources", json=unbound), 400, "credential_provider_required"
        )
        unknown = {**body, "credential_provider_id": "nobody"}
        refused(journey.in_zone("POST", "/resources", json=unknown), 404, "provider_not_found")
        resource = answered(journey.in_zone("POST", "/resources", json=body), 201)
        journey.made.resource = resource["id"]
        assert resource["operation_enforcement"] == "enforced"
        refused(
            journey.in_zone("POST", "/resources", json=body), 409, "resource_identifier_conflict"
        )

    def test_step_07_without_a_policy_nothing_is_minted(self, journey: Journey) -> None:
        with pytest.raises(AccessDenied) as denied:
            journey.request(journey.client())
        assert denied.value.http_status == 403
        assert "no_active_policy_set" in denied.value.description
        assert steps_of(journey.recorder.take()) == [("POST", "/oauth/2/token")]
        denials = eventually(
            lambda: journey.audit(decision="deny", event_type="token_exchange"), "the denial"
        )
        assert all(event["decision"] == "deny" for event in denials)
        assert journey.audit(decision="allow") == []

    def test_step_08_a_policy_with_the_published_grant_document(self, journey: Journey) -> None:
        made = journey.made
        made.document = author_grants_document([ResourceGrant(made.application, LEDGER, [READ])])
        body = {"name": "application-grants", "content": made.document}
        broken = {"name": "broken", "content": "package caracal.authz\ngrants := {"}
        refused(journey.in_zone("POST", "/policies", json=broken), 422, "invalid_rego")
        policy = answered(journey.in_zone("POST", "/policies", json=body), 201)
        made.policy, made.policy_version = policy["id"], policy["version_id"]
        detail = journey.admin.policies.get(made.zone, made.policy)
        assert detail["versions"][0]["content"] == made.document

    def test_step_09_a_policy_set(self, journey: Journey) -> None:
        body = {"name": "application-grant-policy"}
        policy_set = answered(journey.in_zone("POST", "/policy-sets", json=body), 201)
        journey.made.policy_set = policy_set["id"]

    def test_step_10_a_version_of_the_set(self, journey: Journey) -> None:
        made = journey.made
        body = {"manifest": [{"policy_version_id": made.policy_version}]}
        path = f"/policy-sets/{made.policy_set}/versions"
        made.set_version = answered(journey.in_zone("POST", path, json=body), 201)["version_id"]

    def test_step_11_activation(self, journey: Journey) -> None:
        activation = journey.activate(journey.made.set_version)
        assert activation["activated"] is True
        assert journey.made.set_version in activation["status_url"]
        journey.made.outbox = activation["outbox_id"]

    def test_step_12_the_set_is_loaded(self, journey: Journey) -> None:
        journey.wait_loaded(journey.made.set_version, journey.made.outbox)

    def test_step_13_building_a_client_calls_nobody(self, journey: Journey) -> None:
        journey.made.client = journey.client()
        assert journey.recorder.take() == []

    def test_step_14_the_cold_call_takes_six_requests(self, journey: Journey) -> None:
        response = journey.request(journey.made.client)
        assert response.status_code == 200, response.text
        calls = journey.recorder.take()
        assert steps_of(calls) == [
            ("POST", "/oauth/2/token"),
            ("POST", "/agents"),
            ("POST", "/agents"),
            ("POST", "/delegations"),
            ("POST", "/oauth/2/token"),
            ("GET", "/entries"),
        ]
        bootstrap, source, target, delegation, mint, use = calls
        assert bootstrap.form()["scope"] == ["agent:lifecycle"]
        assert source.json()["labels"] == [journey.made.application]
        assert delegation.json()["constraints"] == {"resources": [LEDGER]}
        assert mint.form()["ttl_seconds"] == ["900"]
        assert mint.form()["agent_session_id"] == [delegation.json()["target_session_id"]]
        journey.made.sessions = [
            delegation.json()["source_session_id"],
            delegation.json()["target_session_id"],
        ]
        journey.made.edge = mint.form()["delegation_edge_id"][0]
        journey.made.mandate = use.headers["authorization"].removeprefix("Bearer ")
        journey.made.request_id = response.headers["x-request-id"]
        claims = claims_of(journey.made.mandate)
        assert claims["use"] == "gateway"
        assert claims["iss"] == journey.stack.issuer

        seen = journey.upstream.last()
        assert (seen.method, seen.target) == ("GET", "/entries")
        assert seen.header("authorization") is None
        assert not [name for name in seen.header_names() if name.startswith("x-caracal-")]
        assert "caracal." not in (seen.header("baggage") or "")
        assert seen.header("x-request-id") == journey.made.request_id
        assert seen.header("traceparent")

    def test_step_15_the_warm_call_takes_two_requests(self, journey: Journey) -> None:
        response = journey.request(journey.made.client)
        assert response.status_code == 200, response.text
        calls = journey.recorder.take()
        assert steps_of(calls) == [("POST", "/oauth/2/token"), ("GET", "/entries")]
        mandate = calls[1].headers["authorization"].removeprefix("Bearer ")
        assert claims_of(mandate)["jti"] != claims_of(journey.made.mandate)["jti"]

    def test_step_16_the_audit_names_the_rule_of_each_exchange(self, journey: Journey) -> None:
        key = journey.made.application
        wanted = {"caracal-bootstrap", f"caracal-{key}-mint", f"caracal-{key}-use"}

        def all_rules() -> bool:
            events = journey.audit(event_type="token_exchange", decision="allow")
            return wanted <= {policy for event in events for policy in policies_of(event)}

        eventually(all_rules, f"allows by {wanted}")

    def test_step_17_one_request_id_joins_use_and_call(self, journey: Journey) -> None:
        def whole() -> list[dict[str, Any]] | None:
            try:
                events = journey.admin.audit.by_request(journey.made.zone, journey.made.request_id)
            except AdminApiError as error:
                assert error.status == 404
                return None
            # The STS and the Gateway tell the Audit role on their own, in either order.
            types = {event["event_type"] for event in events}
            wanted = {"token_exchange", "gateway_request_started", "gateway_resource_request"}
            return events if wanted <= types else None

        events = eventually(whole, "the call's events")
        instants = [event["occurred_at"] for event in events]
        assert instants == sorted(instants)
        use, call = events[0], events[-1]
        assert use["event_type"] == "token_exchange"
        assert policies_of(use) == [f"caracal-{journey.made.application}-use"]
        assert call["event_type"] == "gateway_resource_request"
        assert (call["decision"], call["evaluation_status"]) == ("allow", "executed")

    def test_step_18_the_call_is_explained(self, journey: Journey) -> None:
        explained = journey.admin.audit.explain(journey.made.zone, journey.made.request_id)
        assert explained["final_decision"] == "allow"
        assert explained["denied"] == []
        types = {event["event_type"] for event in explained["events"]}
        assert {"token_exchange", "gateway_resource_request"} <= types

    def test_step_19_a_scope_that_the_resource_lacks(self, journey: Journey) -> None:
        made = journey.made
        with pytest.raises(CoordinatorError) as denied:
            journey.request(journey.client(), scopes=(POST_SCOPE,))
        assert (denied.value.status, denied.value.code) == (
            403,
            "delegation_scopes_exceed_resource",
        )
        assert steps_of(journey.recorder.take()) == [
            ("POST", "/oauth/2/token"),
            ("POST", "/agents"),
            ("POST", "/agents"),
            ("POST", "/delegations"),
            ("DELETE", "/agents/id"),
            ("DELETE", "/agents/id"),
        ]
        raw = journey.exchange(
            scope=POST_SCOPE, agent_session_id=made.sessions[1], delegation_edge_id=made.edge
        )
        assert raw.status_code == 403, raw.text

        bare = journey.exchange(scope=POST_SCOPE)
        refused(bare, 403, "scope_insufficient")
        request_id = bare.headers["x-request-id"]

        def mismatch() -> bool:
            events = journey.audit(request_id=request_id)
            return any(event["evaluation_status"] == "scope_mismatch" for event in events)

        eventually(mismatch, "the denial by scope_mismatch")

        journey.admin.resources.patch(made.zone, made.resource, {"scopes": [READ, POST_SCOPE]})
        with pytest.raises(AccessDenied) as ungranted:
            journey.request(journey.client(), scopes=(POST_SCOPE,))
        assert ungranted.value.http_status == 403
        assert steps_of(journey.recorder.take())[-1] == ("POST", "/oauth/2/token")

    def test_step_20_an_undeclared_operation(self, journey: Journey) -> None:
        before = len(journey.upstream.received)
        response = journey.request(journey.made.client, method="POST")
        refused(response, 403, "operation_not_permitted")
        assert len(journey.upstream.received) == before
        request_id = response.headers["x-request-id"]

        def denied() -> bool:
            events = journey.audit(request_id=request_id, decision="deny")
            return any(event["evaluation_status"] == "operation_not_permitted" for event in events)

        eventually(denied, "the denial by operation_not_permitted")

    def test_step_21_a_mandate_works_once(self, journey: Journey) -> None:
        url = journey.stack.url("gateway") + "/entries"
        headers = {
            "authorization": f"Bearer {journey.made.mandate}",
            "x-caracal-resource": LEDGER,
        }
        refused(journey.http.get(url, headers=headers), 401, "invalid_token")
        eventually(lambda: journey.audit(event_type="replay_detected"), "replay_detected")

    def test_step_22_a_wrong_secret(self, journey: Journey) -> None:
        for _ in range(60):
            wrong = journey.exchange(scope="agent:lifecycle", client_secret="cs_wrong")
            refused(wrong, 401, "access_denied")
        limited = journey.exchange(scope="agent:lifecycle", client_secret="cs_wrong")
        refused(limited, 429, "provider_rate_limited")
        assert int(limited.headers["retry-after"]) >= 1
        answered(journey.exchange(scope="agent:lifecycle"), 200)

    def test_step_23_closing_the_client_ends_its_sessions(self, journey: Journey) -> None:
        made = journey.made
        journey.recorder.take()
        asyncio.run(made.client.aclose())
        deletes = [call for call in journey.recorder.take() if call.method == "DELETE"]
        assert [call.status for call in deletes] == [204, 204]
        assert {call.path.rsplit("/", 1)[1] for call in deletes} == set(made.sessions)
        for session in made.sessions:
            assert journey.admin.sessions.get(made.zone, session)["status"] == "terminated"
        raw = journey.exchange(
            scope=READ, agent_session_id=made.sessions[1], delegation_edge_id=made.edge
        )
        refused(raw, 403, "access_denied")

    def test_step_24_dropping_the_grant_ends_the_authority(self, journey: Journey) -> None:
        made = journey.made
        client = journey.client()
        assert journey.request(client).status_code == 200
        ensure_grants(journey.admin, made.zone, grants=[])
        policy_set = journey.admin.policy_sets.get(made.zone, made.policy_set)
        assert policy_set["active_version_id"] != made.set_version
        journey.wait_loaded(policy_set["active_version_id"])
        with pytest.raises(AccessDenied) as warm:
            journey.request(client)
        with pytest.raises(AccessDenied) as cold:
            journey.request(journey.client())
        assert warm.value.http_status == cold.value.http_status == 403
