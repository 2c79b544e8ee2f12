"""The bill of materials against Cargo.lock, cargo's own tree, and the CycloneDX schema."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from place import INFRA, REPOSITORY, succeed

SBOM = INFRA / "image/sbom"


@pytest.fixture(scope="module")
def text() -> str:
    return succeed(SBOM, timeout=300)


@pytest.fixture(scope="module")
def document(text: str) -> dict:
    return json.loads(text)


@pytest.fixture(scope="module")
def locked() -> dict[str, dict]:
    lock = tomllib.loads((REPOSITORY / "Cargo.lock").read_text())
    return {f"{package['name']}@{package['version']}": package for package in lock["package"]}


def listed(document: dict) -> dict[str, dict]:
    components = [*document["components"], document["metadata"]["component"]]
    return {f"{component['name']}@{component['version']}": component for component in components}


def test_it_is_valid_cyclonedx(text: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_the_same_tree_gives_the_same_bytes(text: str) -> None:
    assert succeed(SBOM, timeout=300) == text


def test_every_package_of_the_binarys_tree_is_in_it(document: dict) -> None:
    answer = succeed(
        "cargo", "tree", "--package=caracal", "--edges=normal,build", "--locked",
        "--prefix=none", "--format={p}",
        cwd=REPOSITORY, env={**os.environ, "CARGO_TERM_COLOR": "never"}, timeout=300,
    )  # fmt: skip
    tree = {"@".join(line.split()[:2]).replace("@v", "@") for line in answer.splitlines() if line}
    assert "caracal-sts@" in " ".join(tree)
    assert tree - listed(document).keys() == set()


def test_nothing_is_in_it_that_is_not_locked(document: dict, locked: dict) -> None:
    assert listed(document).keys() - locked.keys() == set()


def test_every_package_has_the_locks_checksum_a_licence_and_a_purl(
    document: dict, locked: dict
) -> None:
    for name, component in listed(document).items():
        sums = [entry["content"] for entry in component.get("hashes", [])]
        expected = locked[name].get("checksum")
        assert sums == ([expected] if expected else []), name
        assert component["licenses"][0]["expression"], name
        assert (
            component["purl"]
            == f"pkg:cargo/{component['name']}@{component['version'].replace('+', '%2B')}"
        )


def test_the_dependency_graph_is_closed_and_whole(document: dict) -> None:
    components = {entry["bom-ref"] for entry in listed(document).values()}
    parents = [entry["ref"] for entry in document["dependencies"]]
    children = {child for entry in document["dependencies"] for child in entry["dependsOn"]}
    assert sorted(parents) == sorted(components)
    assert children <= components
    assert components - children == {document["metadata"]["component"]["bom-ref"]}


def test_what_only_runs_at_build_time_is_told_apart(document: dict) -> None:
    scopes = {c["name"]: c["scope"] for c in document["components"]}
    assert scopes["aws-lc-sys"] == scopes["rustls"] == scopes["tokio"] == "required"
    assert scopes["cc"] == scopes["serde_derive"] == "excluded"


def test_system_libraries_are_in_it_when_they_are_named(tmp_path: Path) -> None:
    listing = tmp_path / "debian"
    listing.write_text("libc6 2.36-9+deb12u14 amd64 see /usr/share/doc/libc6/copyright\n")
    text = succeed(SBOM, "--debian", listing, timeout=300)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64" in text
