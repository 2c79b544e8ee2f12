"""The Helm chart, rendered by Helm's own engine."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path

import yaml
from helm_python import Chart, HelmError, parse_set_string
from place import INFRA

CHART = INFRA / "helm/caracal"
RELEASE = "caracal"
NAMESPACE = "caracal"
MANAGED = "examples/values.cloud-managed.yaml"
PREFIX = f"{RELEASE}-caracal"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Refused(Exception):
    """Helm did not render; what it said."""


def merge(under: dict, over: dict) -> dict:
    """Values over values, as Helm merges files: maps merge, everything else is replaced."""
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def nested(path: str, value: object) -> dict:
    """`a.b.c` and a value -> the values that say so."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def values(*files: str, **settings: object) -> dict:
    """Values of the files in their order; then of settings, with `__` for the dot of a path."""
    merged: dict = {}
    for name in files:
        merged = merge(merged, yaml.safe_load((CHART / name).read_text()) or {})
    for path, value in settings.items():
        merged = merge(merged, nested(path.replace("__", "."), value))
    return merged


def deployment(*files: str, **settings: object) -> dict:
    """Values of a deployment as documented: with the managed overlay come the hosts of the stores, which
    its command gives."""
    hosts = {}
    if MANAGED in files:
        hosts = {
            "secrets__database__host": "postgres.managed.test",
            "secrets__redis__host": "redis.managed.test",
        }
    return values(*files, **{**hosts, **settings})


def set_strings(*assignments: str) -> dict:
    """What `--set` makes of its arguments, by Helm's own parser."""
    merged: dict = {}
    for assignment in assignments:
        merged = merge(merged, parse_set_string(assignment))
    return merged


@functools.cache
def _loaded() -> Chart:
    return Chart.load(CHART)


@functools.cache
def _rendered(given: str, upgrade: bool) -> str:
    try:
        texts = _loaded().render(
            values=json.loads(given),
            name=RELEASE,
            namespace=NAMESPACE,
            is_install=not upgrade,
            is_upgrade=upgrade,
        )
    except HelmError as error:
        raise Refused(str(error)) from None
    return json.dumps(texts)


def render_texts(given: dict, *, upgrade: bool = False) -> dict[str, str]:
    """Template path -> what it made."""
    return json.loads(_rendered(json.dumps(given, sort_keys=True), upgrade))


@functools.cache
def _parsed(given: str, upgrade: bool) -> str:
    objects = []
    for path, text in json.loads(_rendered(given, upgrade)).items():
        if path.endswith(".yaml"):
            objects += [item for item in yaml.load_all(text, Loader=LOADER) if item]
    return json.dumps(objects)


def render(given: dict, *, upgrade: bool = False) -> list[dict]:
    """The objects that an install or an upgrade with these values makes."""
    return json.loads(_parsed(json.dumps(given, sort_keys=True), upgrade))


def of_kind(objects: Iterable[dict], *kinds: str) -> list[dict]:
    return [item for item in objects if item["kind"] in kinds]


def named(objects: Iterable[dict], kind: str, name: str) -> dict:
    found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def pods(objects: Iterable[dict]) -> dict[str, dict]:
    """Component -> pod template, of every workload and Job."""
    templates = {}
    for item in of_kind(objects, "Deployment", "StatefulSet", "Job"):
        template = item["spec"]["template"]
        templates[template["metadata"]["labels"]["app.kubernetes.io/component"]] = template
    return templates


def container(template: dict) -> dict:
    (only,) = template["spec"]["containers"]
    return only


def environment(template: dict) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(template)["env"]}


def secret_files(template: dict) -> dict[str, tuple[str, str]]:
    """File name under /run/secrets -> the Secret and its key."""
    files = {}
    for volume in template["spec"]["volumes"]:
        if volume["name"] == "secrets":
            for source in volume["projected"]["sources"]:
                for item in source["secret"]["items"]:
                    assert item["path"] not in files, item["path"]
                    files[item["path"]] = (source["secret"]["name"], item["key"])
    return files


def overlays() -> list[tuple[str, ...]]:
    """Every combination of files that is documented as a deployment."""
    clouds = sorted(path.name for path in Path(CHART / "examples").glob("values.*.yaml"))
    apart = [f"examples/{name}" for name in clouds if f"examples/{name}" != MANAGED]
    single = [(), ("values.dev.yaml",), ("values.rc.yaml",)]
    return [
        *single,
        (MANAGED,),
        *((MANAGED, n) for n in apart),
    ]
