"""The container image: its Dockerfile, and its file system with nothing else around it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest
from place import BINARY, INFRA, PORTS, REPOSITORY, ROLES, TOOLS, run, succeed

DOCKERFILE = INFRA / "image/Dockerfile"
USER = 10001


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.M).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [(line.split()[0], line.split(maxsplit=1)[1].strip()) for line in lines]


def final_stage() -> list[tuple[str, str]]:
    every = instructions()
    last = max(index for index, (word, _) in enumerate(every) if word == "FROM")
    return every[last:]


def test_the_linter_has_nothing_to_say() -> None:
    succeed(TOOLS / "hadolint", DOCKERFILE)


def test_the_image_starts_from_nothing_and_gets_only_the_layout() -> None:
    stage = final_stage()
    assert stage[0] == ("FROM", "scratch")
    assert not [text for word, text in stage if word in ("RUN", "ADD", "VOLUME")]
    copies = [text for word, text in stage if word == "COPY"]
    assert copies == [
        "--from=build /layout/root/ /",
        f"--from=build --chown={USER}:{USER} /layout/state/ /var/lib/",
    ]


def test_no_instruction_needs_a_shell_and_the_user_is_a_number() -> None:
    stage = dict(final_stage())
    assert stage["USER"] == f"{USER}:{USER}"
    assert json.loads(stage["ENTRYPOINT"]) == ["/usr/local/bin/caracal"]
    assert isinstance(json.loads(stage["CMD"]), list)
    check = stage["HEALTHCHECK"].split("CMD", 1)[1]
    assert json.loads(check) == ["/usr/local/bin/caracal", "healthcheck"]
    assert {int(port) for port in stage["EXPOSE"].split()} == set(PORTS.values())


def test_it_is_built_with_the_projects_rust_and_its_locked_dependencies() -> None:
    oldest = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["workspace"]["package"]
    base = next(text for word, text in instructions() if word == "ARG" and text.startswith("BASE="))
    assert base == f"BASE=docker.io/library/rust:{oldest['rust-version']}-bookworm"
    builds = [text for word, text in instructions() if word == "RUN" and "cargo build" in text]
    assert len(builds) == 1
    assert "--profile dist --locked" in builds[0]


def test_a_release_names_its_base_by_digest(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"]}
    refused = run(INFRA / "image/build", "caracal:test", env=environment)
    assert refused.returncode == 2
    assert "sha256" in refused.stderr
    tag = environment | {"BASE": "docker.io/library/rust:1.94-bookworm"}
    assert run(INFRA / "image/build", "caracal:test", env=tag).returncode == 2


def test_the_build_context_is_an_allow_list() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    for needed in ("Cargo.toml", "Cargo.lock", "LICENSE", "crates", "infra/image"):
        assert f"!{needed}" in rules
    assert not any("secrets" in rule or "compose" in rule for rule in rules)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("layout")
    succeed(INFRA / "image/rootfs", BINARY, directory, timeout=300)
    return directory


# Mounts the root read-only, gives the state and /tmp their places, becomes the image's user (or
# stays the one who runs the tests), and runs the binary with nothing else to see.
INSIDE = r"""
set -eu
root=$1 state=$2; shift 2
mount --bind "$root" "$root"
mount --bind "$state/caracal" "$root/var/lib/caracal"
mount -t tmpfs tmpfs "$root/tmp" -o mode=1777
mount -o remount,bind,ro "$root"
exec chroot $AS "$root" /usr/local/bin/caracal "$@"
"""


def inside(layout: Path, *arguments: str) -> list[str]:
    """The command that runs the binary as the image would."""
    (layout / "root/var/lib/caracal").mkdir(exist_ok=True)
    space = (
        ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    )
    script = INSIDE.replace("$AS", f"--userspec={USER}:{USER}" if os.geteuid() == 0 else "")
    where = [str(layout / "root"), str(layout / "state")]
    return [*space, "/bin/sh", "-c", script, "inside", *where, *arguments]


@pytest.fixture(scope="module")
def owned(layout: Path) -> Path:
    """The layout, the state given to the image's user as the image gives it."""
    if os.geteuid() == 0:
        for path in (layout / "state").rglob("*"):
            os.chown(path, USER, USER)
        # The test directory is the tester's alone; the image's user passes through it.
        for directory in layout.parents:
            if directory.stat().st_mode & 0o111 != 0o111:
                directory.chmod(directory.stat().st_mode | 0o111)
        layout.chmod(0o755)
    return layout


