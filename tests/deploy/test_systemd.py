"""The units for a host without containers."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from composition import load, secrets_of
from place import BINARY, INFRA, ROLES, run, succeed

UNITS = INFRA / "systemd"
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="this system has no systemd-analyze")


def settings(path: Path) -> dict[str, list[str]]:
    """Each setting of a unit file with its values, in order."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


def assignments(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", path.read_text(), re.M))


def drop_in(role: str) -> dict[str, list[str]]:
    return settings(UNITS / f"caracal@{role}.service.d/secrets.conf")


def credentials(of: dict[str, list[str]]) -> dict[str, str]:
    """Credential -> the file that it is a copy of."""
    return dict(entry.split(":") for entry in of["LoadCredential"])


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root directory with the units installed, an instance for each role."""
    root = tmp_path_factory.mktemp("host")
    directory = root / "etc/systemd/system"
    shutil.copytree(UNITS, directory)
    for role in ROLES:
        (directory / f"caracal@{role}.service").symlink_to("caracal@.service")
    program = root / "usr/local/bin/caracal"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for target in ("network-online", "sysinit", "basic", "shutdown", "multi-user"):
        (directory / f"{target}.target").write_text("[Unit]\n")
    return root


@needs_systemd
def test_systemd_finds_no_fault_in_the_units(host: Path) -> None:
    directory = host / "etc/systemd/system"
    units = [directory / f"caracal@{role}.service" for role in ROLES]
    units += [directory / "caracal-migrate.service", directory / "caracal.target"]
    done = run(ANALYZE, "verify", "--man=no", f"--root={host}", *units)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "caracal" in line]
    assert said == []
    assert done.returncode == 0, done.stderr


@needs_systemd
@pytest.mark.parametrize("unit", ["caracal@.service", "caracal-migrate.service"])
def test_systemd_finds_little_exposed(unit: str) -> None:
    # Tenths; a service without any of it scores 96.
    done = run(ANALYZE, "security", "--offline=yes", "--threshold=15", UNITS / unit)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("role", ROLES)
def test_a_role_gets_the_secrets_that_its_container_gets(role: str) -> None:
    assert credentials(drop_in(role)) == {
        target: f"/etc/caracal/secrets/{source}"
        for target, source in secrets_of(load()["services"][role]).items()
    }


def test_the_migration_gets_the_secrets_that_its_container_gets() -> None:
    unit = settings(UNITS / "caracal-migrate.service")
    service = load()["services"]["migrate"]
    mounted = secrets_of(service)
    assert credentials(unit) == {name: f"/etc/caracal/secrets/{name}" for name in mounted}
    named = dict(entry.split("=", 1) for entry in unit["Environment"])
    for variable, place in service["environment"].items():
        if variable.endswith("_FILE"):
            assert named[variable] == place.replace("/run/secrets/", "%d/")


@pytest.mark.parametrize("role", ROLES)
def test_the_binary_accepts_the_roles_configuration(role: str, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    succeed(INFRA / "compose/init", "--private", "--postgres", "127.0.0.1:5432", secrets)
    files = credentials(drop_in(role))

    def expand(value: str) -> str:
        value = value.replace("%i", role)
        return re.sub(r"^%d/(.*)$", lambda found: str(secrets / Path(files[found[1]]).name), value)

    unit = settings(UNITS / "caracal@.service")
    given = dict(
        entry.split("=", 1) for entry in unit["Environment"] + drop_in(role)["Environment"]
    )
    environment = assignments(UNITS / "caracal.env.example") | given
    environment = {name: expand(value) for name, value in environment.items()}
    assert not [value for value in environment.values() if "%" in value]
    environment["PATH"] = os.environ["PATH"]
    printed = succeed(BINARY, "config", "print", "--roles", role, env=environment)
    assert "CARACAL_MODE=stable" in printed


def test_the_shared_file_holds_only_variables_and_no_secret(schema: list[dict]) -> None:
    rows = {row["name"]: row for row in schema}
    text = (UNITS / "caracal.env.example").read_text()
    for name in re.findall(r"^#?([A-Z_]+)=", text, re.M):
        assert name in rows
        assert not rows[name]["secret"]


def test_evidence_is_kept_in_the_directory_that_systemd_keeps() -> None:
    unit = settings(UNITS / "caracal@.service")
    assert unit["StateDirectory"] == ["caracal/%i"]
    for role in ("sts", "gateway", "api"):
        assert "AUDIT_REPLAY_DIR=/var/lib/caracal/%i/audit-replay" in drop_in(role)["Environment"]
