"""The Compose file as Compose reads it: variables put in, anchors and merges resolved."""

from __future__ import annotations

import re

import yaml
from place import INFRA

DIRECTORY = INFRA / "compose"
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::-([^}]*))?\}")


def variables_used(text: str) -> dict[str, str]:
    """Each variable that the text takes from .env, with its default."""
    return {name: default for name, default in VARIABLE.findall(text)}


def load(name: str = "compose.yaml", **settings: str) -> dict:
    def put_in(node: object) -> object:
        if isinstance(node, dict):
            return {key: put_in(value) for key, value in node.items()}
        if isinstance(node, list):
            return [put_in(value) for value in node]
        if isinstance(node, str):
            return VARIABLE.sub(lambda found: settings.get(found[1], found[2] or ""), node)
        return node

    return put_in(yaml.safe_load((DIRECTORY / name).read_text()))


def secrets_of(service: dict) -> dict[str, str]:
    """File name under /run/secrets -> the secret that is mounted there."""
    mounted = {}
    for secret in service.get("secrets", []):
        if isinstance(secret, str):
            mounted[secret] = secret
        else:
            mounted[secret.get("target", secret["source"])] = secret["source"]
    return mounted


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", duration).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]
