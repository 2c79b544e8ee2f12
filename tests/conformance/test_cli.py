"""The `caracal` command."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from answers import eventually
from conftest import StackFactory
from orchard import Orchard
from stack import BINARY, ROLES, Embedded, Stack, environment, run_binary

RELEASE = "release" in BINARY.parts
SECRETS = (
    "caracalAdminToken",
    "caracalCoordinatorToken",
    "metricsBearer",
    "secretStoreKek",
    "auditHmacKey",
    "streamsHmacKey",
    "idempotencyHmacKey",
    "gatewayStsHmacKey",
    "stsAdminToken",
    "auditAdminToken",
)

up_and_down = pytest.mark.only("embedded", "`up` and `down` manage the embedded stack")
status = pytest.mark.only("embedded", "`status` finds the embedded stack by its home directory")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The environment of a home that does not exist yet."""
    return environment(tmp_path / "home")


def test_version_is_one_json_line_with_four_keys(env: dict[str, str]) -> None:
    shown = run_binary(["version", "--json"], env)
    assert shown.returncode == 0
    assert shown.stdout.count("\n") == 1
    assert set(json.loads(shown.stdout)) == {"binary", "version", "mode", "sha"}
    assert run_binary(["--version", "--json"], env).stdout == shown.stdout


def test_help_names_the_commands(env: dict[str, str]) -> None:
    for arguments in ([], ["help"], ["-h"], ["--help"]):
        shown = run_binary(arguments, env)
        assert shown.returncode == 0
        assert "STACK" in shown.stdout
        assert "RUNTIME" in shown.stdout


def test_an_unknown_command_prints_the_usage_and_fails(env: dict[str, str]) -> None:
    for word in ("nope", "Up", "--nope", "x" * 40):
        shown = run_binary([word], env)
        assert shown.returncode == 1, word
        assert "unknown command" in shown.stderr
        assert "usage:" in shown.stderr
        assert shown.stdout == ""


@up_and_down
def test_up_is_ready_soon(
    private_stack: StackFactory, record_property: Callable[[str, object], None]
) -> None:
    limit = 0.3 if RELEASE else 3.0
    fresh = private_stack()
    fresh.stop()
    warm = Embedded.start(fresh.home)
    first, again = fresh.start_seconds * 1000, warm.start_seconds * 1000
    record_property("`caracal up` ready", f"{first:.0f} ms on an empty home, {again:.0f} ms again")
    assert warm.start_seconds < limit


@up_and_down
def test_up_twice_is_one_stack(private_stack: StackFactory) -> None:
    stack = private_stack()
    before = (stack.home / "run.json").read_text()
    again = stack.command("up")
    assert again.returncode == 0, again.stderr
    assert "already runs" in again.stdout
    assert (stack.home / "run.json").read_text() == before


@up_and_down
def test_down_stops_and_may_be_repeated(private_stack: StackFactory) -> None:
    stack = private_stack()
    stack.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(stack.socket_address("sts"), timeout=1)
    assert not (stack.home / "run.json").exists()
    stack.stop()


def test_a_restart_keeps_what_was_made(private_stack: StackFactory, plant) -> None:
    stack = private_stack()
    orchard = plant(stack)
    chain = orchard.chain()
    stack.stop()
    orchard.stack = stack.again()
    # The embedded stack's issuer follows the STS port, which has moved: the mandate names the new one.
    mandate = orchard.mint(chain)
    assert orchard.call(mandate).status_code == 200


@up_and_down
def test_a_second_home_runs_beside_the_first(private_stack: StackFactory) -> None:
    first, second = private_stack(), private_stack()
    assert set(first.addresses.values()).isdisjoint(second.addresses.values())
    assert first.admin_token != second.admin_token


@pytest.mark.only("embedded", "operators of roles apart bring the secrets")
def test_secrets_are_the_owners_only(stack: Stack) -> None:
    directory = stack.home / "secrets"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in directory.iterdir()} >= set(SECRETS)
    for path in directory.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
        assert len(bytes.fromhex(path.read_text().strip())) == 32, path
    for name in ("caracal.db", "caracal.log", "caracal.env"):
        mode = (stack.home / name).stat().st_mode & 0o777
        assert mode & 0o077 == 0, (name, oct(mode))


