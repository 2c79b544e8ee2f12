"""The Compose stack, as far as it can be judged without a container engine."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import compose_spec
import pytest
import yaml
from composition import DIRECTORY, load, seconds, secrets_of, variables_used
from place import BINARY, HOLDERS, INFRA, PORTS, REPOSITORY, ROLES, run, succeed

# What the stores beside the roles hold.
STORES_HOLD = {
    "redisUsers.acl": {"redis"},
    "postgresPassword": {"postgres"},
    "ownerDbPassword": {"postgres"},
}
KEEPS_EVIDENCE = ("sts", "gateway", "api")


@pytest.fixture(scope="module")
def compose() -> dict:
    return load()


@pytest.fixture(scope="module")
def services(compose: dict) -> dict[str, dict]:
    return compose["services"]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("stack") / "secrets"
    succeed(DIRECTORY / "init", directory)
    return directory


@pytest.mark.parametrize("name", ["compose.yaml", "compose.agents.yaml"])
def test_the_file_is_valid_compose_and_names_nothing_undefined(name: str, compose: dict) -> None:
    document = load(name)
    if name != "compose.yaml":
        document = {**document, "networks": compose["networks"]}
    parsed = compose_spec.PyCompose.from_yaml(yaml.safe_dump(document))
    parsed.validate()


def test_it_has_the_stores_the_migration_and_every_role(services: dict) -> None:
    assert services.keys() == {"postgres", "redis", "migrate", *ROLES}


def test_all_roles_are_one_image_told_apart_by_an_argument(services: dict) -> None:
    assert len({services[role]["image"] for role in (*ROLES, "migrate")}) == 1
    for role in ROLES:
        assert services[role]["command"] == ["serve", role]
    assert services["migrate"]["command"] == ["migrate"]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_gets_only_variables_that_it_reads(
    role: str, services: dict, variables: dict
) -> None:
    known = variables[role]
    from_files = {f"{name}_FILE" for name, row in known.items() if row["file"]}
    assert services[role]["environment"].keys() - known.keys() - from_files == set()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_gets_every_variable_that_it_needs(
    role: str, services: dict, variables: dict
) -> None:
    given = {name.removesuffix("_FILE") for name in services[role]["environment"]}
    needed = {n for n, row in variables[role].items() if row["need"].startswith("required")}
    assert needed - given == set()


@pytest.mark.parametrize("role", ROLES)
def test_the_binary_accepts_the_roles_configuration(
    role: str, services: dict, secrets: Path
) -> None:
    """Exactly what the container would see, with the secrets where the tests have them."""
    service = services[role]
    mounted = secrets_of(service)
    environment = {
        name: re.sub(
            r"^/run/secrets/(.*)$", lambda found: str(secrets / mounted[found[1]]), str(value)
        )
        for name, value in service["environment"].items()
    }
    environment = {"PATH": os.environ["PATH"], "HOME": "/", **environment}
    printed = succeed(BINARY, "config", "print", "--roles", role, env=environment)
    assert "CARACAL_MODE=stable" in printed
    assert "REDIS_URL=***" in printed


def test_no_secret_is_in_a_variable(services: dict, variables: dict) -> None:
    for role in ROLES:
        for name in services[role]["environment"]:
            secret = variables[role].get(name, {"secret": False})["secret"]
            assert not secret, f"{role}: {name} must be a file"
    for name in services["postgres"]["environment"]:
        assert "PASSWORD" not in name or name.endswith("_FILE")


def test_each_file_that_is_named_is_mounted_and_each_mounted_one_is_named(services: dict) -> None:
    for name in (*ROLES, "migrate"):
        service = services[name]
        named = {
            value.removeprefix("/run/secrets/")
            for key, value in service["environment"].items()
            if key.endswith("_FILE")
        }
        assert named == secrets_of(service).keys(), name


def test_each_secret_reaches_only_its_holders(services: dict) -> None:
    holders: dict[str, set[str]] = {}
    for name, service in services.items():
        for secret in secrets_of(service).values():
            holders.setdefault(secret, set()).add(name)
    assert holders == HOLDERS | STORES_HOLD


def test_init_makes_every_declared_secret(compose: dict, secrets: Path) -> None:
    for name, secret in compose["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
        assert (secrets / name).stat().st_size > 0
    undeclared = {path.name for path in secrets.iterdir()} - compose["secrets"].keys()
    assert undeclared == {"redisPassword", "redisAdminPassword"}
    told = (DIRECTORY / "secrets/README").read_text()
    for name in compose["secrets"]:
        assert name in told or name in {f"{r}DbPassword" for r in ROLES} | {
            f"{r}DatabaseUrl" for r in ROLES
        }


def test_init_keeps_what_exists_and_lets_nobody_else_in(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    succeed(DIRECTORY / "init", directory)
    before = {path.name: path.read_text() for path in directory.iterdir()}
    (directory / "metricsBearer").chmod(0o600)
    (directory / "metricsBearer").write_text("mine\n")
    said = succeed(DIRECTORY / "init", directory)
    after = {path.name: path.read_text() for path in directory.iterdir()}
    assert said == ""
    assert after == {**before, "metricsBearer": "mine\n"}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert len(set(before.values())) == len(before), "two secrets are the same"


def test_init_makes_files_for_systemd_that_only_root_reads(tmp_path: Path) -> None:
    places = ["--postgres", "db.internal:5432", "--redis", "cache.internal:6380"]
    succeed(DIRECTORY / "init", "--private", "--sslmode", "verify-full", *places, tmp_path / "s")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "s").iterdir()}
    assert modes == {0o600}
    url = (tmp_path / "s/stsDatabaseUrl").read_text()
    assert "@db.internal:5432/caracal?sslmode=verify-full" in url
    assert "@cache.internal:6380/0" in (tmp_path / "s/redisUrl").read_text()


def test_init_refuses_a_password_that_would_break_a_url(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    directory.mkdir()
    (directory / "stsDbPassword").write_text("p@ss/word\n")
    refused = run(DIRECTORY / "init", directory)
    assert refused.returncode == 1
    assert "stsDbPassword" in refused.stderr
    assert "p@ss" not in refused.stderr


def test_secrets_are_never_in_version_control() -> None:
    tracked = succeed("git", "ls-files", "infra/compose/secrets", cwd=REPOSITORY).split()
    assert {Path(name).name for name in tracked} == {".gitignore", "README"}


def test_no_password_is_written_anywhere(services: dict) -> None:
    for path in INFRA.rglob("*"):
        if path.is_file() and path.parent.name != "secrets":
            text = path.read_text()
            assert not re.search(
                r"(?i)(password|requirepass|secret)\s*[=:]\s*['\"]?[a-z0-9]{4,}['\"]?\s*$",
                text,
                re.M,
            ), path
    assert "POSTGRES_HOST_AUTH_METHOD" not in services["postgres"]["environment"]


@pytest.mark.parametrize("name", ["postgres", "redis", "migrate", *ROLES])
def test_a_container_has_no_privilege_and_a_bound_on_everything(name: str, services: dict) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    user, group = service["user"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    limits = service["deploy"]["resources"]["limits"]
    assert all(limits.values())
    assert limits.keys() == {"cpus", "memory", "pids"}
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    for mount in service.get("volumes", []):
        assert "docker.sock" not in mount


def test_the_roles_run_as_the_images_user(services: dict) -> None:
    dockerfile = (INFRA / "image/Dockerfile").read_text()
    for name in (*ROLES, "migrate"):
        assert f"USER {services[name]['user']}\n" in dockerfile


def test_only_what_clients_call_is_published_and_only_on_the_loopback(services: dict) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {
        role: [f"127.0.0.1:{PORTS[role]}:{PORTS[role]}"] for role in ("sts", "gateway", "api")
    }
    agents = load("compose.agents.yaml")["services"]
    assert agents["coordinator"]["ports"] == ["127.0.0.1:4000:4000"]


def test_the_stores_are_reached_by_the_roles_alone(compose: dict) -> None:
    assert compose["networks"]["stores"] == {"internal": True}
    assert compose["networks"]["roles"] == {"internal": True}
    for name in ("postgres", "redis", "migrate"):
        assert compose["services"][name]["networks"] == ["stores"]
    outside = {n for n, s in compose["services"].items() if "edge" in s["networks"]}
    assert outside == {"sts", "gateway", "api"}


def test_who_keeps_evidence_has_a_volume_of_its_own(compose: dict) -> None:
    mounted = []
    for role in ROLES:
        volumes = compose["services"][role].get("volumes", [])
        assert bool(volumes) == (role in KEEPS_EVIDENCE), role
        mounted += volumes
        if role in KEEPS_EVIDENCE:
            place = compose["services"][role]["environment"]["AUDIT_REPLAY_DIR"]
            assert place.startswith(volumes[0].split(":")[1])
    assert len(set(mounted)) == len(KEEPS_EVIDENCE)
    assert {entry.split(":")[0] for entry in mounted} <= compose["volumes"].keys()


def test_every_role_is_asked_whether_it_is_ready(services: dict) -> None:
    for role in ROLES:
        check = services[role]["healthcheck"]
        command = ["/usr/local/bin/caracal", "healthcheck", "--role", role, "--ready"]
        assert check["test"] == ["CMD", *command]
        # Below the limit of readiness calls, also while it starts.
        assert seconds(check["start_interval"]) >= 0.5
        assert seconds(check["interval"]) >= 1
        known = run(BINARY, *command[1:2], "--help")
        assert "--role" in known.stdout
        assert "--ready" in known.stdout


def test_nothing_starts_before_what_it_needs(services: dict) -> None:
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["migrate"]["restart"] == "no"
    for role in ROLES:
        needs = services[role]["depends_on"]
        assert needs["migrate"] == {"condition": "service_completed_successfully"}
        assert needs["redis"] == {"condition": "service_healthy"}
        assert services[role]["restart"] == "unless-stopped"
    assert services["gateway"]["depends_on"]["sts"] == {"condition": "service_healthy"}


def test_a_role_has_the_time_it_takes_to_stop(services: dict, variables: dict) -> None:
    grace = int(variables["api"]["SHUTDOWN_GRACE_MS"]["default"]) / 1000
    for role in ROLES:
        assert seconds(services[role]["stop_grace_period"]) > grace


def test_the_example_names_every_variable_with_its_default() -> None:
    used = variables_used((DIRECTORY / "compose.yaml").read_text())
    example = (DIRECTORY / ".env.example").read_text()
    shown = dict(re.findall(r"^#([A-Z_]+)=(.*)$", example, re.M))
    assert shown.keys() == used.keys()
    for name, default in used.items():
        # Where Compose says nothing the binary's own default counts, and may be shown.
        assert not default or shown[name] == default, name
    assert not re.findall(r"^[A-Z_]+=", example, re.M)


def test_defaults_that_the_example_shows_are_the_binarys(schema: list[dict]) -> None:
    defaults = {row["name"]: row["default"] for row in schema if row["default"] is not None}
    example = (DIRECTORY / ".env.example").read_text()
    for name, value in re.findall(r"^#([A-Z_]+)=(.+)$", example, re.M):
        own = name.removeprefix("CARACAL_GATEWAY_")
        assert value == defaults.get(own, value), name


def test_connections_of_all_roles_fit_into_the_server(services: dict, variables: dict) -> None:
    command = services["postgres"]["command"]
    most = int(next(word for word in command if word.startswith("max_connections=")).split("=")[1])
    pools = sum(
        int(variables[role].get("DB_POOL_MAX", variables[role].get("DB_MAX_CONNS"))["default"])
        for role in ROLES
    )
    # Two beside each pool wait for notifications and read the sequences; a roll doubles one role.
    assert pools + 2 * len(ROLES) + pools / len(ROLES) < most


def test_redis_never_needs_more_memory_than_it_may_have(services: dict) -> None:
    command = services["redis"]["command"]
    data = int(command[command.index("--maxmemory") + 1].removesuffix("mb"))
    limit = services["redis"]["deploy"]["resources"]["limits"]["memory"]
    assert limit == "1G"
    assert 2 * data <= 1024
