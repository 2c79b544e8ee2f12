"""The roles apart: five processes of the built binary, on a PostgreSQL and a Redis server of their
own. Each process gets the variables and secrets that it reads, and no others."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from stack import BINARY, ROLES, Stack, bare_environment

TESTBED = Path(os.environ.get("CARACAL_TESTBED_BIN", BINARY.parent / "caracal-testbed")).resolve()
START_SECONDS = 60.0
STOP_SECONDS = 30.0
PR_SET_PDEATHSIG = 1

# File name and the variable that it feeds, as in the home directory of the embedded stack.
SECRETS = {
    "caracalAdminToken": "CARACAL_ADMIN_TOKEN",
    "caracalCoordinatorToken": "CARACAL_COORDINATOR_TOKEN",
    "metricsBearer": "METRICS_BEARER",
    "secretStoreKek": "SECRET_STORE_KEK",
    "auditHmacKey": "AUDIT_HMAC_KEY",
    "streamsHmacKey": "STREAMS_HMAC_KEY",
    "idempotencyHmacKey": "IDEMPOTENCY_HMAC_KEY",
    "auditCheckpointKey": "AUDIT_CHECKPOINT_KEY",
    "gatewayStsHmacKey": "GATEWAY_STS_HMAC_KEY",
    "stsAdminToken": "STS_ADMIN_TOKEN",
    "auditAdminToken": "AUDIT_ADMIN_TOKEN",
}


@functools.cache
def variables_of(role: str) -> frozenset[str]:
    """The names that the role reads, `_FILE` forms included."""
    shown = subprocess.run(
        [str(BINARY), "config", "print", "--schema"],
        env={"PATH": os.environ.get("PATH", ""), "HOME": "/", "CARACAL_HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [row for row in json.loads(shown.stdout)["variables"] if role in row["roles"]]
    files = {f"{row['name']}_FILE" for row in rows if row["file"]}
    return frozenset({row["name"] for row in rows} | files)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Servers:
    """A PostgreSQL and a Redis server; they end with this process, however it ends."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [str(TESTBED)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{TESTBED} did not start its servers"
        said = json.loads(line)
        self.database_url: str = said["database_url"]
        self.redis_url: str = said["redis_url"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=STOP_SECONDS)


@dataclass
class Apart(Stack):
    """`caracal migrate`, then `caracal serve <role>` five times."""

    servers: Servers
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def start(cls, home: Path, **settings: str) -> Apart:
        home.mkdir(parents=True)
        ports = {role: free_port() for role in ROLES}
        addresses = {role: f"127.0.0.1:{port}" for role, port in ports.items()}
        servers = Servers()
        issuer = f"http://localhost:{ports['sts']}"
        env = {
            **bare_environment(home),
            "CARACAL_MODE": "rc",
            "DATABASE_URL": servers.database_url,
            "REDIS_URL": servers.redis_url,
            "ISSUER_URL": issuer,
            "STS_URL": issuer,
            "CARACAL_GATEWAY_URL": f"http://localhost:{ports['gateway']}",
            "CARACAL_COORDINATOR_URL": f"http://localhost:{ports['coordinator']}",
            "CARACAL_AUDIT_URL": f"http://localhost:{ports['audit']}",
            "READY_RATE_LIMIT_PER_MIN": "0",
            **{f"CARACAL_{role.upper()}_LISTEN": address for role, address in addresses.items()},
            **secret_files(home / "secrets"),
            **settings,
        }
        stack = cls(home, env, addresses, issuer, servers)
        migrated = stack.command("migrate")
        assert migrated.returncode == 0, f"{migrated.stdout}\n{migrated.stderr}"
        stack.run()
        return stack

    def run(self) -> None:
        """Starts the five processes and waits until each is ready."""
        for role in ROLES:
            with (self.home / f"{role}.log").open("ab") as log:
                self.processes[role] = subprocess.Popen(
                    [str(BINARY), "serve", role],
                    env=self.role_env(role),
                    cwd=self.home,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=end_with_parent,
                )
        for role in ROLES:
            self.wait_ready(role)

    def role_env(self, role: str) -> dict[str, str]:
        """The variables of one role. The audit logs of all stand side by side."""
        replay = self.home / "audit-replay" / role
        replay.mkdir(parents=True, exist_ok=True)
        known = variables_of(role) | {"PATH", "HOME"}
        own = {name: value for name, value in self.env.items() if name in known}
        return {**own, "AUDIT_REPLAY_DIR": str(replay)}

    def wait_ready(self, role: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        said = "nothing"
        while time.monotonic() < deadline:
            code = self.processes[role].poll()
            assert code is None, f"{role} ended with {code}:\n{self.log_tail(role)}"
            try:
                answer = httpx.get(f"http://{self.addresses[role]}/ready", timeout=5.0)
            except httpx.HTTPError as error:
                said = repr(error)
            else:
                if answer.status_code == 200:
                    return
                said = f"{answer.status_code} {answer.text}"
            time.sleep(0.05)
        raise AssertionError(f"{role} is not ready, it says {said}:\n{self.log_tail(role)}")

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        ended = {role: end_of(process) for role, process in self.processes.items()}
        self.processes = {}
        bad = {role: code for role, code in ended.items() if code != 0}
        assert not bad, f"ended with {bad}:\n" + "\n".join(self.log_tail(role) for role in bad)

    def again(self) -> Apart:
        self.run()
        return self

    def close(self) -> None:
        try:
            self.stop()
        finally:
            self.servers.close()

    def logs(self) -> str:
        return "".join((self.home / f"{role}.log").read_text() for role in ROLES)

    def log_tail(self, role: str) -> str:
        lines = (self.home / f"{role}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-15:])


def end_of(process: subprocess.Popen[bytes]) -> int | str:
    try:
        return process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"nothing within {STOP_SECONDS} s of SIGTERM"


def secret_files(directory: Path) -> dict[str, str]:
    """Makes a file for each secret; the `_FILE` variables that name them."""
    directory.mkdir(mode=0o700)
    named = {}
    for name, variable in SECRETS.items():
        path = directory / name
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
        named[f"{variable}_FILE"] = str(path)
    return named
