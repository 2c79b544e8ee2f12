"""Malformed requests to the STS, the Coordinator, the Gateway and the Audit role."""

from __future__ import annotations

import json

from malformed import BAD_PAGES, FORM, JSON, bodies, forms, ids, queries
from malformed_site import NOT_TEXT, Cases, Site, each, endpoint
from orchard import GRANT_TYPE, LEDGER, LIFECYCLE, READ
from wire import Headers, Malformed

COORDINATOR_LIMIT = 262_144


# STS


@endpoint("sts", "POST /oauth/2/token")
def token(site: Site) -> Cases:
    orchard = site.orchard
    good = {
        "grant_type": GRANT_TYPE,
        "zone_id": orchard.zone,
        "application_id": orchard.application.id,
        "client_secret": orchard.application.secret,
        "scope": LIFECYCLE,
        "resource": LEDGER,
    }
    access_token = "urn:ietf:params:oauth:token-type:access_token"
    wrong = [
        *each("grant_type", [None, "", "password", GRANT_TYPE.upper()]),
        *each("zone_id", [None, "", "nobody", "\x00", "x" * 5000]),
        *each("application_id", [None, "", "nobody", "\x00", "x" * 5000]),
        *each("client_secret", [None, "", "cs_wrong", "x" * 5000]),
        *each("scope", [None, "", " ", "\x00", f"{LIFECYCLE} x"]),
        *each("resource", [None, "", "   ", "resource://nobody", ["", LEDGER]]),
        *each("ttl_seconds", ["abc", "1.5", "-1", "3601", "1e3", "0x10", "9" * 40]),
        *each("session_id", ["nobody", "\x00"]),
        *each("agent_session_id", ["nobody", "\x00", "x" * 5000]),
        *each("delegation_edge_id", ["nobody", "\x00"]),
        *each("actor_token", ["", "x"]),
        *each("client_assertion", ["", "x"]),
        *each("client_assertion_type", ["", "x"]),
        *each("subject_token_type", ["other", access_token]),
        ("subject_token", "x"),
    ]
    yield from forms("/oauth/2/token", good, wrong)
    for subject in ("x", "a.b.c", orchard.bearer() + "x", "." * 10):
        yield from forms(
            "/oauth/2/token",
            {**good, "subject_token": subject, "subject_token_type": access_token},
            [],
        )
    text = "&".join(f"{name}={value}" for name, value in good.items()).encode()
    yield Malformed("a query", "POST", b"/oauth/2/token?zone_id=x", FORM, text)
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        yield Malformed(method, method, b"/oauth/2/token", FORM)
    signed: Headers = [
        ("x-caracal-gateway-timestamp", "0"),
        ("x-caracal-gateway-request", "x"),
        ("x-caracal-gateway-signature", "00"),
    ]
    yield Malformed("a forged Gateway", "POST", b"/oauth/2/token", FORM + signed, text)
    yield Malformed("half a Gateway", "POST", b"/oauth/2/token", FORM + signed[:1], text)


@endpoint("sts", "GET /.well-known/jwks.json")
def key_sets(_site: Site) -> Cases:
    bad = [
        "",
        "zone_id=",
        "zone_id=nobody",
        "zone_id=%00",
        "zone_id=%zz",
        "zone_id=%ff",
        "zone_id=a&zone_id=b",
    ]
    return queries("/.well-known/jwks.json", [], [*bad, "zone_id=" + "x" * 5000])


@endpoint("sts", "POST …/signing-key/rotate")
def rotation(site: Site) -> Cases:
    credentials: Headers = [("authorization", f"Bearer {site.stack.secret('stsAdminToken')}")]
    yield from ids("POST", "/internal/zones/{id}/signing-key/rotate", credentials)
    path = f"/internal/zones/{site.orchard.zone}/signing-key/rotate".encode()
    for value in ("Bearer wrong", "Bearer", ""):
        sent: Headers = [("authorization", value)]
        yield Malformed(f"token {value!r}", "POST", path, sent, plain_text=True)


# Coordinator


