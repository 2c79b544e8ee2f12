"""redis.conf and the users: what the roles need they may, and nothing more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from place import INFRA, REPOSITORY, succeed
from redis_server import Client, Refused, Server

SOURCES = REPOSITORY / "crates/events/src/redis"

# The driver's name for a command, where that is not the command in small letters.
DRIVER = {"xgroup_create": "XGROUP", "xinfo_groups": "XINFO", "xinfo_stream": "XINFO"}
# Calls of the driver that send no command of their own.
NO_COMMAND = {"active_connections", "clone", "connect", "custom", "error_rx", "force_reconnection"}
NO_COMMAND |= {"state", "wait_for_connect", "with_options"}

STREAM = "caracal.audit.events"
# One example of each command, in an order in which each succeeds.
EXAMPLES = [
    ("PING",),
    ("CLIENT", "SETNAME", "caracal"),
    ("CLIENT", "ID"),
    ("INFO", "server"),
    ("INFO", "replication"),
    ("CONFIG", "GET", "save"),
    ("XGROUP", "CREATE", STREAM, "audit-ingestor", "0", "MKSTREAM"),
    ("XADD", STREAM, "*", "data", "{}"),
    ("XADD", "caracal.sessions.revoke", "MAXLEN", "~", "1000", "*", "data", "{}"),
    ("XREADGROUP", "GROUP", "audit-ingestor", "one", "COUNT", "10", "STREAMS", STREAM, ">"),
    ("XPENDING", STREAM, "audit-ingestor", "-", "+", "1"),
    ("XAUTOCLAIM", STREAM, "audit-ingestor", "two", "0", "0", "COUNT", "10"),
    ("XACK", STREAM, "audit-ingestor", "1-1"),
    ("XINFO", "GROUPS", STREAM),
    ("XINFO", "STREAM", STREAM),
    ("XLEN", STREAM),
    ("XRANGE", STREAM, "-", "+", "COUNT", "1"),
    ("XDEL", STREAM, "1-1"),
    ("XTRIM", STREAM, "MINID", "0-1"),
]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("redis") / "secrets"
    succeed(INFRA / "compose/init", directory)
    return directory


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, secrets: Path) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("redis-data"), secrets)
    yield running
    running.close()


@pytest.fixture
def connect(server: Server, secrets: Path) -> Iterator:
    opened: list[Client] = []

    def open_as(user: str) -> Client:
        files = {"caracal": "redisPassword", "admin": "redisAdminPassword"}
        password = (secrets / files[user]).read_text() if user in files else "whatever"
        opened.append(Client(server.port, user, password))
        return opened[-1]

    yield open_as
    for client in opened:
        client.close()


def script() -> str:
    text = (SOURCES / "once.rs").read_text()
    return re.search(r'const SCRIPT: &str = r"\n(.*?)\n";', text, re.S)[1]


def commands_in_the_code() -> set[str]:
    found = set()
    for path in SOURCES.glob("*.rs"):
        text = path.read_text()
        calls = re.findall(r"(?:commands(?:\(\))?|client)\s*\.([a-z_0-9]+)(?:::<[^(]*>)?\(", text)
        calls = set(calls) - NO_COMMAND
        found |= {DRIVER.get(call, call.upper()) for call in calls}
        found |= set(re.findall(r'CustomCommand::new_static\("([A-Z]+)', text))
    return found


def test_the_examples_cover_every_command_that_the_code_sends() -> None:
    known = {words[0] for words in EXAMPLES} | {"EVAL", "EVALSHA"}
    assert commands_in_the_code() - known == set()


def test_the_roles_may_do_all_that_they_do(connect) -> None:
    client = connect("caracal")
    for words in EXAMPLES:
        client(*words)


def test_the_roles_may_set_replay_marks(connect) -> None:
    client = connect("caracal")
    now = int(client("EVAL", "return redis.call('TIME')[1]", "0")) * 1000
    keys = ["caracal:reign:{0}", "seen:jti:{0}:zone:jti"]
    marked = client("EVAL", script(), 2, *keys, 60_000, now, 2_500, 0)
    assert marked[0] in (1, 2)
    digest = connect("admin")("SCRIPT", "LOAD", script())
    again = client("EVALSHA", digest, 2, *keys, 60_000, now + 1_000, 2_500, 0)
    assert again[0] in (0, 1)


@pytest.mark.parametrize(
    "words",
    [
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("KEYS", "*"),
        ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
        ("CONFIG", "REWRITE"),
        ("SHUTDOWN", "NOSAVE"),
        ("ACL", "LIST"),
        ("MONITOR",),
        ("SLAVEOF", "127.0.0.1", "1"),
        ("REPLICAOF", "127.0.0.1", "1"),
        ("CLIENT", "KILL", "ID", "1"),
        ("CLIENT", "PAUSE", "1"),
        ("SCRIPT", "FLUSH"),
        ("MODULE", "LIST"),
        ("SAVE",),
        ("PUBLISH", "channel", "x"),
        ("SET", "somebody-elses", "1"),
        ("GET", "somebody-elses"),
    ],
)
def test_the_roles_may_not_harm_the_server_or_touch_other_keys(connect, words: tuple) -> None:
    with pytest.raises(Refused, match="NOPERM"):
        connect("caracal")(*words)


def test_nobody_gets_in_without_a_user(server: Server) -> None:
    with pytest.raises(Refused, match="WRONGPASS"):
        Client(server.port, "default", "")
    with pytest.raises(Refused, match="WRONGPASS"):
        Client(server.port, "caracal", "guess")


def test_a_health_check_may_ping_and_nothing_else(connect) -> None:
    client = connect("probe")
    assert client("PING") == "PONG"
    for words in (("GET", STREAM), ("INFO",), ("XLEN", STREAM)):
        with pytest.raises(Refused, match="NOPERM"):
            client(*words)


def test_the_server_never_evicts_and_writes_to_disk(connect) -> None:
    admin = connect("admin")

    def setting(name: str) -> str:
        return admin("CONFIG", "GET", name)[1]

    assert setting("maxmemory-policy") == "noeviction"
    assert setting("appendonly") == "yes"
    assert setting("appendfsync") == "everysec"
    assert setting("protected-mode") == "yes"
    assert int(setting("maxmemory")) == 512 * 1024 * 1024


def test_a_full_server_refuses_a_mark_instead_of_forgetting_one(
    tmp_path: Path, secrets: Path
) -> None:
    server = Server(tmp_path / "full", secrets)
    try:
        admin = Client(server.port, "admin", (secrets / "redisAdminPassword").read_text())
        roles = Client(server.port, "caracal", (secrets / "redisPassword").read_text())
        roles("SET", "seen:jti:{0}:first", "1")
        admin("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(Refused, match="OOM"):
            roles("SET", "seen:jti:{0}:second", "1")
        assert roles("GET", "seen:jti:{0}:first") == "1"
        roles.close()
        admin.close()
    finally:
        server.close()


def test_marks_and_streams_survive_a_restart(tmp_path: Path, secrets: Path) -> None:
    password = (secrets / "redisPassword").read_text()
    first = Server(tmp_path / "data", secrets)
    client = Client(first.port, "caracal", password)
    client("SET", "seen:jti:{0}:kept", "1")
    client("XADD", STREAM, "*", "data", "kept")
    client.close()
    first.close()
    second = Server(tmp_path / "data", secrets)
    try:
        client = Client(second.port, "caracal", password)
        assert client("GET", "seen:jti:{0}:kept") == "1"
        assert client("XLEN", STREAM) == 1
        client.close()
    finally:
        second.close()
