"""Streams for outside consumers: the published Redis backend, fed by ours, refuses what was revoked at
resource servers that know neither our database nor our Gateway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis
from caracalai_revocation_redis import (
    DELEGATION_INVALIDATION_STREAM,
    REVOCATION_STREAM,
    RedisDelegationInvalidationConsumer,
    RedisRevocationConsumer,
    RedisRevocationStore,
)
from caracalai_verify import AuthOptions, AuthResult

from answers import answered, claims_of, eventually
from apart import Apart
from orchard import LEDGER, READ, Chain, Orchard
from rows_gateway import forwarded_by, verified_with

apart_only = pytest.mark.only("apart", "the embedded stack has no streams for others")


@dataclass
class Backend:
    """What a resource server runs beside itself."""

    client: redis.Redis
    store: RedisRevocationStore
    consumers: list[RedisRevocationConsumer]

    @classmethod
    def of(cls, stack: Apart) -> Backend:
        client = redis.Redis.from_url(stack.servers.redis_url)
        store = RedisRevocationStore(client)
        key = bytes.fromhex(stack.secret("streamsHmacKey"))
        consumers = [
            kind(client, store, "server-1", block_ms=10, stream_hmac_key=key)
            for kind in (RedisRevocationConsumer, RedisDelegationInvalidationConsumer)
        ]
        for consumer in consumers:
            consumer.ensure_group()
        return cls(client, store, consumers)

    def poll(self) -> None:
        for consumer in self.consumers:
            consumer.poll_once()

    def dead(self, stream: str) -> list[dict[bytes, bytes]]:
        return [fields for _, fields in self.client.xrange(f"{stream}.dead")]


@pytest.fixture
def backend(stack: Apart) -> Iterator[Backend]:
    backend = Backend.of(stack)
    yield backend
    backend.client.close()


def verdict(orchard: Orchard, backend: Backend, mandate: str) -> AuthResult:
    return verified_with(
        AuthOptions(
            issuer=orchard.stack.issuer,
            audience=LEDGER,
            revocations=backend.store,
            expected_zone_id=orchard.zone,
        ),
        mandate,
    )


def refuses(orchard: Orchard, backend: Backend, mandate: str) -> bool:
    backend.poll()
    return verdict(orchard, backend, mandate).error is not None


@apart_only
def test_a_resource_server_refuses_a_descendant_of_what_was_revoked(plant, backend: Backend) -> None:
    orchard = plant(provider={"name": "mandates", "kind": "caracal_mandate", "config_json": {}})
    first = orchard.chain(constraints={"resources": [LEDGER], "max_hops": 2})
    third = orchard.start()
    below = Chain(first.target, third, orchard.delegate(first.target, third, ttl_seconds=300))
    mandate = forwarded_by(orchard, below)
    backend.poll()
    assert verdict(orchard, backend, mandate).error is None

    answered(orchard.revoke(first.edge), 200)
    eventually(lambda: refuses(orchard, backend, mandate), "the refusal of the descendant")
    fresh = forwarded_by(orchard, orchard.chain())
    assert verdict(orchard, backend, fresh).error is None


@apart_only
def test_a_resource_server_refuses_a_terminated_session_and_no_other(
    plant, backend: Backend
) -> None:
    orchard = plant(provider={"name": "mandates", "kind": "caracal_mandate", "config_json": {}})
    ended, other = orchard.chain(), orchard.chain()
    mandates = {"ended": forwarded_by(orchard, ended), "other": forwarded_by(orchard, other)}
    assert orchard.terminate(ended.target).status_code == 204
    eventually(lambda: refuses(orchard, backend, mandates["ended"]), "the refusal")
    assert verdict(orchard, backend, mandates["other"]).error is None
    assert claims_of(mandates["ended"])["zone_id"] == orchard.zone


@apart_only
def test_every_message_is_signed_and_a_changed_one_is_set_aside(
    orchard: Orchard, backend: Backend
) -> None:
    chain = orchard.chain([READ])
    answered(orchard.revoke(chain.edge), 200)

    def ours(stream: str) -> dict[bytes, bytes] | None:
        messages = [fields for _, fields in backend.client.xrange(stream)]
        return next((m for m in messages if m[b"zone_id"] == orchard.zone.encode()), None)

    for stream in (REVOCATION_STREAM, DELEGATION_INVALIDATION_STREAM):
        message = eventually(lambda: ours(stream), f"our message on {stream}")
        backend.poll()
        before = backend.dead(stream)
        assert [m for m in before if orchard.zone.encode() in m[b"payload"]] == []
        backend.client.xadd(stream, {**message, b"zone_id": b"another"})
        backend.poll()
        added = backend.dead(stream)[len(before) :]
        assert [m[b"reason"] for m in added] == [b"invalid_signature"]
