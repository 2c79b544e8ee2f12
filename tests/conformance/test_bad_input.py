"""Malformed requests to every endpoint: each is refused with a JSON error, nothing is written, and
the process goes on."""

from __future__ import annotations

from collections.abc import Iterable

import httpx
import pytest
from caracalai_admin import AdminClient

import malformed_admin  # noqa: F401
import malformed_runtime  # noqa: F401
from malformed import framing
from malformed_site import ENDPOINTS, Site
from orchard import LEDGER, Orchard
from stack import ROLES, Stack
from upstream import Upstream
from wire import Headers, Malformed, WireAnswer, send


@pytest.fixture(scope="module")
def site(stack: Stack, upstream: Upstream, admin: AdminClient, http: httpx.Client) -> Site:
    orchard = Orchard.plant(stack, upstream, admin, http)
    orchard.chain()
    policy_set = admin.policy_sets.list(orchard.zone)[0]
    service = orchard.start_answer(lifecycle="service").json()["agent_session_id"]
    policy = admin.policies.list(orchard.zone)[0]["id"]
    return Site(
        orchard,
        policy,
        admin.policies.get(orchard.zone, policy)["versions"][0]["id"],
        policy_set["id"],
        policy_set["active_version_id"],
        service,
        orchard.start(),
    )


def refusals(role: str, site: Site, cases: Iterable[Malformed]) -> tuple[int, list[str]]:
    address = site.stack.socket_address(role)
    wrong: list[str] = []
    number = 0
    for number, request in enumerate(cases, 1):
        answer: WireAnswer = send(address, request)
        if reason := answer.refuses(request):
            wrong.append(f"{request.method} {request.name}: {reason}")
    return number, wrong


def assert_alive(site: Site) -> None:
    for role in ROLES:
        assert site.orchard.http.get(site.stack.url(role) + "/health").status_code == 200, role


@pytest.mark.parametrize("name", ENDPOINTS)
def test_malformed_requests_are_refused(name: str, site: Site) -> None:
    role, cases = ENDPOINTS[name]
    requests = list(cases(site))
    before, received = site.counts(), len(site.orchard.upstream.received)
    number, wrong = refusals(role, site, requests)
    assert wrong == [], "\n".join(wrong)
    assert number > 0
    assert_alive(site)
    assert site.counts() == before
    assert len(site.orchard.upstream.received) == received


@pytest.mark.parametrize("role", ROLES)
def test_broken_http_is_refused(role: str, site: Site) -> None:
    targets = {
        "api": b"/v1/zones",
        "sts": b"/oauth/2/token",
        "gateway": b"/entries",
        "audit": b"/api/audit/search",
    }
    target = targets.get(role, f"/zones/{site.orchard.zone}/agents".encode())
    _, wrong = refusals(role, site, framing(target))
    assert wrong == [], "\n".join(wrong)
    assert_alive(site)


@pytest.mark.parametrize("role", ROLES)
def test_unknown_routes_are_not_found(role: str, site: Site) -> None:
    """Only the Gateway has no unknown routes: what it does not know needs a mandate."""
    wanted = {401} if role == "gateway" else {401, 404, 405}
    for path in (
        b"/nowhere",
        b"/health/x",
        b"//health",
        b"/v1",
        b"/%2e%2e/health",
        b"/v1/zones/../health",
    ):
        request = Malformed("an unknown route", "GET", path)
        answer = send(site.stack.socket_address(role), request)
        if role == "gateway" and b".." in path.replace(b"%2e", b"."):
            assert answer.status in {400, 401}, path
        else:
            assert answer.status in wanted, (path, answer)
    assert_alive(site)


def test_an_absolute_target_never_chooses_the_upstream(site: Site) -> None:
    orchard = site.orchard
    decoy = Upstream()
    mandate = orchard.mint(orchard.chain())
    headers: Headers = [("authorization", f"Bearer {mandate}"), ("x-caracal-resource", LEDGER)]
    target = f"{decoy.url}/entries".encode()
    address = site.stack.socket_address("gateway")
    for sent in ([], headers):
        answer = send(address, Malformed("an absolute target", "GET", target, sent))
        assert answer.status in ({401} if not sent else {200, 400})
    decoy.close()
    assert decoy.received == []


def test_no_spelling_of_a_path_passes_the_gate(site: Site) -> None:
    """What is guarded at `/v1/zones` is guarded under each of its spellings."""
    for path in (
        b"/v1/zones",
        b"/v1/zone%73",
        b"/v1//zones",
        b"/v1/./zones",
        b"/V1/zones",
        b"/v1/zones/",
        b"/x/../v1/zones",
        b"/%76%31/zones",
        b"http://localhost/v1/zones",
    ):
        answer = send(site.stack.socket_address("api"), Malformed("unguarded", "GET", path))
        assert answer.status in {400, 401, 404}, (path, answer)