@endpoint("coordinator", "POST …/agents")
def start_session(site: Site) -> Cases:
    path = f"/zones/{site.orchard.zone}/agents"
    good = {"application_id": site.orchard.application.id}
    wrong = [
        *each("application_id", [*NOT_TEXT, "", "nobody"]),
        *each("lifecycle", [7, None, "", "daemon", "TASK"]),
        *each("labels", ["text", 7, {}, [7], [""], ["  "], ["x" * 65], ["l"] * 33]),
        *each("ttl_seconds", ["60", 0, -1, 1.5, 86_401, 10**30, True, []]),
        *each("parent_id", [7, [], "", "nobody"]),
        *each("parent_authority", [7, "", "all"]),
        *each("inherit_parent_edge_id", [7, ""]),
        *each("subject_session_id", [7, "", "nobody"]),
        *each("subject_token", [7, "x"]),
        *each("metadata", ["text", 7, [], None]),
    ]
    yield from bodies("POST", path, site.mandate, good, wrong, COORDINATOR_LIMIT)
    yield from ids("POST", "/zones/{id}/agents", site.mandate, json.dumps(good).encode())
    body = json.dumps(good).encode()
    for key in ("", "x" * 256, "a\tb", b"\xff\xfe"):
        headers = site.mandate + JSON + [("idempotency-key", key)]
        yield Malformed(f"key {key[:8]!r}", "POST", path.encode(), headers, body)
    twice = site.mandate + JSON + [("idempotency-key", "a"), ("idempotency-key", "b")]
    yield Malformed("two keys", "POST", path.encode(), twice, body)


@endpoint("coordinator", "without a good bearer")
def bad_bearers(site: Site) -> Cases:
    path = f"/zones/{site.orchard.zone}/agents".encode()
    head, claims, signature = site.orchard.bearer().split(".")
    for value in (
        "",
        "Bearer",
        "bearer x",
        "Bearer x",
        "Bearer a.b.c",
        "Bearer " + "x" * 5000,
        b"Bearer \xff",
        f"Bearer {head}.{claims}.",
        f"Bearer {head}.{claims}.{signature[:-4]}AAAA",
        f"Bearer eyJhbGciOiJub25lIn0.{claims}.",
        f"Bearer {claims}.{head}.{signature}",
    ):
        yield Malformed(
            f"bearer {value[:24]!r}", "POST", path, [("authorization", value), *JSON], b"{"
        )
    yield Malformed("no bearer", "POST", path, JSON, b"{")


@endpoint("coordinator", "…/agents")
def read_sessions(site: Site) -> Cases:
    path = f"/zones/{site.orchard.zone}/agents"
    bad = [
        *BAD_PAGES,
        "limit=501",
        "status=other",
        "lifecycle=other",
        "status=active&status=active",
    ]
    yield from queries(path, site.mandate, bad)
    yield from queries(f"{path}/{site.task}/children", site.mandate, BAD_PAGES)
    yield from queries(f"{path}/{site.task}/children", site.operator, BAD_PAGES)
    for suffix in ("", "/effective-authority"):
        yield from ids("GET", f"{path}/{{id}}{suffix}", site.mandate)
    for suffix in ("suspend", "resume"):
        yield from ids("PATCH", f"{path}/{{id}}/{suffix}", site.operator)


@endpoint("coordinator", "DELETE …/agents/{id}")
def end_session(site: Site) -> Cases:
    path = f"/zones/{site.orchard.zone}/agents"
    wrong = each("lease_generation", ["1", 0, -1, 1.5, True, [], 10**30, 99])
    yield from bodies(
        "DELETE",
        f"{path}/{site.service}",
        site.mandate,
        {"lease_generation": 1},
        wrong,
        COORDINATOR_LIMIT,
    )
    yield from ids("DELETE", f"{path}/{{id}}", site.mandate)
    for query in (b"reason=", b"reason=" + b"x" * 257, b"reason=a&reason=b"):
        yield Malformed(
            "a bad reason", "DELETE", f"{path}/{site.task}?".encode() + query, site.mandate
        )