def test_the_root_holds_nothing_that_could_be_a_shell_or_be_written(layout: Path) -> None:
    root = layout / "root"
    programs = [
        path
        for path in root.rglob("*")
        if path.is_file() and os.access(path, os.X_OK) and ".so" not in path.name
    ]
    assert programs == [root / "usr/local/bin/caracal"]
    writable = [path for path in root.rglob("*") if path.stat().st_mode & 0o022]
    assert writable == [root / "tmp"]
    assert not [path for path in root.rglob("*") if path.stat().st_mode & 0o6000]


def test_only_the_c_library_lies_beside_the_binary(layout: Path) -> None:
    libraries = {path.name for path in (layout / "root").rglob("*.so*")}
    assert {re.sub(r"\.so.*", "", name) for name in libraries} <= {
        "libc",
        "libm",
        "libgcc_s",
        "ld-linux-x86-64",
        "ld-linux-aarch64",
    }


def test_the_layout_is_the_same_each_time(layout: Path, tmp_path: Path) -> None:
    succeed(INFRA / "image/rootfs", BINARY, tmp_path, timeout=300)

    def contents(of: Path) -> dict[str, tuple]:
        return {
            str(path.relative_to(of)): (
                path.stat().st_mode,
                int(path.stat().st_mtime),
                path.read_bytes() if path.is_file() else b"",
            )
            for path in sorted((of / "root").rglob("*"))
            if "var/lib/caracal" not in str(path)
        }

    first, second = contents(layout), contents(tmp_path)
    changed = {name for name in first if first[name][2] != second[name][2]}
    assert first.keys() == second.keys()
    assert not changed


def test_the_image_carries_authorities_and_its_own_licences(layout: Path) -> None:
    root = layout / "root"
    assert "BEGIN CERTIFICATE" in (root / "etc/ssl/certs/ca-certificates.crt").read_text()
    assert (root / "usr/share/doc/caracal/LICENSE").is_file()
    for package in (layout / "debian").read_text().splitlines():
        name = package.split()[0]
        assert (root / "usr/share/doc" / name / "copyright").is_file()
        assert (root / "var/lib/dpkg/status.d" / name).is_file()


def test_the_binary_runs_with_nothing_around_it(owned: Path) -> None:
    assert "version" in succeed(*inside(owned, "version"))
    assert "usage: caracal" in succeed(*inside(owned, "help"))


def test_the_health_check_is_in_the_binary(owned: Path) -> None:
    assert "healthcheck" in succeed(*inside(owned, "healthcheck", "--help"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_stack_runs_on_a_read_only_root_as_an_unprivileged_user(owned: Path) -> None:
    """All roles in the one process; only the state directory and /tmp can be written."""
    ports = {role: free_port() for role in ROLES}
    listen = {f"CARACAL_{r.upper()}_LISTEN": f"127.0.0.1:{p}" for r, p in ports.items()}
    home = {"HOME": "/var/lib/caracal", "CARACAL_HOME": "/var/lib/caracal/home"}
    process = subprocess.Popen(
        inside(owned, "up", "--foreground"),
        env={"PATH": os.environ["PATH"], **home, **listen},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        url = f"http://127.0.0.1:{ports['sts']}/ready"
        deadline = time.monotonic() + 60
        while not answers(url):
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() < deadline, "the stack did not get ready"
            time.sleep(0.1)
        made = owned / "state/caracal/home"
        if os.geteuid() == 0:
            assert made.stat().st_uid == USER
        assert not (owned / "root/var/lib/caracal/home").exists()
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False
