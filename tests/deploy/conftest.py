"""What is shipped around the binary: image, Compose file, units, store configuration, docs."""

from __future__ import annotations

import json

import pytest
from place import BINARY, succeed


def pytest_sessionstart(session: pytest.Session) -> None:
    if not session.config.option.collectonly and not BINARY.is_file():
        pytest.exit(f"{BINARY} does not exist; `cargo build --bin caracal` makes it", returncode=2)


@pytest.fixture(scope="session")
def variables() -> dict[str, dict]:
    """The binary's own table of variables, by name."""
    schema = json.loads(succeed(BINARY, "config", "print", "--schema"))
    return {row["name"]: row for row in schema["variables"]}