@endpoint("coordinator", "leases")
def leases(site: Site) -> Cases:
    path = f"/zones/{site.orchard.zone}/agents"
    good = {"lease_generation": 1}
    wrong = [
        *each("lease_generation", ["1", 0, -1, 1.5, None, True, [], 10**30, 99]),
        *each("status", [7, "", "asleep"]),
        *each("metadata", ["text", 7, []]),
        *each("active_invocations", ["1", -1, 1.5]),
        *each("service_id", [7, []]),
    ]
    yield from bodies(
        "POST", f"{path}/{site.service}/heartbeat", site.mandate, good, wrong, COORDINATOR_LIMIT
    )
    yield from ids("POST", f"{path}/{{id}}/heartbeat", site.mandate, b'{"lease_generation":1}')
    yield from ids("POST", f"{path}/{{id}}/lease", site.mandate)
    lease = f"{path}/{site.task}/lease".encode()
    yield Malformed("the lease of a task", "POST", lease, site.mandate)


@endpoint("coordinator", "POST …/delegations")
def create_delegation(site: Site) -> Cases:
    orchard = site.orchard
    good = {
        "issuer_application_id": orchard.application.id,
        "receiver_application_id": orchard.application.id,
        "source_session_id": site.task,
        "target_session_id": site.service,
        "resource_id": LEDGER,
        "scopes": [READ],
        "ttl_seconds": 60,
    }
    sessions = [*NOT_TEXT, "", "nobody"]
    wrong = [
        *each("issuer_application_id", [*NOT_TEXT, "", "nobody"]),
        *each("receiver_application_id", [*NOT_TEXT, "", "nobody"]),
        *each("source_session_id", sessions),
        *each("target_session_id", [*sessions, site.task]),
        *each("resource_id", [7, [], "", "resource://nobody"]),
        *each("scopes", ["text", 7, {}, [7], [""], ["unheard:of"]]),
        *each("ttl_seconds", ["60", 0, -1, 1.5, 86_401, 10**30, True]),
        *each(
            "expires_at",
            [7, "", "tomorrow", "2031-01-01", "2031-01-01T00:00:00+01:00", "2001-01-01T00:00:00Z"],
        ),
        *each("constraints", ["text", 7, [], {"unheard_of": 1}]),
        *each(
            "constraints",
            [
                {"resources": "text"},
                {"resources": [""]},
                {"resources": [7]},
                {"resources": ["resource://nobody"]},
                {"resources": ["r"] * 65},
                {"max_hops": 0},
                {"max_hops": 11},
                {"max_hops": "2"},
                {"max_depth": 2, "max_hops": 3},
                {"budget": 0},
                {"budget": 65},
                {"ttl_seconds": 0},
                {"ttl_seconds": "60"},
                {"policy_approved": "yes"},
                {"expires_at": "tomorrow"},
                {"broad_reason": ""},
                {"broad_reason": "x" * 257},
            ],
        ),
        *each("constraints_json", ["text", 7, [], {"unheard_of": 1}]),
    ]
    path = f"/zones/{orchard.zone}/delegations"
    yield from bodies("POST", path, site.mandate, good, wrong, COORDINATOR_LIMIT)
    no_expiry = {name: value for name, value in good.items() if name != "ttl_seconds"}
    yield Malformed(
        "without an expiry",
        "POST",
        path.encode(),
        site.mandate + JSON,
        json.dumps(no_expiry).encode(),
    )


@endpoint("coordinator", "…/delegations")
def delegations(site: Site) -> Cases:
    path = f"/zones/{site.orchard.zone}/delegations"
    pages = [*BAD_PAGES, "limit=501"]
    for place in ("active", f"inbound/{site.task}", f"outbound/{site.task}"):
        yield from queries(f"{path}/{place}", site.mandate, pages)
    for place in ("inbound/{id}", "outbound/{id}", f"inbound/{site.task}/{{id}}"):
        yield from ids("GET", f"{path}/{place}", site.mandate)
    yield from ids("GET", f"{path}/{{id}}/impact", site.operator)
    yield from ids("PATCH", f"{path}/{{id}}/revoke", site.mandate)
    yield from ids("PATCH", f"{path}/{{id}}/revoke", site.operator)
    traverse = f"{path}/nobody/traverse".encode()
    yield Malformed("traverse without the right", "GET", traverse, site.mandate)