def test_the_log_holds_no_secret(stack: Stack, orchard: Orchard) -> None:
    mandate = orchard.mint(orchard.chain())
    assert orchard.call(mandate).status_code == 200
    log = stack.logs()
    assert log
    for secret in (
        orchard.application.secret,
        mandate,
        orchard.bearer(),
        *map(stack.secret, SECRETS),
    ):
        assert secret not in log


@status
def test_status_has_the_documented_shape(stack: Stack) -> None:
    for arguments, mode, path in ((["--ready"], "ready", "/ready"), ([], "health", "/health")):
        shown = stack.command("status", "--json", *arguments)
        assert shown.returncode == 0, shown.stdout
        report = json.loads(shown.stdout)
        assert report["mode"] == mode
        assert {service["name"] for service in report["services"]} == set(ROLES)
        for service in report["services"]:
            assert set(service) == {"name", "port", "url", "ok", "detail"}
            assert service["port"] == stack.port(service["name"])
            assert service["url"] == f"http://localhost:{service['port']}{path}"
            assert (service["ok"], service["detail"]) == (True, "200")


@status
def test_status_names_the_service_that_is_down(private_stack: StackFactory) -> None:
    stack = private_stack()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        run = json.loads((stack.home / "run.json").read_text())
        moved = {
            **run,
            "addresses": {**run["addresses"], "audit": "127.0.0.1:%d" % unused.getsockname()[1]},
        }
        (stack.home / "run.json").write_text(json.dumps(moved))
        shown = stack.command("status", "--json")
    (stack.home / "run.json").write_text(json.dumps(run))
    assert shown.returncode == 1
    services = {service["name"]: service for service in json.loads(shown.stdout)["services"]}
    assert services["audit"]["ok"] is False
    assert services["audit"]["detail"] in {"unreachable", "timeout"}
    assert all(service["ok"] for name, service in services.items() if name != "audit")


@status
def test_status_tells_why_a_service_is_not_ready(private_stack: StackFactory) -> None:
    stack = private_stack()
    (stack.home / "audit-replay").rename(stack.home / "moved-away")
    shown = stack.command("status", "--ready", "--json")
    (stack.home / "moved-away").rename(stack.home / "audit-replay")
    assert shown.returncode == 1, shown.stdout
    details = [service["detail"] for service in json.loads(shown.stdout)["services"]]
    assert "503 audit_replay_unavailable" in details


def test_an_older_binary_refuses_a_newer_home_and_changes_nothing(env: dict[str, str]) -> None:
    home = Path(env["CARACAL_HOME"])
    home.mkdir(parents=True)
    newer = '{"version":"999.0.0","updatedAt":"2031-01-01T00:00:00.000Z"}'
    (home / "runtime.json").write_text(newer)
    shown = run_binary(["up"], env)
    assert shown.returncode == 1
    assert "999.0.0" in shown.stderr
    assert [path.name for path in home.iterdir()] == ["runtime.json"]
    assert (home / "runtime.json").read_text() == newer


@pytest.mark.only("embedded", "without roles named it shows the embedded stack")
def test_config_print_masks_secrets(stack: Stack) -> None:
    shown = stack.command("config", "print", METRICS_BEARER="a-bearer-that-nobody-may-see")
    assert shown.returncode == 0, shown.stderr
    assert "METRICS_BEARER=***" in shown.stdout
    assert "SECRET_STORE_KEK=***" in shown.stdout
    assert "MAX_AGENTS_PER_ZONE=5000" in shown.stdout
    for secret in ("a-bearer-that-nobody-may-see", *map(stack.secret, SECRETS)):
        assert secret not in shown.stdout + shown.stderr


def test_a_bad_setting_is_named_with_what_is_wrong(env: dict[str, str]) -> None:
    shown = run_binary(["up"], {**env, "MAX_AGENTS_PER_ZONE": "many"})
    assert shown.returncode == 1
    assert "MAX_AGENTS_PER_ZONE" in shown.stderr


