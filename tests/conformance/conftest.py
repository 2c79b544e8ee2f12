"""Black-box tests: the built binary, driven by the published packages and plain HTTP."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import httpx
import pytest
from caracalai_admin import AdminClient

pytest.register_assert_rewrite(
    "answers",
    "orchard",
    "rows_admin",
    "rows_coordinator",
    "rows_gateway",
    "rows_sts",
    "stack",
    "streaming",
)

from orchard import Orchard
from stack import BINARY, ROOMY, Stack
from upstream import Upstream

StackFactory = Callable[..., Stack]


def pytest_sessionstart(session: pytest.Session) -> None:
    if not session.config.option.collectonly and not BINARY.is_file():
        pytest.exit(f"{BINARY} does not exist; `cargo build --bin caracal` makes it", returncode=2)


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
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack that most tests share, with limits that a test session does not reach."""
    running = Stack.start(tmp_path_factory.mktemp("shared") / "home", **ROOMY)
    yield running
    running.stop()


@pytest.fixture
def private_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackFactory]:
    """Starts stacks for one test, with the settings that it names."""
    started: list[Stack] = []

    def start(**settings: str) -> Stack:
        started.append(Stack.start(tmp_path_factory.mktemp("private") / "home", **settings))
        return started[-1]

    yield start
    for running in started:
        running.stop()


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
