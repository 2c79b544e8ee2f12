"""The chart's Secret: what the External Secrets example makes is what the pods mount."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from chart import (
    CHART,
    MANAGED,
    Refused,
    container,
    deployment,
    environment,
    named,
    of_kind,
    overlays,
    pods,
    render,
    render_texts,
    secret_files,
    values,
)
from helm_python import Chart
from place import BINARY, HOLDERS, ROLES, run, succeed

EXAMPLES = CHART / "examples/external-secrets"
STORES = ("secretstore-aws.yaml", "secretstore-gcp.yaml", "secretstore-azure.yaml")
OPTIONAL = {
    "stsAdminToken": "sts-admin-token",
    "auditAdminToken": "audit-admin-token",
    "auditCheckpointKey": "audit-checkpoint-key",
    "idempotencyHmacKey": "idempotency-hmac-key",
}
# What an operator's page names: entry -> its properties.
ENTRIES = {
    "caracal/postgres": {"username", "password", "host", "port", "database"},
    "caracal/redis": {"password", "host", "port", "database"},
    **{
        f"caracal/{name}": {None}
        for name in (
            "zone-kek", "audit-hmac-key", "streams-hmac-key", "gateway-sts-hmac-key", "admin-token",
            "coordinator-token",
        )
    },
}  # fmt: skip
OPTIONAL_ENTRIES = {
    "caracal/sts-admin-token",
    "caracal/audit-admin-token",
    "caracal/metrics-bearer",
}


def key(number: int) -> str:
    return f"{number:02x}9c4e17" * 8


MANAGER = {
    "pgUser": "owner@tenant",
    "pgPassword": "p@ss w/rd:+%",
    "pgHost": "db.test",
    "pgPort": "5432",
    "pgDatabase": "caracal",
    "redisPassword": "r/e d:1+",
    "redisHost": "cache.test",
    "redisPort": "6380",
    "redisDatabase": "0",
    "zoneKek": key(1),
    "auditHmacKey": key(2),
    "streamsHmacKey": key(3),
    "gatewayStsHmacKey": key(4),
    "adminToken": "admin-" + key(5),
    "coordinatorToken": "coordinator-" + key(6),
}


def external_secret() -> dict:
    return yaml.safe_load((EXAMPLES / "externalsecret-runtime.yaml").read_text())


def made(directory: Path, manager: dict[str, str] = MANAGER, **optional: str) -> dict[str, str]:
    """What the operator makes of the manager's entries; its templates are Helm's, by the same library."""
    template = external_secret()["spec"]["target"]["template"]
    (directory / "templates").mkdir(parents=True)
    (directory / "Chart.yaml").write_text("apiVersion: v2\nname: secret\nversion: 0.0.0\n")
    for name, text in template["data"].items():
        with_dot = "{{ with .Values }}" + text + "{{ end }}"
        (directory / f"templates/{name}.txt").write_text(with_dot)
    (literal,) = template["templateFrom"]
    (directory / "templates/literal.txt").write_text(
        "{{ with .Values }}" + literal["literal"] + "{{ end }}"
    )
    given = manager | {OPTIONAL.get(k, k.replace("_", "-")): v for k, v in optional.items()}
    with Chart.load(directory) as chart:
        texts = chart.render(values=given, name="secret", namespace="caracal")
    keys = {Path(path).stem: text for path, text in texts.items()}
    return {**yaml.safe_load(keys.pop("literal")), **keys}


def mounted(objects: list[dict]) -> set[str]:
    """Every key of the runtime Secret that a pod mounts or takes into a variable."""
    keys = set()
    for template in pods(objects).values():
        keys |= {k for name, k in secret_files(template).values() if name == "caracal-runtime"}
        for entry in container(template)["env"]:
            if "valueFrom" in entry:
                keys.add(entry["valueFrom"]["secretKeyRef"]["key"])
    return keys


def everything() -> list[dict]:
    wired = {f"secrets__{name}__secretName": "caracal-runtime" for name in OPTIONAL}
    return render(deployment(MANAGED, **wired))


def test_the_entries_are_those_of_the_page() -> None:
    referred: dict[str, set] = {}
    for item in external_secret()["spec"]["data"]:
        referred.setdefault(item["remoteRef"]["key"], set()).add(item["remoteRef"].get("property"))
    assert referred == ENTRIES


@pytest.mark.parametrize("dash", [False, True])
def test_what_may_be_missing_is_looked_for_by_name(dash: bool) -> None:
    text = (EXAMPLES / "externalsecret-runtime.yaml").read_text()
    if dash:
        (command,) = re.findall(r"sed 's#([^#]+)#([^#]+)#' externalsecret-runtime.yaml", text)
        text = "".join(line.replace(*command, 1) for line in text.splitlines(keepends=True))
    document = yaml.safe_load(text)
    (find,) = document["spec"]["dataFrom"]
    (rewrite,) = find["rewrite"]
    separator = "-" if dash else "/"
    for entry in OPTIONAL_ENTRIES | {"caracal/idempotency-hmac-key"}:
        name = entry.replace("/", separator)
        assert re.search(find["find"]["name"]["regexp"], name)
        short = re.sub(rewrite["regexp"]["source"], rewrite["regexp"]["target"], name)
        assert f'index . "{short}"' in text
    for entry in ENTRIES:
        assert not re.search(find["find"]["name"]["regexp"], entry.replace("/", separator))
    for item in document["spec"]["data"]:
        assert ("/" in item["remoteRef"]["key"]) != dash


def test_it_makes_exactly_the_keys_that_the_pods_mount(tmp_path: Path) -> None:
    least = made(tmp_path / "least")
    assert mounted(render(deployment(MANAGED))) == least.keys()
    most = made(tmp_path / "most", **{name: key(9) for name in OPTIONAL})
    # With its own key the Coordinator is not shown the KEK, which others still mount.
    assert mounted(everything()) == most.keys()
    assert most.keys() - least.keys() == OPTIONAL.keys()


def test_a_rotation_of_the_kek_needs_one_key_more() -> None:
    rotating = mounted(render(deployment(MANAGED, secrets__kekRotation=True)))
    assert rotating - mounted(render(deployment(MANAGED))) == {"secretStoreKekPrevious"}


def test_each_key_reaches_only_its_holders() -> None:
    holders: dict[str, set[str]] = {}
    for name, template in pods(everything()).items():
        for _, secret in secret_files(template).values():
            holders.setdefault(secret, set()).add(name)
    assert holders == HOLDERS


@pytest.mark.parametrize("with_optional", [False, True])
@pytest.mark.parametrize("role", ROLES)
def test_with_the_pages_entries_a_role_accepts_its_configuration(
    role: str, with_optional: bool, tmp_path: Path
) -> None:
    optional = {name: key(9) for name in OPTIONAL} if with_optional else {}
    secret = made(tmp_path / "chart", **optional)
    template = pods(everything() if with_optional else render(deployment(MANAGED)))[role]
    (tmp_path / "run").mkdir()
    for path, (_, name) in secret_files(template).items():
        (tmp_path / "run" / path).write_text(secret[name])
    told = {
        name: value.replace("/run/secrets/", f"{tmp_path}/run/")
        for name, value in environment(template).items()
    }
    told = {"PATH": os.environ["PATH"], "HOME": "/", **told}
    assert "CARACAL_MODE=stable" in succeed(BINARY, "config", "print", "--roles", role, env=told)


def test_a_missing_key_stops_a_role_with_its_name(tmp_path: Path) -> None:
    """The check above would see a key that is not made."""
    template = pods(render(deployment(MANAGED)))["sts"]
    told = {n: v.replace("/run/secrets/", f"{tmp_path}/") for n, v in environment(template).items()}
    refused = run(
        BINARY, "config", "print", "--roles", "sts", env={"PATH": os.environ["PATH"], **told}
    )
    assert refused.returncode != 0
    assert "SECRET_STORE_KEK" in refused.stdout + refused.stderr


def test_urls_carry_any_password_and_check_whom_they_reach(tmp_path: Path) -> None:
    secret = made(tmp_path)
    admin = urlsplit(secret["databaseUrl"])
    assert unquote(admin.username) == MANAGER["pgUser"]
    assert unquote(admin.password) == MANAGER["pgPassword"]
    assert (admin.hostname, admin.port, admin.path) == ("db.test", 5432, "/caracal")
    assert admin.query == "sslmode=verify-full"
    cache = urlsplit(secret["redisUrl"])
    assert (cache.scheme, cache.hostname, cache.port, cache.path) == (
        "rediss",
        "cache.test",
        6380,
        "/0",
    )
    assert unquote(cache.password) == MANAGER["redisPassword"]
    for role in ROLES:
        own = urlsplit(secret[f"{role}DatabaseUrl"])
        assert own.username == f"caracal{role}"
        assert own.password == secret[f"{role}DbPassword"]
        assert own.query == "sslmode=verify-full"


def test_logins_are_told_apart_and_follow_their_root(tmp_path: Path) -> None:
    def logins(number: int, changed: dict[str, str], **optional: str) -> list[str]:
        secret = made(tmp_path / str(number), MANAGER | changed, **optional)
        return [secret[f"{role}DbPassword"] for role in ROLES]

    plain = logins(1, {})
    assert len(set(plain)) == len(ROLES)
    assert all(re.fullmatch("[0-9a-f]{64}", password) for password in plain)
    assert logins(2, {"pgPassword": "another"}) != plain
    assert logins(3, {"zoneKek": key(7)}) != plain
    rooted = logins(4, {}, database_login_root="root")
    assert rooted == logins(
        5, {"pgPassword": "another", "zoneKek": key(7)}, database_login_root="root"
    )
    assert rooted != plain


@pytest.mark.parametrize("name", STORES)
def test_any_store_serves_the_one_external_secret(name: str) -> None:
    namespace, account, store = yaml.safe_load_all((EXAMPLES / name).read_text())
    assert (namespace["kind"], namespace["metadata"]["name"]) == ("Namespace", "caracal")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    wanted = external_secret()
    reference = wanted["spec"]["secretStoreRef"]
    assert (store["kind"], store["metadata"]["name"]) == (reference["kind"], reference["name"])
    assert store["apiVersion"] == wanted["apiVersion"] == "external-secrets.io/v1"
    assert store["metadata"]["namespace"] == wanted["metadata"]["namespace"] == "caracal"
    (provider,) = store["spec"]["provider"].values()
    found = re.findall(r"'serviceAccountRef': \{'name': '([^']+)'\}", str(provider))
    assert found == [account["metadata"]["name"]]
    # No static credential of any cloud.
    assert "secretRef" not in str(store)


def test_the_target_is_the_secret_that_the_chart_reads() -> None:
    with Chart.load(CHART) as chart:
        assert (
            chart.values["secrets"]["runtimeSecretName"]
            == external_secret()["spec"]["target"]["name"]
        )
    assert external_secret()["metadata"]["name"] == "caracal-runtime"


@pytest.mark.parametrize("files", overlays(), ids=str)
def test_no_overlay_renders_a_secret(files: tuple[str, ...]) -> None:
    assert of_kind(render(deployment(*files)), "Secret") == []
    for path, text in render_texts(deployment(*files)).items():
        assert not re.search(r"(?i)postgres://|redis(s)?://", text), path


PLAINTEXT = {
    f"secrets__plaintext__{name}": value
    for name, value in {
        "postgresPassword": "p w", "redisPassword": "r/e d:1", "caracalAdminToken": "a" * 32,
        "caracalCoordinatorToken": "c" * 32, "metricsBearer": "m" * 32, "secretStoreKek": key(1),
        "auditHmacKey": key(2), "streamsHmacKey": key(3), "gatewayStsHmacKey": key(4),
    }.items()
}  # fmt: skip


def test_an_evaluation_gets_a_secret_with_every_key_that_is_mounted() -> None:
    objects = render(values("values.dev.yaml", secrets__create=True, **PLAINTEXT))
    secret = named(objects, "Secret", "caracal-runtime")
    assert secret["stringData"].keys() == mounted(objects)
    assert secret["stringData"]["redisUrl"].startswith("redis://:r%2Fe%20d%3A1@")
    assert urlsplit(secret["stringData"]["databaseUrl"]).query == "sslmode=disable"
    job = named(objects, "Job", "caracal-caracal-migrate")
    weight = "helm.sh/hook-weight"
    assert int(secret["metadata"]["annotations"][weight]) < int(
        job["metadata"]["annotations"][weight]
    )


@pytest.mark.parametrize("missing", sorted(PLAINTEXT))
def test_an_evaluation_names_the_value_that_is_missing(missing: str) -> None:
    given = {name: value for name, value in PLAINTEXT.items() if name != missing}
    with pytest.raises(Refused, match=re.escape(missing.replace("__", "."))):
        render(values("values.dev.yaml", secrets__create=True, **given))


def test_the_metrics_bearer_may_be_elsewhere() -> None:
    objects = render(
        values(secrets__metricsBearer__secretName="scrape", secrets__metricsBearer__key="token")
    )
    for role in ROLES:
        assert secret_files(pods(objects)[role])["metricsBearer"] == ("scrape", "token")
    assert "metricsBearer" not in mounted(objects)


@pytest.mark.parametrize("kind", ["configMap", "secret"])
def test_a_bundle_of_certificates_reaches_every_pod(kind: str) -> None:
    objects = render(
        values(**{f"tls__caBundle__{kind}Name": "roots", "tls__caBundle__key": "bundle.pem"})
    )
    for name, template in pods(objects).items():
        assert environment(template)["CARACAL_TLS_EXTRA_CA_FILE"] == "/run/ca/ca.crt", name
        (volume,) = [v for v in template["spec"]["volumes"] if v["name"] == "ca"]
        (source,) = volume["projected"]["sources"]
        assert source == {
            kind: {"name": "roots", "items": [{"key": "bundle.pem", "path": "ca.crt"}]}
        }
        assert {"name": "ca", "mountPath": "/run/ca", "readOnly": True} in container(template)[
            "volumeMounts"
        ]
