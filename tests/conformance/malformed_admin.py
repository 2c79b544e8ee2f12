"""Malformed requests to the Admin API."""

from __future__ import annotations

import json
from typing import Any

from malformed import BAD_PAGES, JSON, bodies, ids, queries
from malformed_site import NOT_A_LIST, NOT_TEXT, Cases, Site, each, endpoint
from orchard import READ
from wire import Malformed

API_LIMIT = 1_048_576


@endpoint("api", "POST /v1/zones")
def create_zone(site: Site) -> Cases:
    wrong = [
        *each("name", [*NOT_TEXT, "", "   ", "x" * 121, "a\x00b"]),
        *each("slug", [7, [], "", "Upper", "a b", "ä", "../x"]),
        *each("dcr_enabled", ["yes", 1, []]),
        ("unheard_of", 1),
    ]
    return bodies("POST", "/v1/zones", site.admin, {"name": "bad"}, wrong, API_LIMIT)


@endpoint("api", "PATCH /v1/zones/{zone}")
def patch_zone(site: Site) -> Cases:
    wrong = [
        *each("name", [*NOT_TEXT, "", "x" * 121]),
        *each("slug", [7, "", "Upper"]),
        ("operator_governed", "yes"),
        ("unheard_of", 1),
    ]
    yield from bodies("PATCH", site.zone, site.admin, {}, wrong, API_LIMIT)
    yield Malformed("nothing to change", "PATCH", site.zone.encode(), site.admin + JSON, b"{}")
    yield from ids("PATCH", "/v1/zones/{id}", site.admin, b'{"name":"bad"}')


@endpoint("api", "zones")
def read_zones(site: Site) -> Cases:
    yield from queries("/v1/zones", site.admin, BAD_PAGES)
    for method in ("GET", "DELETE"):
        yield from ids(method, "/v1/zones/{id}", site.admin)
    yield Malformed("an unknown zone", "DELETE", b"/v1/zones/nobody", site.admin)


@endpoint("api", "POST /v1/zones without a good token")
def bad_tokens(_site: Site) -> Cases:
    body = b'{"name":"bad"}'
    for value in (
        "",
        "Bearer",
        "Bearer ",
        "bearer x",
        "Basic eDp5",
        "Bearer " + "x" * 5000,
        b"Bearer \xff",
    ):
        yield Malformed(
            f"token {value[:20]!r}", "POST", b"/v1/zones", [("authorization", value), *JSON], body
        )
    yield Malformed("no token", "POST", b"/v1/zones", JSON, body)


@endpoint("api", "POST …/applications")
def create_application(site: Site) -> Cases:
    path = f"{site.zone}/applications"
    good = {"name": "bad", "registration_method": "managed"}
    wrong = [
        *each("name", [*NOT_TEXT, "", " ", "x" * 201, "a\x00b"]),
        *each("registration_method", [7, None, "", "dcr", "Managed"]),
        *each(
            "traits", [*NOT_A_LIST, [7], [""], ["has space"], ["a", "a"], ["x" * 129], ["t"] * 65]
        ),
        ("traits", ["control:scope:nothing"]),
        ("client_secret", "chosen-by-the-caller-at-creation-time"),
        ("unheard_of", 1),
    ]
    yield from bodies("POST", path, site.admin, good, wrong, API_LIMIT)
    yield from ids("POST", "/v1/zones/{id}/applications", site.admin, json.dumps(good).encode())
    yield Malformed(
        "in an unknown zone",
        "POST",
        b"/v1/zones/nobody/applications",
        site.admin + JSON,
        json.dumps(good).encode(),
    )


@endpoint("api", "…/applications/{id}")
def one_application(site: Site) -> Cases:
    path = f"{site.zone}/applications"
    yield from queries(path, site.admin, [*BAD_PAGES, "status=other", "status="])
    mine = f"{path}/{site.orchard.application.id}"
    wrong = [
        *each("name", [*NOT_TEXT, "", "x" * 201]),
        *each("client_secret", [7, None, "", "short", "x" * 31]),
        *each("traits", [*NOT_A_LIST, [7], [""]]),
        ("unheard_of", 1),
    ]
    yield from bodies("PATCH", mine, site.admin, {}, wrong, API_LIMIT)
    for method in ("GET", "DELETE"):
        yield from ids(method, f"{path}/{{id}}", site.admin)
    yield from ids("PATCH", f"{path}/{{id}}", site.admin, b'{"name":"bad"}')
    yield from ids("POST", f"{path}/{{id}}/rotate-secret", site.admin)
    yield from ids("GET", f"{path}/{{id}}/client-secret", site.admin)


