"""A Redis server with the configuration that is shipped, and a client that speaks its protocol."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

from place import INFRA

Reply = str | int | None | list


class Refused(Exception):
    """The server's error answer."""


class Client:
    def __init__(self, port: int, user: str, password: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._lines = self._socket.makefile("rb")
        self("AUTH", user, password)

    def __call__(self, *words: str | int) -> Reply:
        parts = [str(word).encode() for word in words]
        packed = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)
        self._socket.sendall(packed)
        return self._reply()

    def _reply(self) -> Reply:
        line = self._lines.readline().rstrip(b"\r\n").decode()
        kind, rest = line[:1], line[1:]
        if kind == "-":
            raise Refused(rest)
        if kind == "+":
            return rest
        if kind == ":":
            return int(rest)
        if kind == "$":
            return None if rest == "-1" else self._lines.read(int(rest) + 2)[:-2].decode()
        return None if rest == "-1" else [self._reply() for _ in range(int(rest))]

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def moved(directory: Path, port: int) -> Path:
    """The file as it is, but for the two places and the port that only a container has."""
    text = (INFRA / "redis/redis.conf").read_text()
    places = {
        "port 6379": f"port {port}",
        "aclfile /run/secrets/redisUsers.acl": f"aclfile {directory}/users.acl",
        "dir /data": f"dir {directory}",
    }
    for line, own in places.items():
        assert text.count(f"\n{line}\n") == 1
        text = text.replace(f"\n{line}\n", f"\n{own}\n")
    path = directory / "redis.conf"
    path.write_text(text)
    return path


class Server:
    """redis-server (or Valkey's) on redis.conf, its users from `secrets`."""

    def __init__(self, directory: Path, secrets: Path) -> None:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        assert program, "redis-server is not installed; on Debian: apt-get install redis-server"
        self.port = free_port()
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(secrets / "redisUsers.acl", directory / "users.acl")
        self._log = (directory / "log").open("wb")
        self._process = subprocess.Popen(
            [program, str(moved(directory, self.port))], stdout=self._log, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + 20
        while True:
            assert self._process.poll() is None, (directory / "log").read_text()
            try:
                Client(self.port, "probe", "probe").close()
                return
            except OSError:
                assert time.monotonic() < deadline, (directory / "log").read_text()
                time.sleep(0.02)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        self._log.close()
