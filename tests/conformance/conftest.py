"""Black-box tests: the built binary, driven by the published packages and plain HTTP.

A test that takes a stack runs on both shapes: `embedded`, one process on a home directory, and
`apart`, a process for each role on PostgreSQL and Redis. A test of what only one shape has says so
with the mark `only(shape, why)`. `CARACAL_SHAPES` picks shapes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest
from caracalai_admin import AdminClient

pytest.register_assert_rewrite(
    "answers",
    "apart",
    "orchard",
    "rows_admin",
    "rows_coordinator",
    "rows_gateway",
    "rows_sts",
    "stack",
    "streaming",
)

from apart import TESTBED, Apart
from orchard import Orchard
from stack import BINARY, ROOMY, Embedded, Stack
from upstream import Upstream

StackFactory = Callable[..., Stack]
SHAPES: dict[str, type[Embedded] | type[Apart]] = {"embedded": Embedded, "apart": Apart}
CHOSEN = [name for name in os.environ.get("CARACAL_SHAPES", ",".join(SHAPES)).split(",") if name]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only(shape, why): what only this shape has")


def pytest_sessionstart(session: pytest.Session) -> None:
    needed = {BINARY: "caracal"} | ({TESTBED: "caracal-testbed"} if "apart" in CHOSEN else {})
    for path, name in needed.items():
        if not session.config.option.collectonly and not path.is_file():
            pytest.exit(f"{path} does not exist; `cargo build --bin {name}` makes it", returncode=2)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "shape" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("only")
        shapes = [name for name in CHOSEN if mark is None or name == mark.args[0]]
        metafunc.parametrize("shape", shapes, scope="session")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what the run does not cover, and how long the stack took to be ready."""
    table = sys.modules.get("test_conformance_table")
    if table is not None:
        rows = ", ".join(str(number) for number in sorted(table.NOT_YET_COVERED))
        terminalreporter.write_line(f"conformance rows not yet covered: {rows}")
    for passed in terminalreporter.stats.get("passed", []):
        for name, value in passed.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30.0) as client:
        yield client


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


@pytest.fixture(scope="session")
def stack(shape: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack that most tests share, with limits that a test session does not reach."""
    running = SHAPES[shape].start(tmp_path_factory.mktemp("shared") / "home", **ROOMY)
    yield running
    running.close()


@pytest.fixture
def private_stack(shape: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackFactory]:
    """Starts stacks for one test, with the settings that it names."""
    started: list[Stack] = []

    def start(**settings: str) -> Stack:
        home = tmp_path_factory.mktemp("private") / "home"
        started.append(SHAPES[shape].start(home, **settings))
        return started[-1]

    yield start
    for running in started:
        running.close()


def admin_of(stack: Stack, http: httpx.Client) -> AdminClient:
    return AdminClient(
        api_url=stack.url("api"),
        admin_token=stack.admin_token,
        coordinator_url=stack.url("coordinator"),
        coordinator_token=stack.operator_token,
        http_client=http,
        retries=0,
    )


@pytest.fixture(scope="session")
def admin(stack: Stack, http: httpx.Client) -> AdminClient:
    return admin_of(stack, http)


@pytest.fixture
def orchard(stack: Stack, upstream: Upstream, admin: AdminClient, http: httpx.Client) -> Orchard:
    """A fresh zone on the shared stack."""
    return Orchard.plant(stack, upstream, admin, http)


@pytest.fixture
def plant(stack: Stack, upstream: Upstream, admin: AdminClient, http: httpx.Client):
    """Plants more zones, on the shared stack or on another."""

    def fresh(on: Stack | None = None, provider: dict | None = None) -> Orchard:
        if on is None:
            return Orchard.plant(stack, upstream, admin, http, provider)
        return Orchard.plant(on, upstream, admin_of(on, http), http, provider)

    return fresh
