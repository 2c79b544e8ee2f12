"""The chart's pods without a cluster: the Secret, the migration and every role as the manifests have
them, with exactly their arguments, environment and files; what a kubelet asks; and a governed call."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from chart import (
    PREFIX,
    container,
    environment,
    named,
    pods,
    render,
    secret_files,
    values,
)
from place import BINARY, INFRA, PORTS, ROLES, run, succeed
from redis_server import Server, free_port
from testbed import Postgres

START_SECONDS = 60
REDIS_USERS = (
    "user default on >{password} ~* &* +@all\nuser probe on nopass resetchannels -@all +ping\n"
)


def key(number: int) -> str:
    return f"{number:02x}5ad3f8" * 8


PLAINTEXT = {
    "postgresPassword": "owner-password", "redisPassword": "cache-password", "caracalAdminToken": key(1),
    "caracalCoordinatorToken": key(2), "metricsBearer": key(3), "secretStoreKek": key(4),
    "auditHmacKey": key(5), "streamsHmacKey": key(6), "gatewayStsHmacKey": key(7), "auditAdminToken": key(8),
}  # fmt: skip


class Cluster:
    """One replica of each role of a release, on this machine."""

    def __init__(self, directory: Path, postgres: Postgres) -> None:
        self.directory = directory
        self.ports = {role: free_port() for role in ROLES}
        self.operations = {role: free_port() for role in ROLES}
        self.processes: dict[str, subprocess.Popen] = {}
        users = directory / "redis-users"
        users.mkdir()
        (users / "redisUsers.acl").write_text(
            REDIS_USERS.format(password=PLAINTEXT["redisPassword"])
        )
        self.redis = Server(directory / "redis", users)
        owner = {**os.environ, "CARACAL_OWNER_PASSWORD": PLAINTEXT["postgresPassword"]}
        create = INFRA / "postgres/create-database.sql"
        succeed("psql", "-X", "-q", postgres.superuser_url, "-f", create, env=owner)
        host, port = postgres.place.split(":")
        objects = render(
            values(
                "values.rc.yaml",
                global__evaluation=True,
                secrets__create=True,
                secrets__plaintext=PLAINTEXT,
                secrets__database={"host": host, "port": int(port), "sslMode": "disable"},
                secrets__redis={"host": "127.0.0.1", "port": self.redis.port},
                secrets__auditAdminToken__secretName="caracal-runtime",
            )
        )
        self.templates = pods(objects)
        self.secret = named(objects, "Secret", "caracal-runtime")["stringData"]

    def files(self, name: str) -> Path:
        """/run/secrets of the pod."""
        place = self.directory / name / "secrets"
        place.mkdir(parents=True, exist_ok=True)
        for path, (_, secret) in secret_files(self.templates[name]).items():
            (place / path).write_text(self.secret[secret])
        return place

    def environment(self, name: str) -> dict[str, str]:
        given = {"PATH": os.environ["PATH"], "HOME": str(self.directory / name)}
        for variable, value in environment(self.templates[name]).items():
            value = value.replace("/run/secrets", str(self.files(name)))
            value = value.replace("/var/lib/caracal", str(self.directory / name))
            for role, port in PORTS.items():
                value = value.replace(f"http://{PREFIX}-{role}:{port}", self.url(role))
            given[variable] = value
        if name in ROLES:
            # A cluster gives each pod an address; here each has ports of its own.
            given["HOST"] = "127.0.0.1"
            given["CARACAL_OPS_PORT"] = str(self.operations[name])
            given[f"CARACAL_{name.upper()}_LISTEN"] = f"127.0.0.1:{self.ports[name]}"
        return given

    def url(self, role: str) -> str:
        return f"http://localhost:{self.ports[role]}"

    def migrate(self) -> str:
        own = container(self.templates["migrate"])
        return succeed(BINARY, *own["args"], env=self.environment("migrate"))

    def start(self, role: str) -> None:
        told = self.environment(role)
        log = (self.directory / f"{role}.log").open("ab")
        self.processes[role] = subprocess.Popen(
            [str(BINARY), *container(self.templates[role])["args"]],
            env=told,
            cwd=self.directory / role,
            stdout=log,
            stderr=log,
        )

    def ask(self, role: str, path: str, port: int | None = None, bearer: str = "") -> int:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        address = f"http://127.0.0.1:{port or self.operations[role]}{path}"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(address, headers=headers), timeout=5
            ) as answer:
                return answer.status
        except urllib.error.HTTPError as refused:
            return refused.code
        except OSError:
            return 0

    def probe(self, role: str, name: str) -> None:
        """Asks as the kubelet does, until the answer is good."""
        asked = container(self.templates[role])[name]["httpGet"]
        assert asked["port"] == "ops"
        deadline = time.monotonic() + START_SECONDS
        while (status := self.ask(role, asked["path"])) != 200:
            ended = self.processes[role].poll()
            log = (self.directory / f"{role}.log").read_text()[-3000:]
            assert ended is None, f"{role} ended with {ended}:\n{log}"
            assert time.monotonic() < deadline, f"{name} of {role}: {status}\n{log}"
            time.sleep(0.3)

    def stop(self, role: str) -> tuple[int, float]:
        """Exit code and seconds."""
        process = self.processes.pop(role)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout=40), time.monotonic() - began
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return -signal.SIGKILL, time.monotonic() - began

    def close(self) -> None:
        for role in list(self.processes):
            self.stop(role)
        self.redis.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    postgres = Postgres()
    try:
        made = Cluster(tmp_path_factory.mktemp("cluster"), postgres)
        try:
            made.migrate()
            for role in ROLES:
                made.start(role)
            for role in ROLES:
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    made.probe(role, probe)
            yield made
        finally:
            made.close()
    finally:
        postgres.close()


@pytest.mark.parametrize("role", ROLES)
def test_metrics_are_for_the_bearer_and_on_the_operations_port_alone(
    role: str, cluster: Cluster
) -> None:
    assert cluster.ask(role, "/metrics") == 401
    assert cluster.ask(role, "/metrics", bearer="wrong") in (401, 403)
    assert cluster.ask(role, "/metrics", bearer=PLAINTEXT["metricsBearer"]) == 200
    for path in ("/metrics", "/ready", "/health"):
        status = cluster.ask(role, path, cluster.ports[role], PLAINTEXT["metricsBearer"])
        assert 400 <= status < 500, f"{path}: {status}"


def test_a_governed_call_passes_and_its_evidence_is_found(cluster: Cluster) -> None:
    urls = [
        f"--{role}-url={cluster.url(role)}" for role in ("api", "sts", "coordinator", "gateway")
    ]
    told = {
        "PATH": os.environ["PATH"],
        "HOME": str(cluster.directory),
        "CARACAL_ADMIN_TOKEN": PLAINTEXT["caracalAdminToken"],
        "AUDIT_ADMIN_TOKEN": PLAINTEXT["auditAdminToken"],
        "CARACAL_AUDIT_URL": cluster.url("audit"),
    }
    # For five seconds after a Redis is first seen no mandate passes.
    deadline = time.monotonic() + START_SECONDS
    while (
        tour := run(BINARY, "quickstart", "--json", *urls, env=told, timeout=120)
    ).returncode != 0:
        assert time.monotonic() < deadline, f"{tour.stdout}\n{tour.stderr}"
        time.sleep(1)
    assert json.loads(tour.stdout)["ok"] is True


def test_an_upgrade_migrates_again_while_the_roles_serve(cluster: Cluster) -> None:
    cluster.migrate()
    for role in ROLES:
        assert cluster.ask(role, "/ready") == 200


@pytest.mark.parametrize("role", ROLES)
def test_a_pod_that_is_ended_is_gone_in_time_and_its_successor_is_ready(
    role: str, cluster: Cluster
) -> None:
    spec = cluster.templates[role]["spec"]
    pause = container(cluster.templates[role])["lifecycle"]["preStop"]["sleep"]["seconds"]
    code, seconds = cluster.stop(role)
    assert code == 0
    assert seconds < spec["terminationGracePeriodSeconds"] - pause
    cluster.start(role)
    cluster.probe(role, "readinessProbe")
