"""What every stack of the built binary offers, whatever its shape; and the embedded shape."""

from __future__ import annotations

import json
import os
import subprocess
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("CARACAL_BIN", REPOSITORY / "target/debug/caracal")).resolve()
ROLES = ("api", "sts", "coordinator", "gateway", "audit")

# The limits that a whole test session on one address would hit.
ROOMY = {
    "MAX_AGENTS_PER_ZONE": "5000",
    "MAX_AGENTS_PER_APP": "5000",
    "COORDINATOR_RATE_LIMIT_PER_MIN": "0",
    "API_V1_RATE_LIMIT_PER_MIN": "0",
    "ADMIN_AUTH_FAIL_LIMIT_PER_MIN": "0",
    "READY_RATE_LIMIT_PER_MIN": "0",
    "VERIFY_RATE_LIMIT_PER_MIN": "0",
    "STS_MINT_RATE_LIMIT_PER_MIN": "1000000",
}


def bare_environment(home: Path) -> dict[str, str]:
    """What every process sees: nothing of the caller's Caracal settings."""
    return {"PATH": os.environ.get("PATH", ""), "HOME": str(home.parent)}


def environment(home: Path, **settings: str) -> dict[str, str]:
    """What the embedded stack sees: a home of its own, every listener on a free port."""
    listeners = {f"CARACAL_{role.upper()}_LISTEN": "127.0.0.1:0" for role in ROLES}
    return {**bare_environment(home), "CARACAL_HOME": str(home), **listeners, **settings}


def run_binary(
    arguments: list[str], env: dict[str, str], timeout: float = 90.0
) -> subprocess.CompletedProcess[str]:
    """Runs the binary to its end, away from any project file."""
    directory = Path(env["HOME"])
    directory.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [str(BINARY), *arguments],
        env=env,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@dataclass
class Stack(ABC):
    """A running stack."""

    home: Path
    # What commands of this stack see.
    env: dict[str, str]
    addresses: dict[str, str]
    issuer: str

    @abstractmethod
    def stop(self) -> None:
        """Stops every process of it, in good order. What it stored stays."""

    @abstractmethod
    def again(self) -> Stack:
        """The same stack, started again after a stop."""

    @abstractmethod
    def logs(self) -> str:
        """Everything that its processes logged."""

    def close(self) -> None:
        """Stops it for good."""
        self.stop()

    def command(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return run_binary(list(arguments), {**self.env, **settings})

    def url(self, role: str) -> str:
        return f"http://localhost:{self.port(role)}"

    def port(self, role: str) -> int:
        return int(self.addresses[role].rsplit(":", 1)[1])

    def socket_address(self, role: str) -> tuple[str, int]:
        host, port = self.addresses[role].rsplit(":", 1)
        return host, int(port)

    def secret(self, name: str) -> str:
        return (self.home / "secrets" / name).read_text().strip()

    @property
    def admin_token(self) -> str:
        return self.secret("caracalAdminToken")

    @property
    def operator_token(self) -> str:
        return self.secret("caracalCoordinatorToken")


@dataclass
class Embedded(Stack):
    """`caracal up`: five roles in one process, on a home directory."""

    start_output: str
    start_seconds: float

    @classmethod
    def start(cls, home: Path, **settings: str) -> Embedded:
        env = environment(home, **settings)
        began = time.monotonic()
        up = run_binary(["up"], env)
        seconds = time.monotonic() - began
        assert up.returncode == 0, f"caracal up failed:\n{up.stdout}\n{up.stderr}"
        run = json.loads((home / "run.json").read_text())
        return cls(home, env, run["addresses"], run["issuer"], up.stdout, seconds)

    def stop(self) -> None:
        down = run_binary(["down"], self.env)
        assert down.returncode == 0, f"caracal down failed:\n{down.stdout}\n{down.stderr}"

    def again(self) -> Embedded:
        return Embedded.start(self.home)

    def logs(self) -> str:
        return (self.home / "caracal.log").read_text()
