"""Once a revocation is answered, nothing that rested on the old state works: not the next mint, not
the next call with a mandate made before, and a running stream is cut.

`CARACAL_REVOCATION_ROUNDS` sets the number of rounds; releases run 1000.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import pytest
from caracalai_admin import author_grants_document

from answers import answered
from orchard import READ, Chain, Orchard
from streaming import RunningStream

ROUNDS = int(os.environ.get("CARACAL_REVOCATION_ROUNDS", "1000"))
STREAMS = 20
STREAM_END_SECONDS = 0.100

Plant = Callable[..., Orchard]
Revoke = Callable[[Orchard, Chain], httpx.Response]


def revoke_delegation(orchard: Orchard, chain: Chain) -> httpx.Response:
    return orchard.revoke(chain.edge)


def terminate_session(orchard: Orchard, chain: Chain) -> httpx.Response:
    return orchard.terminate(chain.target)


def suspend_session(orchard: Orchard, chain: Chain) -> httpx.Response:
    return orchard.suspend(chain.target)


def archive_application(orchard: Orchard, chain: Chain) -> httpx.Response:
    return orchard.administer("DELETE", f"/applications/{orchard.application.id}")


@dataclass
class Switch:
    """The same policy set with the grants and without them."""

    orchard: Orchard
    policy_set: str
    granting: str
    empty: str

    @classmethod
    def of(cls, orchard: Orchard) -> Switch:
        admin, zone = orchard.admin, orchard.zone
        policy_set = admin.policy_sets.list(zone)[0]
        policy = admin.policies.list(zone)[0]["id"]
        version = admin.policies.add_version(zone, policy, author_grants_document([]))["version_id"]
        manifest = [{"policy_version_id": version}]
        empty = admin.policy_sets.add_version(zone, policy_set["id"], manifest)["version_id"]
        return cls(orchard, policy_set["id"], policy_set["active_version_id"], empty)

    def activate(self, version: str) -> httpx.Response:
        path = f"/policy-sets/{self.policy_set}/activate"
        return self.orchard.administer("POST", path, json={"version_id": version})


@dataclass
class Field:
    """Zones to revoke in. A round gets a zone, and how its authority ends."""

    plant: Plant
    lasting: Orchard
    switch: Switch

    @classmethod
    def of(cls, plant: Plant) -> Field:
        return cls(plant, plant(), Switch.of(plant()))

    def round(self, number: int) -> tuple[str, Orchard, Revoke]:
        return (
            lambda: ("delegation revoke", self.lasting, revoke_delegation),
            lambda: ("session terminate", self.lasting, terminate_session),
            lambda: ("session suspend", self.lasting, suspend_session),
            lambda: ("application archive", self.plant(), archive_application),
            self._activation,
        )[number % 5]()

    def _activation(self) -> tuple[str, Orchard, Revoke]:
        answered(self.switch.activate(self.switch.granting), 202)
        return (
            "policy activation",
            self.switch.orchard,
            lambda _orchard, _chain: self.switch.activate(self.switch.empty),
        )


def test_nothing_succeeds_after_a_revocation_is_answered(plant: Plant) -> None:
    field = Field.of(plant)
    successes: list[str] = []
    for number in range(ROUNDS):
        kind, orchard, revoke = field.round(number)
        chain = orchard.chain()
        used, held = orchard.mint(chain), orchard.mint(chain)
        answered(orchard.call(used), 200)

        revoked = revoke(orchard, chain)
        mint = orchard.mint_answer(chain)
        call = orchard.call(held)

        assert revoked.is_success, f"{kind}: {revoked.status_code} {revoked.text}"
        for what, answer in (("mint", mint), ("call", call)):
            # Any other refusal would hide whether the authority has ended.
            if answer.status_code not in {401, 403}:
                successes.append(
                    f"round {number}, {kind}, {what}: {answer.status_code} {answer.text}"
                )
    assert successes == []


def test_a_suspension_is_undone_by_resuming(orchard: Orchard) -> None:
    chain = orchard.chain()
    held = orchard.mint(chain)
    answered(orchard.suspend(chain.target), 200)
    assert orchard.mint_answer(chain).status_code == 403
    answered(orchard.operate("PATCH", f"/agents/{chain.target}/resume"), 200)
    answered(orchard.call(held), 200)
    answered(orchard.call(orchard.mint(chain)), 200)


def test_a_revocation_reaches_every_descendant(orchard: Orchard) -> None:
    first = orchard.chain(constraints={"resources": ["resource://ledger"], "max_hops": 2})
    third = orchard.start()
    edge = orchard.delegate(first.target, third, [READ], ttl_seconds=300)
    below = Chain(first.target, third, edge)
    held = orchard.mint(below)
    answered(orchard.revoke(first.edge), 200)
    assert orchard.mint_answer(below).status_code == 403
    assert orchard.call(held).status_code in {401, 403}


def test_a_revocation_leaves_others_alone(orchard: Orchard) -> None:
    ended, other = orchard.chain(), orchard.chain()
    held = orchard.mint(other)
    stream = RunningStream(orchard, orchard.mint(other))
    answered(orchard.revoke(ended.edge), 200)
    answered(orchard.call(held), 200)
    answered(orchard.call(orchard.mint(other)), 200)
    with pytest.raises(TimeoutError):
        stream.seconds_to_end(deadline=0.3)
    stream.close()


def test_a_running_stream_is_cut_at_once_and_visibly(plant: Plant) -> None:
    field = Field.of(plant)
    late: list[str] = []
    for number in range(STREAMS):
        kind, orchard, revoke = field.round(number)
        chain = orchard.chain()
        stream = RunningStream(orchard, orchard.mint(chain))
        revoked = revoke(orchard, chain)
        seconds = stream.seconds_to_end()
        assert revoked.is_success, f"{kind}: {revoked.status_code} {revoked.text}"
        assert not stream.ended_cleanly(), f"round {number}, {kind}: the body looks whole"
        if seconds > STREAM_END_SECONDS:
            late.append(f"round {number}, {kind}: {seconds * 1000:.0f} ms")
        stream.close()
        assert orchard.upstream.streams_ended.acquire(timeout=5), (
            f"{kind}: the upstream still sends"
        )
    assert late == []
