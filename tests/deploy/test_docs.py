"""The operators' pages: current, and every command, file, variable and metric in them exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from place import BINARY, INFRA, REPOSITORY, ROLES, run, succeed

OPERATIONS = REPOSITORY / "docs/operations"
PAGES = sorted(OPERATIONS.glob("*.md"))
ALL_PAGES = [*PAGES, REPOSITORY / "docs/README.md", REPOSITORY / "README.md"]
HAND_WRITTEN = [page for page in PAGES if page.name != "configuration.md"]

# Variables of other programs, of the tools, and of the pages' own examples.
FOREIGN = {
    "ADMIN_URL", "BASE", "CARACAL_OWNER_PASSWORD", "TAG", "CARACAL_IMAGE", "CARACAL_STS_ISSUER_URL",
    "CARACAL_MIGRATION_DATABASE_URL", "CARACAL_HOME", "CARACAL_BIN",
    *(f"CARACAL_{role.upper()}_DB_PASSWORD" for role in ROLES),
}  # fmt: skip


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(REPOSITORY)) for path in paths]


def code(page: Path) -> str:
    """Fenced blocks and inline code."""
    text = page.read_text()
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```$", text, re.M | re.S)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    return "\n".join([*blocks, *inline])


def test_the_table_of_variables_is_current() -> None:
    generated = succeed(OPERATIONS / "configuration.generate", BINARY)
    current = (OPERATIONS / "configuration.md").read_text()
    assert current == generated, (
        "run docs/operations/configuration.generate >docs/operations/configuration.md"
    )


@pytest.mark.parametrize("page", ALL_PAGES, ids=names(ALL_PAGES))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_page_is_in_the_index() -> None:
    index = (REPOSITORY / "docs/README.md").read_text()
    for page in REPOSITORY.glob("docs/**/*.md"):
        if page.name != "README.md":
            assert f"]({page.relative_to(REPOSITORY / 'docs')})" in index, page
    assert "](docs/README.md)" in (REPOSITORY / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_command_of_the_binary_exists(page: Path) -> None:
    # To Helm and kubectl, caracal is a release and a namespace.
    others = re.compile(r"(?:^|[|(])\s*(?:helm|kubectl) (?:[^\n|]*\\\n)*[^\n|]*", re.M)
    own = others.sub("", code(page))
    for line in re.findall(r"(?:^|[ (/])caracal ((?:[a-z][a-z ]*|--?[a-z-]+ ?)+)", own, re.M):
        words = shlex.split(line)
        command = [word for word in words if not word.startswith("-")]
        help_of = run(BINARY, command[0], "--help")
        assert help_of.returncode == 0, f"caracal {line}"
        shown = help_of.stdout
        if len(command) > 1 and f"\n  {command[1]} " in shown + " ":
            shown = succeed(BINARY, command[0], command[1], "--help")
        for option in (word for word in words if word.startswith("--")):
            assert option in shown, f"caracal {line}"


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_file_of_the_repository_exists(page: Path) -> None:
    for path in re.findall(r"(?<![\w./-])((?:infra|docs|tests|crates)/[\w./*@-]+)", code(page)):
        assert list(REPOSITORY.glob(path.rstrip("./"))), path


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=names(HAND_WRITTEN))
def test_every_variable_is_one(page: Path, schema: list[dict]) -> None:
    known = {row["name"] for row in schema} | FOREIGN
    known |= {f"{row['name']}_FILE" for row in schema if row["file"]}
    named = set(re.findall(r"\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b", code(page)))
    assert named - known == set()


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_metric_is_one(page: Path) -> None:
    sources = "\n".join(path.read_text() for path in REPOSITORY.glob("crates/*/src/**/*.rs"))
    metrics = set(re.findall(r"\b(caracal_[a-z_]+_(?:total|seconds|lag|size|bytes))\b", code(page)))
    # The Gateway writes its names without the prefix.
    assert {
        name
        for name in metrics
        if f'"{name}"' not in sources and f'"{name.removeprefix("caracal_gateway_")}"' not in sources
    } == set()


def test_every_code_that_users_see_is_one() -> None:
    sources = "\n".join(path.read_text() for path in REPOSITORY.glob("crates/*/src/**/*.rs"))
    text = (OPERATIONS / "failure-modes.md").read_text()
    tables = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    codes = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", tables))
    assert len(codes) > 15
    assert {code for code in codes if f'"{code}"' not in sources} == set()


def test_the_units_and_services_that_are_named_exist() -> None:
    text = code(OPERATIONS / "deploy-on-one-host.md")
    services = yaml.safe_load((INFRA / "compose/compose.yaml").read_text())["services"]
    for logs in re.findall(r"docker compose logs (\w+)", text):
        assert logs in services
    for role in re.findall(r"caracal@(\w+)", text):
        assert role in ROLES
    assert (INFRA / "systemd/caracal-migrate.service").is_file()


def test_redis_settings_are_those_of_the_shipped_file() -> None:
    page = (OPERATIONS / "redis.md").read_text()
    shipped = (INFRA / "redis/redis.conf").read_text().splitlines()
    for line in re.search(r"^```\n(.*?)^```$", page, re.M | re.S)[1].splitlines():
        assert line in shipped or line.startswith("aclfile "), line
