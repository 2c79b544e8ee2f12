"""A governed zone, ready to use: an application, a provider, a resource, the grants between them;
and one short call for each thing that a client does to the four roles."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import httpx
from caracalai import Caracal, ResourceBinding
from caracalai_admin import AdminClient, ResourceGrant, ensure_grants

from answers import answered
from stack import Stack
from upstream import Upstream

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
LIFECYCLE = "agent:lifecycle"
LEDGER = "resource://ledger"
READ = "ledger:read"
WRITE = "ledger:write"
# On the resource, granted to nobody.
CLOSE = "ledger:close"
# The address that clients know; only the Gateway knows the real one.
LEDGER_PREFIX = "http://ledger-upstream:9000"
OPERATIONS = [
    {"method": "GET", "path": "/entries", "scope": READ},
    {"method": "POST", "path": "/entries", "scope": WRITE},
    {"method": "GET", "path": "/entries/{id}", "scope": READ},
    {"method": "GET", "path": "/redirect", "scope": READ},
    {"method": "GET", "path": "/teapot", "scope": READ},
    {"method": "GET", "path": "/sse", "scope": READ},
]


@dataclass(frozen=True)
class Application:
    id: str
    secret: str


@dataclass(frozen=True)
class Chain:
    """Authority handed from one Session to another."""

    source: str
    target: str
    edge: str


@dataclass
class Orchard:
    stack: Stack
    upstream: Upstream
    admin: AdminClient
    http: httpx.Client
    zone: str
    application: Application
    provider: str
    resource: str
    grants: list[ResourceGrant]
    _lifecycle: dict[str, str] = field(default_factory=dict)

    @classmethod
    def plant(
        cls,
        stack: Stack,
        upstream: Upstream,
        admin: AdminClient,
        http: httpx.Client,
        provider: dict[str, Any] | None = None,
    ) -> Orchard:
        zone = admin.zones.create({"name": f"orchard {secrets.token_hex(6)}"})["id"]
        created = admin.applications.create(
            zone, {"name": "ledger-bot", "registration_method": "managed"}
        )
        application = Application(created["id"], created["client_secret"])
        provider = provider or {"name": "pear-open", "kind": "none", "config_json": {}}
        provider_id = admin.providers.create(zone, provider)["id"]
        resource = admin.resources.create(
            zone,
            {
                "name": "Ledger",
                "identifier": LEDGER,
                "upstream_url": upstream.url,
                "scopes": [READ, WRITE, CLOSE],
                "credential_provider_id": provider_id,
                "operations": OPERATIONS,
            },
        )["id"]
        grants = [ResourceGrant(application.id, LEDGER, [READ, WRITE])]
        ensure_grants(admin, zone, grants=grants)
        return cls(stack, upstream, admin, http, zone, application, provider_id, resource, grants)

    def add_application(self, name: str, identifier: str | None = None) -> Application:
        """Another application; with an identifier it owns a resource of its own, and so can
        bootstrap."""
        created = self.admin.applications.create(
            self.zone, {"name": name, "registration_method": "managed"}
        )
        application = Application(created["id"], created["client_secret"])
        if identifier is not None:
            self.admin.resources.create(
                self.zone,
                {
                    "name": name,
                    "identifier": identifier,
                    "upstream_url": self.upstream.url,
                    "scopes": [READ],
                    "credential_provider_id": self.provider,
                    "operation_enforcement": "transport_uniform",
                },
            )
            self.grants.append(ResourceGrant(application.id, identifier, [READ]))
            ensure_grants(self.admin, self.zone, grants=self.grants)
        return application

    def client(self, **overrides: Any) -> Caracal:
        """The published client, configured for this zone."""
        settings: dict[str, Any] = {
            "coordinator_url": self.stack.url("coordinator"),
            "sts_url": self.stack.url("sts"),
            "gateway_url": self.stack.url("gateway"),
            "zone_id": self.zone,
            "application_id": self.application.id,
            "client_secret": self.application.secret,
            "resources": [ResourceBinding(LEDGER, LEDGER_PREFIX)],
            **overrides,
        }
        return Caracal.from_client_secret(**settings)

    # STS

    def form(self, application: Application | None = None, **fields: Any) -> dict[str, Any]:
        """A token request of this zone; a field given as None is left out."""
        application = application or self.application
        form = {
            "grant_type": GRANT_TYPE,
            "zone_id": self.zone,
            "application_id": application.id,
            "client_secret": application.secret,
            **fields,
        }
        return {name: value for name, value in form.items() if value is not None}

    def exchange(
        self,
        application: Application | None = None,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> httpx.Response:
        url = f"{self.stack.url('sts')}/oauth/2/token"
        return self.http.post(url, data=self.form(application, **fields), headers=headers)

    def lifecycle(
        self, application: Application | None = None, resource: str = LEDGER, **fields: Any
    ) -> str:
        """A fresh lifecycle token."""
        answer = self.exchange(application, scope=LIFECYCLE, resource=resource, **fields)
        return answered(answer, 200)["access_token"]

    def bearer(self, application: Application | None = None, resource: str = LEDGER) -> str:
        """The application's lifecycle token, exchanged once."""
        application = application or self.application
        if application.id not in self._lifecycle:
            self._lifecycle[application.id] = self.lifecycle(application, resource)
        return self._lifecycle[application.id]

    def mint_answer(self, chain: Chain, scope: str = READ, **fields: Any) -> httpx.Response:
        return self.exchange(
            scope=scope,
            resource=fields.pop("resource", LEDGER),
            agent_session_id=chain.target,
            delegation_edge_id=chain.edge,
            **fields,
        )

    def mint(self, chain: Chain, scope: str = READ, **fields: Any) -> str:
        """A single-use mandate for the Gateway."""
        return answered(self.mint_answer(chain, scope, **fields), 200)["access_token"]

    # Coordinator

    def coordinate(
        self, method: str, path: str, bearer: str | None = None, **request: Any
    ) -> httpx.Response:
        headers = {
            "authorization": f"Bearer {bearer or self.bearer()}",
            **request.pop("headers", {}),
        }
        url = f"{self.stack.url('coordinator')}/zones/{self.zone}{path}"
        return self.http.request(method, url, headers=headers, **request)

    def operate(self, method: str, path: str, **request: Any) -> httpx.Response:
        """The same with the operator's token."""
        return self.coordinate(method, path, self.stack.operator_token, **request)

    def start_answer(
        self,
        application: Application | None = None,
        bearer: str | None = None,
        headers: dict[str, str] | None = None,
        **body: Any,
    ) -> httpx.Response:
        application = application or self.application
        body = {"application_id": application.id, "labels": [application.id], **body}
        return self.coordinate("POST", "/agents", bearer, json=body, headers=headers or {})

    def start(self, **body: Any) -> str:
        return answered(self.start_answer(**body), 201)["agent_session_id"]

    def delegate_answer(
        self,
        source: str,
        target: str,
        scopes: list[str] | None = None,
        bearer: str | None = None,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> httpx.Response:
        body = {
            "issuer_application_id": self.application.id,
            "receiver_application_id": self.application.id,
            "source_session_id": source,
            "target_session_id": target,
            "scopes": scopes if scopes is not None else [READ],
            "constraints": {"resources": [LEDGER]},
            "ttl_seconds": 900,
            **fields,
        }
        body = {name: value for name, value in body.items() if value is not None}
        return self.coordinate("POST", "/delegations", bearer, json=body, headers=headers or {})

    def delegate(
        self, source: str, target: str, scopes: list[str] | None = None, **fields: Any
    ) -> str:
        answer = self.delegate_answer(source, target, scopes, **fields)
        return answered(answer, 201)["delegation_edge_id"]

    def chain(self, scopes: list[str] | None = None, **fields: Any) -> Chain:
        """Two Sessions and a delegation from the first to the second."""
        source, target = self.start(), self.start()
        return Chain(source, target, self.delegate(source, target, scopes, **fields))

    def revoke(self, edge: str, bearer: str | None = None) -> httpx.Response:
        return self.coordinate("PATCH", f"/delegations/{edge}/revoke", bearer)

    def terminate(self, session: str, **request: Any) -> httpx.Response:
        return self.coordinate("DELETE", f"/agents/{session}", **request)

    def suspend(self, session: str) -> httpx.Response:
        return self.operate("PATCH", f"/agents/{session}/suspend")

    # Gateway

    def call(
        self,
        mandate: str | None,
        path: str = "/entries",
        method: str = "GET",
        resource: str | None = LEDGER,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        sent = dict(headers or {})
        if mandate is not None:
            sent["authorization"] = f"Bearer {mandate}"
        if resource is not None:
            sent["x-caracal-resource"] = resource
        url = self.stack.url("gateway") + path
        return self.http.request(method, url, headers=sent, content=content)

    # Admin API

    def administer(self, method: str, path: str, **request: Any) -> httpx.Response:
        headers = {
            "authorization": f"Bearer {self.stack.admin_token}",
            **request.pop("headers", {}),
        }
        url = f"{self.stack.url('api')}/v1/zones/{self.zone}{path}"
        return self.http.request(method, url, headers=headers, **request)
