"""Rows 60 to 75: calls through the Gateway, and mandates at a resource server."""

from __future__ import annotations

import asyncio
import base64
import json

from caracalai_revocation import InMemoryRevocationStore
from caracalai_verify import (
    AuthOptions,
    AuthResult,
    create_mandate_verifier,
    http_status_for_auth_error,
)

from answers import answered, claims_of, refused
from conformance_row import Ground, row
from orchard import LEDGER, READ, Chain, Orchard
from streaming import RunningStream


@row(60)
def an_answer_passes_unchanged(ground: Ground) -> None:
    orchard = ground.orchard
    answer = orchard.call(orchard.mint(orchard.chain()), "/teapot")
    assert answer.status_code == 418
    assert answer.json() == {"short": "stout"}
    assert answer.headers["x-kind"] == "teapot"
    assert answer.headers["x-request-id"]
    assert 0 < int(answer.headers["x-caracal-token-expires-in"]) <= 900


@row(61)
def a_call_without_a_gateway_mandate(ground: Ground) -> None:
    orchard = ground.orchard
    for mandate in (None, "nonsense", "a.b.c", orchard.bearer()):
        refused(orchard.call(mandate), 401, "invalid_token")


@row(62)
def a_mandate_works_once(ground: Ground) -> None:
    orchard = ground.orchard
    mandate = orchard.mint(orchard.chain())
    answered(orchard.call(mandate), 200)
    refused(orchard.call(mandate), 401, "invalid_token")


@row(63)
def a_call_that_names_no_resource(ground: Ground) -> None:
    orchard = ground.orchard
    mandate = orchard.mint(orchard.chain())
    refused(orchard.call(mandate, resource=None), 400)
    refused(orchard.call(mandate, resource=""), 400)
    answered(orchard.call(mandate), 200)


@row(64)
def a_mandate_that_ends_in_half_a_minute(ground: Ground) -> None:
    orchard = ground.orchard
    mandate = orchard.mint(orchard.chain(), ttl_seconds=34)
    refused(orchard.call(mandate), 401, "credential_expired_not_renewable")


@row(65)
def an_undeclared_operation(ground: Ground) -> None:
    orchard = ground.orchard
    chain = orchard.chain()
    for method, path in (("GET", "/other"), ("DELETE", "/entries"), ("POST", "/entries")):
        answer = orchard.call(orchard.mint(chain), path, method)
        refused(answer, 403, "operation_not_permitted")
    answered(orchard.call(orchard.mint(chain), "/entries/7"), 200)


@row(66)
def an_encoded_dot_segment(ground: Ground) -> None:
    orchard = ground.orchard
    mandate = orchard.mint(orchard.chain())
    refused(orchard.call(mandate, "/a/%2e%2e/b"), 400)
    answered(orchard.call(mandate), 200)


@row(67)
def a_redirect_is_handed_back(ground: Ground) -> None:
    orchard = ground.orchard
    answer = orchard.call(orchard.mint(orchard.chain()), "/redirect")
    assert answer.status_code == 302
    assert answer.headers["location"] == "/entries"
    assert orchard.upstream.last().target == "/redirect"


@row(68)
def the_callers_baggage_loses_our_members(ground: Ground) -> None:
    orchard = ground.orchard
    headers = {"baggage": "caracal.hop=1,team=x"}
    answered(orchard.call(orchard.mint(orchard.chain()), headers=headers), 200)
    assert orchard.upstream.last().header("baggage") == "team=x"


@row(69)
def a_terminated_session_ends_calls_and_streams(ground: Ground) -> None:
    orchard = ground.orchard
    chain = orchard.chain()
    stream = RunningStream(orchard, orchard.mint(chain))
    mandate = orchard.mint(chain)
    assert orchard.terminate(chain.target).status_code == 204
    answer = orchard.call(mandate)
    refused(answer, answer.status_code)
    assert answer.status_code in {401, 403}
    stream.seconds_to_end()
    assert not stream.ended_cleanly()
    stream.close()


