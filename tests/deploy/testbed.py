"""A PostgreSQL server of the tests' own, by the project's testbed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from place import BINARY

TESTBED = Path(os.environ.get("CARACAL_TESTBED_BIN", BINARY.parent / "caracal-testbed")).resolve()


class Postgres:
    """It ends with this process, however it ends."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [str(TESTBED)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        line = self._process.stdout.readline()
        assert line, f"{TESTBED} did not start its servers"
        self.superuser_url: str = json.loads(line)["superuser_url"]
        place = urlsplit(self.superuser_url)
        self.place = f"{place.hostname}:{place.port}"

    def url(self, login: str, password: str, database: str) -> str:
        return f"postgres://{login}:{password}@{self.place}/{database}"

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=30)
