"""Making the database and its owner, as a superuser and as a managed server's administrator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from subprocess import CompletedProcess

import pytest
from place import INFRA, run
from testbed import Postgres

CREATE = INFRA / "postgres/create-database.sql"
PASSWORD = "5f0c1a9d2e7b4c6f"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    running = Postgres()
    yield running
    running.close()


@pytest.fixture
def postgres(server: Postgres) -> Iterator[Postgres]:
    """The server, before and after without what the tests make."""
    yield server
    for statement in (
        "DROP DATABASE IF EXISTS caracal WITH (FORCE)",
        "DROP ROLE IF EXISTS caracal",
        "DROP ROLE IF EXISTS cloudadmin",
    ):
        one(server.superuser_url, statement)


def psql(url: str, *arguments: str, **variables: str) -> CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **variables}
    return run("psql", "-X", "-q", "-A", "-t", url, *arguments, env=environment)


def create(url: str, password: str = PASSWORD) -> CompletedProcess[str]:
    return psql(url, "-f", str(CREATE), CARACAL_OWNER_PASSWORD=password)


def one(url: str, sql: str) -> str:
    done = psql(url, "-v", "ON_ERROR_STOP=1", "-c", sql)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_owner_is_no_superuser_and_owns_its_database(postgres: Postgres) -> None:
    done = create(postgres.superuser_url)
    assert done.returncode == 0, done.stderr
    attributes = (
        "SELECT rolsuper, rolbypassrls, rolreplication, rolcreatedb, rolcreaterole, rolcanlogin "
        "FROM pg_roles WHERE rolname = 'caracal'"
    )
    assert one(postgres.superuser_url, attributes) == "f|f|f|f|t|t"
    owner = "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'caracal'"
    assert one(postgres.superuser_url, owner) == "caracal|UTF8"
    assert one(postgres.url("caracal", PASSWORD, "caracal"), "CREATE SCHEMA s; SELECT 1") == "1"


def test_an_administrator_without_superuser_can_do_it(postgres: Postgres) -> None:
    one(postgres.superuser_url, "CREATE ROLE cloudadmin LOGIN CREATEROLE CREATEDB PASSWORD 'x'")
    admin = postgres.url("cloudadmin", "x", "postgres")
    done = create(admin)
    assert done.returncode == 0, done.stderr
    assert one(postgres.url("caracal", PASSWORD, "caracal"), "SELECT current_user") == "caracal"


def test_running_it_again_changes_the_password_and_keeps_the_data(postgres: Postgres) -> None:
    assert create(postgres.superuser_url).returncode == 0
    one(postgres.url("caracal", PASSWORD, "caracal"), "CREATE TABLE kept AS SELECT 1 AS n")
    assert create(postgres.superuser_url, "another").returncode == 0
    assert one(postgres.url("caracal", "another", "caracal"), "SELECT n FROM kept") == "1"


def test_without_a_password_nothing_is_made(postgres: Postgres) -> None:
    done = create(postgres.superuser_url, "")
    assert done.returncode != 0
    assert "CARACAL_OWNER_PASSWORD is not set" in done.stderr
    assert (
        one(postgres.superuser_url, "SELECT count(*) FROM pg_roles WHERE rolname = 'caracal'")
        == "0"
    )


def test_a_password_with_quotes_is_a_password(postgres: Postgres) -> None:
    done = create(postgres.superuser_url, "it's; DROP")
    assert done.returncode == 0, done.stderr
