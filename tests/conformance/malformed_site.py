"""Where malformed requests go: a zone with one object of each kind, and the register of endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from orchard import Orchard
from stack import Stack
from wire import Headers, Malformed

NOT_TEXT = (7, True, None, [], {})
NOT_A_LIST = ("text", 7, {}, None)


def each(field: str, values: Iterable[Any]) -> list[tuple[str, Any]]:
    return [(field, value) for value in values]


@dataclass
class Site:
    """A zone with one object of each kind."""

    orchard: Orchard
    policy: str
    policy_version: str
    policy_set: str
    set_version: str
    service: str
    task: str

    @property
    def stack(self) -> Stack:
        return self.orchard.stack

    @property
    def zone(self) -> str:
        return f"/v1/zones/{self.orchard.zone}"

    @property
    def admin(self) -> Headers:
        return [("authorization", f"Bearer {self.stack.admin_token}")]

    @property
    def mandate(self) -> Headers:
        return [("authorization", f"Bearer {self.orchard.bearer()}")]

    @property
    def operator(self) -> Headers:
        return [("authorization", f"Bearer {self.stack.operator_token}")]

    def counts(self) -> dict[str, int]:
        """How much of everything there is."""
        zone, client = self.orchard.zone, self.orchard.admin
        policies = [entry["id"] for entry in client.policies.list(zone)]
        sets = [entry["id"] for entry in client.policy_sets.list(zone)]
        return {
            "zones": len(client.zones.list()),
            "admin tokens": len(client._list_all("/v1/admin-tokens", "admin tokens")),
            "applications": len(client.applications.list(zone)),
            "providers": len(client.providers.list(zone)),
            "resources": len(client.resources.list(zone)),
            "policies": len(policies),
            "policy versions": sum(
                len(client.policies.get(zone, policy)["versions"]) for policy in policies
            ),
            "policy sets": len(sets),
            "set versions": sum(
                len(client.policy_sets.list_versions(zone, policy_set)) for policy_set in sets
            ),
            "sessions": len(self._all("/agents")),
            "delegations": len(self._all("/delegations/active")),
        }

    def _all(self, path: str) -> list[Any]:
        page = self.orchard.operate("GET", path, params={"limit": 500}).json()
        assert page["next_cursor"] is None
        return page["items"]


Cases = Iterator[Malformed]
ENDPOINTS: dict[str, tuple[str, Callable[[Site], Cases]]] = {}


def endpoint(role: str, name: str) -> Callable[[Callable[[Site], Cases]], Callable[[Site], Cases]]:
    """Registers the malformed requests of one endpoint."""

    def register(cases: Callable[[Site], Cases]) -> Callable[[Site], Cases]:
        ENDPOINTS[f"{role} {name}"] = (role, cases)
        return cases

    return register
