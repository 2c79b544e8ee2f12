"""What is shipped around the binary: image, Compose file, units, store configuration, docs."""

from __future__ import annotations

import json

import pytest
from place import BINARY, ROLES, succeed


def pytest_sessionstart(session: pytest.Session) -> None:
    if not session.config.option.collectonly and not BINARY.is_file():
        pytest.exit(f"{BINARY} does not exist; `cargo build --bin caracal` makes it", returncode=2)


@pytest.fixture(scope="session")
def schema() -> list[dict]:
    """The binary's own table of variables; a name has a row for each group of roles."""
    return json.loads(succeed(BINARY, "config", "print", "--schema"))["variables"]


@pytest.fixture(scope="session")
def variables(schema: list[dict]) -> dict[str, dict[str, dict]]:
    """The variables of each role, by name."""
    return {role: {row["name"]: row for row in schema if role in row["roles"]} for role in ROLES}