@endpoint("api", "…/providers")
def providers(site: Site) -> Cases:
    path = f"{site.zone}/providers"
    good = {
        "name": "bad",
        "kind": "api_key",
        "config_json": {"header_name": "X-Key", "api_key": "k"},
    }
    wrong = [
        *each("name", [7, [], {}]),
        *each(
            "identifier",
            [7, [], "", "bad", "provider://", "provider://A", "provider://a--b", "resource://x"],
        ),
        *each("kind", [7, None, "", "other", "API_KEY"]),
        *each("config_json", ["text", 7, [], None, {}]),
        ("config_json", {"header_name": "X-Key"}),
        ("config_json", {"header_name": "X-Key", "api_key": ""}),
        ("config_json", {"header_name": "X-Key", "api_key": 7}),
        ("config_json", {"header_name": "X-Key", "api_key": "a\r\nX-Evil: 1"}),
        ("config_json", {"header_name": "X Key", "api_key": "k"}),
        ("config_json", {"header_name": "Host", "api_key": "k"}),
        ("config_json", {"header_name": "X-Caracal-Resource", "api_key": "k"}),
        ("config_json", {"header_name": "X-Key", "api_key": "k", "unheard_of": 1}),
        ("config_json", {"auth_location": "cookie", "header_name": "X-Key", "api_key": "k"}),
        ("config_json", {"auth_location": "query", "query_param_name": "a b", "api_key": "k"}),
    ]
    yield from bodies("POST", path, site.admin, good, wrong, API_LIMIT)
    yield Malformed(
        "neither name nor identifier", "POST", path.encode(), site.admin + JSON, b'{"kind":"none"}'
    )
    yield from queries(path, site.admin, [*BAD_PAGES, "status=other"])
    for method in ("GET", "DELETE"):
        yield from ids(method, f"{path}/{{id}}", site.admin)
    yield from ids("PATCH", f"{path}/{{id}}", site.admin, b'{"name":"bad"}')
    mine = f"{path}/{site.orchard.provider}"
    wrong = [*each("name", [7, [], {}]), *each("kind", [7, "other"]), ("config_json", {"x": 1})]
    yield from bodies("PATCH", mine, site.admin, {}, wrong, API_LIMIT)


@endpoint("api", "…/resources")
def resources(site: Site) -> Cases:
    path = f"{site.zone}/resources"
    good = {
        "name": "bad",
        "identifier": "resource://bad",
        "upstream_url": "http://127.0.0.1:9",
        "scopes": [READ],
        "credential_provider_id": site.orchard.provider,
    }

    def operation(**change: Any) -> tuple[str, Any]:
        return ("operations", [{"method": "GET", "path": "/x", "scope": READ, **change}])

    wrong = [
        *each("name", [7, [], {}, "", "x" * 201]),
        *each(
            "identifier",
            [7, [], "", "no-scheme", "provider://x", "http://user:pw@host/", "x" * 513],
        ),
        *each(
            "upstream_url",
            [7, [], None, "", "no-url", "ftp://host/", "file:///etc/passwd", "http://"],
        ),
        *each("scopes", [*NOT_A_LIST, [], [7], [""], ["x" * 201], ["s"] * 65]),
        *each("credential_provider_id", [7, [], None, "", "nobody"]),
        *each("operation_enforcement", [7, "", "none", "ENFORCED"]),
        *each("operations", ["text", 7, {}, ["text"], [7], [None], [{}]]),
        operation(method=""),
        operation(method=7),
        operation(method="x" * 17),
        operation(path=""),
        operation(path="relative"),
        operation(path="/" + "x" * 512),
        operation(scope="unheard:of"),
        operation(scope=7),
        ("operations", [{"method": "GET", "path": "/x", "scope": READ}] * 2),
        ("operations", [{"method": "GET", "path": f"/{{{n}}}", "scope": READ} for n in "ab"]),
        ("operations", [{"method": "GET", "path": f"/{n}", "scope": READ} for n in range(257)]),
    ]
    yield from bodies("POST", path, site.admin, good, wrong, API_LIMIT)
    yield from queries(path, site.admin, [*BAD_PAGES, "status=other"])
    for method in ("GET", "DELETE"):
        yield from ids(method, f"{path}/{{id}}", site.admin)
    yield from ids("PATCH", f"{path}/{{id}}", site.admin, b'{"name":"bad"}')
    mine = f"{path}/{site.orchard.resource}"
    wrong = [
        *each("scopes", [[], "text", ["other:scope"]]),
        *each("upstream_url", [None, "ftp://x/"]),
    ]
    yield from bodies("PATCH", mine, site.admin, {}, wrong, API_LIMIT)


