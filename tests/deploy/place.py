"""Where things are, and how the tests run programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
INFRA = REPOSITORY / "infra"
BINARY = Path(os.environ.get("CARACAL_BIN", REPOSITORY / "target/debug/caracal")).resolve()
TOOLS = Path(sys.executable).parent
ROLES = ("api", "sts", "gateway", "audit", "coordinator")
PORTS = {"api": 3000, "coordinator": 4000, "sts": 8080, "gateway": 8081, "audit": 9090}
# Which program may hold which secret, however it is deployed; what a role does not need it is not given.
HOLDERS = {
    "secretStoreKek": {"sts", "api"},
    "streamsHmacKey": {"api", "coordinator"},
    "gatewayStsHmacKey": {"sts", "api", "gateway"},
    "auditHmacKey": set(ROLES),
    "idempotencyHmacKey": {"coordinator"},
    "auditCheckpointKey": {"audit"},
    "caracalAdminToken": {"api"},
    "caracalCoordinatorToken": {"coordinator"},
    "stsAdminToken": {"sts"},
    "auditAdminToken": {"audit"},
    "metricsBearer": set(ROLES),
    "redisUrl": set(ROLES),
    "databaseUrl": {"migrate"},
    **{f"{role}DbPassword": {"migrate"} for role in ROLES},
    **{f"{role}DatabaseUrl": {role} for role in ROLES},
}


def run(*command: str | Path, **options) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end; its output comes with the answer."""
    options = {"timeout": 60, "check": False, **options}
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, **options)


def succeed(*command: str | Path, **options) -> str:
    """Runs a program that must succeed; its standard output."""
    done = run(*command, **options)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
