"""The Compose stack without containers: its secrets, its database, its Redis, each role's environment
as the Compose file gives it, and a governed call through all of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from composition import DIRECTORY, load, secrets_of
from place import BINARY, INFRA, PORTS, ROLES, run, succeed
from redis_server import Client, Server, free_port
from testbed import Postgres

START_SECONDS = 60


class Stack:
    def __init__(self, directory: Path, postgres: Postgres) -> None:
        self.directory = directory
        self.secrets = directory / "secrets"
        self.postgres = postgres
        self.services = load()["services"]
        self.ports = {role: free_port() for role in ROLES}
        self.processes: dict[str, subprocess.Popen] = {}
        succeed(DIRECTORY / "init", "--postgres", postgres.place, self.secrets)
        self.redis = Server(directory / "redis", self.secrets)
        # Redis has its port only now; init writes the URL anew and keeps the passwords.
        places = ["--postgres", postgres.place, "--redis", f"127.0.0.1:{self.redis.port}"]
        succeed(DIRECTORY / "init", *places, self.secrets)
        owner = {
            **os.environ,
            "CARACAL_OWNER_PASSWORD": (self.secrets / "ownerDbPassword").read_text(),
        }
        create = INFRA / "postgres/create-database.sql"
        succeed("psql", "-X", "-q", postgres.superuser_url, "-f", create, env=owner)

    def environment(self, name: str) -> dict[str, str]:
        """What the Compose file gives the service, at this machine's places."""
        service = self.services[name]
        mounted = secrets_of(service)
        given = {"PATH": os.environ["PATH"], "HOME": str(self.directory / name)}
        for variable, value in service["environment"].items():
            value = str(value)
            if value.startswith("/run/secrets/"):
                value = str(self.secrets / mounted[value.removeprefix("/run/secrets/")])
            if variable == "AUDIT_REPLAY_DIR":
                value = str(self.directory / name / "audit-replay")
            for role, port in PORTS.items():
                value = value.replace(f"http://{role}:{port}", self.url(role))
                value = value.replace(f"http://localhost:{port}", self.url(role))
            given[variable] = value
        if name in ROLES:
            given[f"CARACAL_{name.upper()}_LISTEN"] = f"127.0.0.1:{self.ports[name]}"
        Path(given["HOME"]).mkdir(exist_ok=True)
        return given

    def url(self, role: str) -> str:
        return f"http://localhost:{self.ports[role]}"

    def migrate(self) -> str:
        command = self.services["migrate"]["command"]
        return succeed(BINARY, *command, env=self.environment("migrate"))

    def start(self, role: str) -> None:
        log = (self.directory / f"{role}.log").open("ab")
        self.processes[role] = subprocess.Popen(
            [str(BINARY), *self.services[role]["command"]],
            env=self.environment(role),
            cwd=self.directory / role,
            stdout=log,
            stderr=log,
        )

    def wait(self, role: str) -> None:
        """Asks as the container's health check does."""
        check = self.services[role]["healthcheck"]["test"][2:]
        deadline = time.monotonic() + START_SECONDS
        while (asked := run(BINARY, *check, env=self.environment(role))).returncode != 0:
            ended = self.processes[role].poll()
            log = (self.directory / f"{role}.log").read_text()[-3000:]
            assert ended is None, f"{role} ended with {ended}:\n{log}"
            assert time.monotonic() < deadline, f"{asked.stdout}{asked.stderr}\n{log}"
            time.sleep(0.3)

    def stop(self, role: str) -> int:
        process = self.processes.pop(role)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return -signal.SIGKILL

    def close(self) -> None:
        for role in list(self.processes):
            self.stop(role)
        self.redis.close()

    def sql(self, secret: str, statement: str) -> subprocess.CompletedProcess[str]:
        url = (self.secrets / secret).read_text().strip()
        return run("psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", url, "-c", statement)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    postgres = Postgres()
    try:
        made = Stack(tmp_path_factory.mktemp("stack"), postgres)
        try:
            made.migrate()
            for role in ROLES:
                made.start(role)
            for role in ROLES:
                made.wait(role)
            yield made
        finally:
            made.close()
    finally:
        postgres.close()


def test_a_governed_call_passes_through_the_stack(stack: Stack) -> None:
    urls = [f"--{role}-url={stack.url(role)}" for role in ("api", "sts", "coordinator", "gateway")]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(stack.directory),
        "CARACAL_ADMIN_TOKEN_FILE": str(stack.secrets / "caracalAdminToken"),
        "AUDIT_ADMIN_TOKEN_FILE": str(stack.secrets / "auditAdminToken"),
        "CARACAL_AUDIT_URL": stack.url("audit"),
    }
    # For five seconds after a Redis is first seen no mandate passes, and evidence is read a moment
    # after it is written.
    deadline = time.monotonic() + START_SECONDS
    while True:
        tour = run(BINARY, "quickstart", "--json", *urls, env=environment, timeout=120)
        if tour.returncode == 0:
            break
        assert time.monotonic() < deadline, f"{tour.stdout}\n{tour.stderr}"
        time.sleep(1)
    assert json.loads(tour.stdout)["ok"] is True


def test_redis_refused_no_command_of_a_role(stack: Stack) -> None:
    admin = Client(stack.redis.port, "admin", (stack.secrets / "redisAdminPassword").read_text())
    denied = admin("ACL", "LOG")
    admin.close()
    assert denied == []


def test_migrating_again_changes_nothing(stack: Stack) -> None:
    plan = run(BINARY, "migrate", "--plan", env=stack.environment("migrate"))
    assert plan.returncode == 0, plan.stdout + plan.stderr
    stack.migrate()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_logs_in_as_itself_and_is_no_superuser(role: str, stack: Stack) -> None:
    said = stack.sql(
        f"{role}DatabaseUrl",
        "SELECT session_user, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb "
        "FROM pg_roles WHERE rolname = session_user",
    )
    assert said.stdout.strip() == f"caracal{role}|f", said.stderr


def test_a_role_may_not_do_what_another_may(stack: Stack) -> None:
    refused = {
        "gatewayDatabaseUrl": "SELECT sealed_config FROM caracal.providers",
        "stsDatabaseUrl": "INSERT INTO caracal.audit_keys VALUES (9, '', '', 0)",
        "auditDatabaseUrl": "SELECT 1 FROM caracal.admin_tokens",
        "apiDatabaseUrl": "DROP TABLE caracal.zones",
        "coordinatorDatabaseUrl": "SET ROLE caracalapi",
    }
    for secret, statement in refused.items():
        done = stack.sql(secret, statement)
        assert done.returncode != 0, f"{secret}: {statement}"
        assert "permission denied" in done.stderr or "must be owner" in done.stderr, done.stderr


def test_without_a_zone_no_row_is_seen(stack: Stack) -> None:
    for secret in ("apiDatabaseUrl", "databaseUrl"):
        assert stack.sql(secret, "SELECT count(*) FROM caracal.zones").stdout.strip() == "0"


def test_the_owner_finds_its_rows_as_the_page_says(stack: Stack) -> None:
    done = stack.sql(
        "databaseUrl", "BEGIN; SET LOCAL caracal.zone = '*'; SELECT count(*) FROM caracal.zones"
    )
    assert int(done.stdout.strip()) > 0


def test_each_role_stops_when_it_is_asked_to(stack: Stack) -> None:
    ended = {role: stack.stop(role) for role in ROLES}
    assert ended == dict.fromkeys(ROLES, 0)