# Each is no policy document, or one that may not be kept.
DOCUMENTS = [
    "",
    "   ",
    "package caracal.authz",
    "package caracal.authz\ngrants := {}",
    "# caracal:data-document\ngrants := {}",
    "# caracal:data-document\npackage other\ngrants := {}",
    "# caracal:data-document\npackage caracal.authz\nimport rego.v1\nresult := {}",
    "# caracal:data-document\npackage caracal.authz\nimport rego.v1\nother := {}",
    "# caracal:data-document\npackage caracal.authz\nimport rego.v1\ngrants := {",
    '# caracal:data-document\npackage caracal.authz\nimport rego.v1\ngrants := {"a": "b"}',
    "# caracal:data-document\npackage caracal.authz\nimport rego.v1\napp_ids := []",
    "# caracal:data-document\npackage caracal.authz\nimport rego.v1\nrestrict := {input.x}",
    '# caracal:data-document\npackage caracal.authz\nimport rego.v1\nrestrict := {http.send({"url":"http://x"})}',
    "# caracal:data-document\npackage caracal.authz\nimport rego.v1\nrestrict := {time.now_ns()}",
    "# caracal:data-document\npackage caracal.authz\nimport rego.v1\nrestrict := numbers.range(1, 99999999)",
    "# caracal:data-document\npackage caracal.authz\nimport rego.v1\ngrants := "
    + "[" * 5000
    + "]" * 5000,
    "\x00",
    "x" * 262_145,
]


@endpoint("api", "…/policies")
def policies(site: Site) -> Cases:
    document = "# caracal:data-document\npackage caracal.authz\nimport rego.v1\nrestrict := []\n"
    good = {"name": "bad", "content": document}
    contents = each("content", [*NOT_TEXT, *DOCUMENTS])
    wrong = [*each("name", [*NOT_TEXT, ""]), *each("description", [7, [], {}]), *contents]
    path = f"{site.zone}/policies"
    yield from bodies("POST", path, site.admin, good, wrong, API_LIMIT)
    yield from bodies(
        "POST", f"{path}/{site.policy}/versions", site.admin, good, contents, API_LIMIT
    )
    yield from bodies("POST", "/v1/policies/validate", site.admin, good, contents, API_LIMIT)
    yield from queries(path, site.admin, BAD_PAGES)
    for method in ("GET", "DELETE"):
        yield from ids(method, f"{path}/{{id}}", site.admin)
    yield from ids("POST", f"{path}/{{id}}/versions", site.admin, json.dumps(good).encode())