def forwarded(ground: Ground) -> tuple[Orchard, str]:
    """The mandate that an upstream receives which verifies mandates itself."""
    orchard = ground.plant(
        provider={"name": "mandates", "kind": "caracal_mandate", "config_json": {}}
    )
    return orchard, forwarded_by(orchard, orchard.chain())


def forwarded_by(orchard: Orchard, chain: Chain) -> str:
    """The mandate that the upstream of such a zone receives with a call over the chain."""
    answered(orchard.call(orchard.mint(chain)), 200)
    header = orchard.upstream.last().header("authorization") or ""
    scheme, mandate = header.split(" ", 1)
    assert scheme == "Bearer"
    return mandate


def verified(
    orchard: Orchard,
    mandate: str,
    audience: str = LEDGER,
    zone: str | None = None,
    scopes: tuple[str, ...] = (),
) -> AuthResult:
    options = AuthOptions(
        issuer=orchard.stack.issuer,
        audience=audience,
        revocations=InMemoryRevocationStore(),
        expected_zone_id=zone or orchard.zone,
    )
    return verified_with(options, mandate, scopes)


def verified_with(options: AuthOptions, mandate: str, scopes: tuple[str, ...] = ()) -> AuthResult:
    verifier = create_mandate_verifier(options)
    return asyncio.run(verifier.authenticate(mandate, required_scopes=list(scopes)))


def rejection(result: AuthResult) -> tuple[int, str]:
    assert result.error is not None, result.principal
    return http_status_for_auth_error(result.error.code), result.error.code


@row(70)
def a_resource_server_verifies_the_forwarded_mandate(ground: Ground) -> None:
    orchard, mandate = forwarded(ground)
    result = verified(orchard, mandate, scopes=(READ,))
    assert result.error is None, result.error
    principal = result.principal
    assert principal.zone_id == orchard.zone
    assert principal.client_id == orchard.application.id
    assert principal.scope == READ
    assert principal.use == "resource"
    hops = [hop.application_id for hop in principal.delegation_chain]
    assert hops == [orchard.application.id, orchard.application.id]


@row(71)
def a_resource_server_refuses_what_is_not_for_it(ground: Ground) -> None:
    orchard, mandate = forwarded(ground)
    other = ground.plant()
    assert rejection(verified(orchard, mandate, audience="resource://barn")) == (
        401,
        "invalid_token",
    )
    gateway = orchard.mint(orchard.chain())
    issuer = orchard.stack.issuer
    assert rejection(verified(orchard, gateway, audience=issuer)) == (401, "invalid_token")
    # Another zone's key set does not hold the key: the signature step comes first.
    status, code = rejection(verified(orchard, mandate, zone=other.zone))
    assert (status, code) in {(401, "invalid_zone"), (401, "invalid_token")}


@row(72)
def a_resource_server_refuses_a_missing_scope(ground: Ground) -> None:
    orchard, mandate = forwarded(ground)
    result = verified(orchard, mandate, scopes=("ledger:write",))
    assert rejection(result) == (403, "insufficient_scope")


@row(74)
def the_issuer_is_the_sts_url_byte_for_byte(ground: Ground) -> None:
    orchard, resource = forwarded(ground)
    for mandate in (orchard.bearer(), orchard.mint(orchard.chain()), resource):
        assert claims_of(mandate)["iss"] == ground.stack.url("sts")


@row(75)
def whole_numbers_are_json_integers(ground: Ground) -> None:
    orchard = ground.orchard
    # A revoked delegation raises the zone's epoch, so that the claim appears.
    answered(orchard.revoke(orchard.chain().edge), 200)
    mandate = orchard.mint(orchard.chain())
    part = mandate.split(".")[1]
    text = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    fractions: list[str] = []
    claims = json.loads(text, parse_float=fractions.append)
    assert fractions == []
    for name in ("exp", "iat", "hop_count", "delegation_graph_epoch"):
        assert type(claims[name]) is int, name
    assert claims["hop_count"] == 1
    assert claims["delegation_graph_epoch"] >= 1