@pytest.mark.parametrize(
    ("role", "missing"),
    [
        ("sts", ("DATABASE_URL", "REDIS_URL", "ISSUER_URL", "SECRET_STORE_KEK")),
        ("coordinator", ("DATABASE_URL", "REDIS_URL", "ISSUER_URL")),
        ("gateway", ("DATABASE_URL", "REDIS_URL", "ISSUER_URL", "STS_URL")),
    ],
)
def test_serve_names_every_missing_setting(
    env: dict[str, str], role: str, missing: tuple[str, ...]
) -> None:
    bare = {name: env[name] for name in ("PATH", "HOME")}
    shown = run_binary(["serve", role], bare)
    assert shown.returncode == 1
    for name in missing:
        assert name in shown.stderr
    assert not list(Path(env["HOME"]).rglob("*.db"))


def test_a_project_file_does_not_steer_the_command(env: dict[str, str]) -> None:
    directory = Path(env["HOME"])
    (directory / ".env").write_text("CARACAL_MODE=nonsense\n")
    steered = run_binary(["version", "--json"], {**env, "CARACAL_MODE": "nonsense"})
    assert steered.returncode == 0, steered.stderr
    meant = run_binary(["version", "--json"], {**env, "CARACAL_MODE": "otherwise"})
    assert meant.returncode == 1


def test_the_guided_tour_ends_well(env: dict[str, str]) -> None:
    shown = run_binary(["quickstart", "--json"], env)
    try:
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert json.loads(shown.stdout)["ok"] is True
    finally:
        run_binary(["down"], env)


def test_an_operator_file_fills_unset_variables(env: dict[str, str]) -> None:
    file = Path(env["HOME"]) / "operator.env"
    file.write_text("MAX_AGENTS_PER_ZONE=7\nMAX_AGENTS_PER_APP=8\n")
    settings = {**env, "CARACAL_ENV_FILE": os.fspath(file), "MAX_AGENTS_PER_APP": "9"}
    assert run_binary(["up"], settings).returncode == 0
    try:
        shown = run_binary(["config", "print"], settings).stdout
        assert "MAX_AGENTS_PER_ZONE=7\n" in shown
        assert "MAX_AGENTS_PER_APP=9\n" in shown
    finally:
        run_binary(["down"], env)


def test_a_zones_evidence_verifies_offline_and_shows_tampering(
    stack: Stack, orchard: Orchard, tmp_path: Path
) -> None:
    assert orchard.call(orchard.mint(orchard.chain())).status_code == 200
    bundle = tmp_path / "bundle.jsonl"

    def exported() -> bool:
        export = stack.command("audit", "export", "--zone", orchard.zone, "--out", str(bundle))
        assert export.returncode == 0, export.stderr
        return "gateway_request_started" in bundle.read_text()

    eventually(exported, "the call in the exported evidence")
    whole = stack.command("audit", "verify", str(bundle))
    assert whole.returncode == 0, whole.stdout + whole.stderr

    lines = bundle.read_text().splitlines(keepends=True)
    middle = len(lines) // 2
    for name, damaged in (
        ("an event removed", lines[:middle] + lines[middle + 1 :]),
        (
            "two events swapped",
            [*lines[: middle - 1], lines[middle], lines[middle - 1], *lines[middle + 1 :]],
        ),
        ("a decision changed", [line.replace("dispatched", "dismissed") for line in lines]),
    ):
        bundle.write_text("".join(damaged))
        verified = stack.command("audit", "verify", str(bundle))
        assert verified.returncode == 1, name


def test_an_unusable_bundle_is_refused(stack: Stack, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.jsonl"
    for content in (b"", b"{}", b"nonsense\n", b"\xff\xfe\x00"):
        bundle.write_bytes(content)
        verified = stack.command("audit", "verify", str(bundle))
        assert verified.returncode == 1, content
        assert "panicked" not in verified.stderr