@endpoint("api", "…/policy-sets")
def policy_sets(site: Site) -> Cases:
    path = f"{site.zone}/policy-sets"
    mine = f"{path}/{site.policy_set}"
    names = [*each("name", [*NOT_TEXT, ""]), *each("description", [7, [], {}])]
    yield from bodies("POST", path, site.admin, {"name": "bad"}, names, API_LIMIT)
    manifests = each(
        "manifest",
        [
            *NOT_A_LIST,
            [],
            [7],
            [{}],
            [{"policy_version_id": 7}],
            [{"policy_version_id": "nobody"}],
            [{"policy_version_id": "x"}] * 257,
        ],
    )
    good = {"manifest": [{"policy_version_id": site.policy_version}]}
    yield from bodies("POST", f"{mine}/versions", site.admin, good, manifests, API_LIMIT)
    versions = each("version_id", [*NOT_TEXT, "", "nobody", "a b", "x" * 129])
    good = {"version_id": site.set_version}
    yield from bodies("POST", f"{mine}/activate", site.admin, good, versions, API_LIMIT)
    for page in (path, f"{mine}/versions"):
        yield from queries(page, site.admin, BAD_PAGES)
    yield from queries(
        f"{mine}/activation-status", site.admin, ["version_id=%00", "version_id=a%20b"]
    )
    for method in ("GET", "DELETE"):
        yield from ids(method, f"{path}/{{id}}", site.admin)
    yield from ids("GET", f"{path}/{{id}}/versions", site.admin)
    yield from ids("GET", f"{mine}/versions/{{id}}", site.admin)
    yield from ids("GET", f"{path}/{{id}}/activation-status", site.admin)
    yield from ids("POST", f"{path}/{{id}}/activate", site.admin, b'{"version_id":"x"}')


@endpoint("api", "…/audit")
def audit(site: Site) -> Cases:
    bad = [
        "limit=0",
        "limit=1001",
        "limit=abc",
        "cursor=",
        "cursor=not-a-cursor",
        "since=yesterday",
        "since=2031-01-01",
        "until=2031-13-01T00:00:00Z",
        "decision=maybe",
        "format=xml",
        "fields=",
        "fields=unheard_of",
        "event_type=" + "x" * 513,
        "event_type=" + "%2C".join(f"t{n}" for n in range(17)),
        "label=" + "x" * 65,
        "application_id=" + "x" * 129,
    ]
    yield from queries(f"{site.zone}/audit", site.admin, bad)
    bad = ["limit=0", "limit=abc", "cursor=x", "since=x", "method=GET", "actor_id=" + "x" * 129]
    yield from queries(f"{site.zone}/admin-audit", site.admin, bad)
    yield from ids("GET", f"{site.zone}/audit/by-request/{{id}}", site.admin)
    yield from ids("GET", f"{site.zone}/audit/by-request/{{id}}/explain", site.admin)
    yield from ids("GET", "/v1/zones/{id}/audit/by-request/nobody", site.admin)


@endpoint("api", "…/simulate")
def simulate(site: Site) -> Cases:
    path = f"{site.zone}/policy-sets/{site.policy_set}/simulate"
    good = {"version_id": site.set_version}
    wrong = [
        *each("version_id", [*NOT_TEXT, "", "nobody", "a b"]),
        *each("input", ["text", 7, []]),
    ]
    yield from bodies("POST", path, site.admin, good, wrong, API_LIMIT)
    body = b'{"version_id":"x"}'
    yield from ids("POST", f"{site.zone}/policy-sets/{{id}}/simulate", site.admin, body)


@endpoint("api", "what the zone holds")
def zone_reads(site: Site) -> Cases:
    pages = ["limit=0", "limit=1001", "limit=abc", "cursor=", "cursor=x", "status=other"]
    yield from queries(f"{site.zone}/authority-records", site.admin, [*pages, "kind=other"])
    yield from queries(f"{site.zone}/sessions", site.admin, [*pages, "lifecycle=other"])
    yield from ids("GET", "/v1/zones/{id}/dcr-status", site.admin)


@endpoint("api", "/v1/admin-tokens")
def admin_tokens(site: Site) -> Cases:
    good = {"name": "bad", "scope": "global"}
    wrong = [
        *each("name", [*NOT_TEXT, "", "x" * 121, "a\x00b"]),
        *each("scope", [*NOT_TEXT, "", "world"]),
        *each("capability", [7, None, "", "admin"]),
        *each("reveal", ["yes", 1]),
        *each("zone_id", [7, "nobody", site.orchard.zone]),
        ("unheard_of", 1),
    ]
    yield from bodies("POST", "/v1/admin-tokens", site.admin, good, wrong, API_LIMIT)
    unbound = b'{"name":"bad","scope":"zone"}'
    path = b"/v1/admin-tokens"
    yield Malformed("a zone token without a zone", "POST", path, site.admin + JSON, unbound)
    yield from queries("/v1/admin-tokens", site.admin, BAD_PAGES)
    yield from ids("DELETE", "/v1/admin-tokens/{id}", site.admin)