@endpoint("coordinator", "POST /v1/verify")
def verify(site: Site) -> Cases:
    good = {"zone_id": site.orchard.zone, "token": "x"}
    wrong = [
        *each("zone_id", [*NOT_TEXT, "", "nobody"]),
        *each("token", [7, [], "", "a.b.c", "x" * 5000]),
        *each("required_scope", [7, []]),
        *each("require_session", ["yes", 1]),
        ("unheard_of", 1),
    ]
    return bodies("POST", "/v1/verify", [], good, wrong, COORDINATOR_LIMIT)


# Gateway


@endpoint("gateway", "any path")
def calls(site: Site) -> Cases:
    orchard = site.orchard
    resource: Headers = [("x-caracal-resource", LEDGER)]
    mandate = orchard.mint(orchard.chain())
    bearer: Headers = [("authorization", f"Bearer {mandate}")]
    head, claims, signature = mandate.split(".")
    for value in (
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer a.b.c",
        "Bearer a.b.c.d",
        "Bearer " + "x" * 8193,
        b"Bearer \xff.\xff.\xff",
        f"Bearer {head}.{claims}.",
        f"Bearer {head}.{claims}.{signature[:-4]}AAAA",
        f"Bearer eyJhbGciOiJub25lIn0.{claims}.",
        f"Basic {mandate}",
    ):
        headers = [("authorization", value), *resource]
        yield Malformed(f"bearer {value[:24]!r}", "GET", b"/entries", headers)
    for name, headers in (
        ("no resource", bearer),
        ("an empty resource", bearer + [("x-caracal-resource", "  ")]),
        ("another resource", bearer + [("x-caracal-resource", "resource://barn")]),
        ("a resource that is not UTF-8", bearer + [("x-caracal-resource", b"\xff\xfe")]),
        ("a client id", bearer + resource + [("x-caracal-client-id", "someone")]),
    ):
        yield Malformed(name, "GET", b"/entries", headers)
    for path in (
        b"/a/../entries",
        b"/./entries",
        b"/a/%2e%2e/entries",
        b"/a/%252e%252e/entries",
        b"/a/%2e./entries",
        b"/a/..%2fentries",
        b"/a/..;/entries",
        b"/a/%5c/entries",
        b"/a/%255c/entries",
        b"/a\\..\\entries",
        b"/%00entries",
        b"/entries%00",
        b"/entries%0d%0ax",
        b"/entries%zz",
        b"/entries%",
        b"/entries%ff",
        b"/50%25",
    ):
        yield Malformed(f"path {path!r}", "GET", path, bearer + resource)
    yield Malformed("no path", "GET", b"*", bearer + resource)
    yield Malformed("no path", "OPTIONS", b"*", bearer + resource)
    yield Malformed(
        "another host", "CONNECT", b"example.org:443", bearer + resource, broken_framing=True
    )
    # Last: the mandate is good, and gets as far as the operation.
    yield Malformed("an undeclared operation", "TRACE", b"/entries", bearer + resource)


@endpoint("gateway", "POST /internal/revocations/reload")
def reload(_site: Site) -> Cases:
    for value in ("", "Bearer wrong", b"\xff"):
        sent: Headers = [("authorization", value)]
        path = b"/internal/revocations/reload"
        yield Malformed(f"token {value!r}", "POST", path, sent, plain_text=True)


# Audit


@endpoint("audit", "/api/audit")
def search(site: Site) -> Cases:
    good: Headers = [("authorization", f"Bearer {site.stack.secret('auditAdminToken')}")]
    zone = site.orchard.zone
    for route in ("search", "export"):
        for query in ("", "zone_id=", "zone_id=%00", "zone_id=%zz"):
            target = f"/api/audit/{route}?{query}".encode()
            yield Malformed(f"{route}?{query}", "GET", target, good, plain_text=True)
        for value in ("", "Bearer wrong", b"\xff"):
            target = f"/api/audit/{route}?zone_id={zone}".encode()
            sent: Headers = [("authorization", value)]
            yield Malformed(f"{route}, token {value!r}", "GET", target, sent, plain_text=True)
