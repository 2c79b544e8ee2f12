"""The chart's objects: whole, valid, and the same system as Compose and systemd describe."""

from __future__ import annotations

import functools
import os
import re
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from chart import (
    CHART,
    MANAGED,
    PREFIX,
    Refused,
    container,
    deployment,
    environment,
    merge,
    named,
    nested,
    of_kind,
    overlays,
    pods,
    render,
    render_texts,
    secret_files,
    values,
)
from composition import load, secrets_of
from helm_python import Chart, lint, package
from kubernetes_validate import utils as kubernetes
from place import BINARY, INFRA, PORTS, REPOSITORY, ROLES, succeed

OLDEST = "1.30"
VERSIONS = [v for v in kubernetes.all_versions() if tuple(map(int, v.split(".")[:2])) >= (1, 30)]
SCHEMAS = functools.cache(kubernetes.schema_contents)
KEEPS_EVIDENCE = {"sts", "gateway", "api"}
CUSTOM = {"ServiceMonitor", "PrometheusRule", "HTTPRoute", "BackendConfig"}
ALL_OVERLAYS = overlays()
IDS = [
    "+".join(Path(name).stem.removeprefix("values.") for name in files) or "defaults"
    for files in ALL_OVERLAYS
]


@pytest.fixture(params=ALL_OVERLAYS, ids=IDS)
def objects(request: pytest.FixtureRequest) -> list[dict]:
    return render(deployment(*request.param))


@pytest.fixture(scope="module")
def defaults() -> list[dict]:
    return render({})


def test_the_chart_has_the_version_of_the_binary() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    with (REPOSITORY / "Cargo.toml").open("rb") as manifest:
        version = tomllib.load(manifest)["workspace"]["package"]["version"]
    assert chart["version"] == version
    assert chart["appVersion"] == version


def test_helm_finds_nothing_to_complain_about() -> None:
    report = lint(CHART, strict=True)
    assert report["errors"] == []
    # An icon is a matter of taste.
    assert [m for m in report["messages"] if m["severity"] > 1] == []


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_every_object_is_valid_kubernetes(
    version: str, objects: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    # It reads megabytes of schemas for each object otherwise.
    monkeypatch.setattr(kubernetes, "schema_contents", SCHEMAS)
    for item in objects:
        if item["kind"] not in CUSTOM:
            kubernetes.validate(item, version, strict=True)


def test_the_validation_sees_a_field_that_does_not_exist(objects: list[dict]) -> None:
    item = named(objects, "Service", f"{PREFIX}-sts")
    item["spec"]["portz"] = []
    with pytest.raises(kubernetes.ValidationError, match="portz"):
        kubernetes.validate(item, VERSIONS[0], strict=True)


def test_the_oldest_cluster_is_the_one_that_the_chart_demands() -> None:
    assert VERSIONS[0].startswith(OLDEST)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"


def test_no_two_objects_have_one_name(objects: list[dict]) -> None:
    seen = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(seen) == len(set(seen))
    for item in objects:
        assert item["metadata"]["namespace"] == "caracal"


def test_every_role_has_a_workload_and_a_service(objects: list[dict]) -> None:
    workloads = {o["metadata"]["name"] for o in of_kind(objects, "Deployment", "StatefulSet")}
    assert workloads == {f"{PREFIX}-{role}" for role in ROLES}
    for role in ROLES:
        service = named(objects, "Service", f"{PREFIX}-{role}")
        ports = {port["name"]: port for port in service["spec"]["ports"]}
        assert ports["http"]["port"] == PORTS[role]
        template = pods(objects)[role]
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        opened = {port["name"] for port in container(template)["ports"]}
        assert {port["targetPort"] for port in ports.values()} == opened


def test_one_image_told_apart_by_an_argument(objects: list[dict]) -> None:
    compose = load()["services"]
    templates = pods(objects)
    assert len({container(template)["image"] for template in templates.values()}) == 1
    assert templates.keys() == {*ROLES, "migrate"}
    for name, template in templates.items():
        assert container(template)["args"] == compose[name]["command"]
        assert "command" not in container(template)


def test_the_image_carries_the_v_that_the_chart_does_not(defaults: list[dict]) -> None:
    image = container(pods(defaults)["sts"])["image"]
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert image == f"ghcr.io/garudex-labs/caracal:v{version}"
    digest = f"sha256:{'0' * 64}"
    pinned = render(values(global__tag="1.2.3", global__digest=digest))
    assert container(pods(pinned)["sts"])["image"].endswith(f"/caracal:v1.2.3@{digest}")


@pytest.mark.parametrize("role", ROLES)
def test_a_role_gets_only_variables_that_it_reads(
    role: str, variables: dict, objects: list[dict]
) -> None:
    known = variables[role]
    names = known.keys() | {f"{name}_FILE" for name, row in known.items() if row["file"]}
    assert environment(pods(objects)[role]).keys() - names == set()


def test_the_migration_gets_only_variables_that_it_reads(
    schema: list[dict], objects: list[dict]
) -> None:
    names = {row["name"] for row in schema} | {f"{r['name']}_FILE" for r in schema if r["file"]}
    assert environment(pods(objects)["migrate"]).keys() - names == set()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_gets_every_variable_that_it_needs(
    role: str, variables: dict, objects: list[dict]
) -> None:
    given = {name.removesuffix("_FILE") for name in environment(pods(objects)[role])}
    needed = {n for n, row in variables[role].items() if row["need"].startswith("required")}
    assert needed - given == set()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_told_what_compose_tells_it(role: str, defaults: list[dict]) -> None:
    """One definition of role, environment and secret: what differs is named here."""
    compose = load()["services"][role]
    everything = render(
        values(
            global__environment="here",
            services__gateway__upstreamHostAllowlist=["a.test"],
            **{
                f"secrets__{key}__secretName": "caracal-runtime"
                for key in (
                    "stsAdminToken",
                    "auditAdminToken",
                    "auditCheckpointKey",
                    "idempotencyHmacKey",
                )
            },
        )
    )
    ours = environment(pods(everything)[role])
    # Limits and lists that Compose takes from .env and the chart from extraEnv.
    tuning = {
        "CARACAL_PRIVATE_EGRESS_HOSTS", "STS_MINT_RATE_LIMIT_PER_MIN", "STS_SECRET_VERIFY_CONCURRENCY",
        "STREAM_IDLE_TIMEOUT", "MAX_AGENTS_PER_ZONE", "MAX_AGENTS_PER_APP", "AUDIT_RETENTION_DAYS",
    }  # fmt: skip
    assert compose["environment"].keys() - ours.keys() <= tuning
    files = {name for name in compose["environment"] if name.endswith("_FILE")}
    assert {name for name in ours if name.endswith("_FILE")} == files
    sources = {key for _, key in secret_files(pods(everything)[role]).values()}
    assert sources == set(secrets_of(compose).values())


@pytest.mark.parametrize("role", ROLES)
def test_the_binary_accepts_the_roles_configuration(
    role: str, objects: list[dict], tmp_path: Path
) -> None:
    """Exactly what the container would see, with the secrets where the tests have them."""
    template = pods(objects)[role]
    for number, name in enumerate(secret_files(template)):
        content = (
            "redis://cache.test:6379/0" if name == "redisUrl" else f"{number:02x}" * 3 + "a7" * 29
        )
        if name.endswith("DatabaseUrl"):
            content = "postgres://u:p@db.test:5432/caracal?sslmode=verify-full"
        (tmp_path / name).write_text(content)
    given = environment(template)
    for name, value in given.items():
        given[name] = re.sub(r"^/run/secrets/", f"{tmp_path}/", value)
    told = {"PATH": os.environ["PATH"], "HOME": "/", **given}
    if told.get("CARACAL_TLS_EXTRA_CA_FILE"):
        told["CARACAL_TLS_EXTRA_CA_FILE"] = "/etc/ssl/certs/ca-certificates.crt"
    printed = succeed(BINARY, "config", "print", "--roles", role, env=told)
    assert f"CARACAL_MODE={given['CARACAL_MODE']}" in printed
    assert "REDIS_URL=***" in printed


def test_no_secret_is_in_a_variable(objects: list[dict], schema: list[dict]) -> None:
    secret = {
        row["name"]
        for row in schema
        if row["secret"] or row["name"].endswith("_URL") and row["file"]
    }
    for name, template in pods(objects).items():
        assert environment(template).keys() & secret == set(), name
        for entry in container(template)["env"]:
            assert "valueFrom" not in entry
        assert "envFrom" not in container(template)


def test_each_file_that_is_named_is_there_and_each_that_is_there_is_named(
    objects: list[dict],
) -> None:
    for name, template in pods(objects).items():
        mounted = {mount["name"]: mount for mount in container(template)["volumeMounts"]}
        assert mounted.keys() == {volume["name"] for volume in template["spec"]["volumes"]} | (
            {"replay"} if "replay" in mounted else set()
        )
        assert mounted["secrets"] == {
            "name": "secrets",
            "mountPath": "/run/secrets",
            "readOnly": True,
        }
        said = {
            value.removeprefix("/run/secrets/")
            for key, value in environment(template).items()
            if value.startswith("/run/secrets/") and key.endswith("_FILE")
        }
        assert said == secret_files(template).keys(), name


def test_who_keeps_evidence_keeps_it_on_a_volume(defaults: list[dict]) -> None:
    for role in ROLES:
        kind = "StatefulSet" if role in KEEPS_EVIDENCE else "Deployment"
        workload = named(defaults, kind, f"{PREFIX}-{role}")
        mounts = {
            m["mountPath"]: m["name"]
            for m in container(workload["spec"]["template"])["volumeMounts"]
        }
        place = environment(workload["spec"]["template"]).get("AUDIT_REPLAY_DIR")
        if role in KEEPS_EVIDENCE:
            assert place == "/var/lib/caracal/audit-replay"
            assert mounts["/var/lib/caracal"] == "replay"
            (claim,) = workload["spec"]["volumeClaimTemplates"]
            assert claim["metadata"]["name"] == "replay"
            kept = workload["spec"]["persistentVolumeClaimRetentionPolicy"]
            assert kept == {"whenDeleted": "Retain", "whenScaled": "Retain"}
        else:
            assert place is None
            assert "/var/lib/caracal" not in mounts


def test_without_volumes_every_role_is_a_deployment() -> None:
    objects = render(values(replayPersistence__enabled=False))
    assert of_kind(objects, "StatefulSet") == []
    for role in KEEPS_EVIDENCE:
        volumes = {volume["name"]: volume for volume in pods(objects)[role]["spec"]["volumes"]}
        assert volumes["replay"]["emptyDir"] == {"sizeLimit": "1Gi"}


def test_nothing_immutable_carries_a_version(tmp_path: Path) -> None:
    def immutable(objects: list[dict]) -> list[object]:
        return [
            (
                item["metadata"]["name"],
                item["spec"]["selector"],
                item["spec"].get("serviceName"),
                item["spec"].get("volumeClaimTemplates"),
                item["spec"].get("podManagementPolicy"),
            )
            for item in of_kind(objects, "Deployment", "StatefulSet")
        ]

    with Chart.load(CHART) as chart:
        chart.save_dir(tmp_path)
    newer = tmp_path / "caracal/Chart.yaml"
    newer.write_text(re.sub(r"(?m)^(version|appVersion): .*$", r"\1: 9.9.9", newer.read_text()))
    with Chart.load(tmp_path / "caracal") as chart:
        texts = chart.render(values={}, name="caracal", namespace="caracal")
    later = [d for n, t in texts.items() if n.endswith(".yaml") for d in yaml.safe_load_all(t) if d]
    assert "9.9.9" in container(pods(later)["sts"])["image"]
    assert immutable(later) == immutable(render({}))


@pytest.mark.parametrize("role", ROLES)
def test_probes_ask_what_the_role_answers(role: str, objects: list[dict]) -> None:
    own = container(pods(objects)[role])
    opened = {port["name"] for port in own["ports"]}
    for probe, path in (
        ("startupProbe", "/health"),
        ("livenessProbe", "/health"),
        ("readinessProbe", "/ready"),
    ):
        asked = own[probe]["httpGet"]
        assert asked["path"] == path
        assert asked["port"] in opened
        # A role gives its checks two seconds.
        assert own[probe]["timeoutSeconds"] > 2
    # Below the 120 readiness calls a minute that one address has.
    assert 60 / own["readinessProbe"]["periodSeconds"] < 120


def test_operations_have_a_port_of_their_own_or_the_roles() -> None:
    apart = render({})
    for role in ROLES:
        assert environment(pods(apart)[role])["CARACAL_OPS_PORT"] == "9464"
        assert container(pods(apart)[role])["readinessProbe"]["httpGet"]["port"] == "ops"
    together = render(values(global__opsPort=0))
    for role in ROLES:
        assert "CARACAL_OPS_PORT" not in environment(pods(together)[role])
        own = container(pods(together)[role])
        assert own["readinessProbe"]["httpGet"]["port"] == "http"
        assert [port["name"] for port in own["ports"]] == ["http"]


def test_a_pod_has_the_time_it_takes_to_stop(objects: list[dict], variables: dict) -> None:
    grace = int(variables["api"]["SHUTDOWN_GRACE_MS"]["default"]) / 1000
    for role in ROLES:
        spec = pods(objects)[role]["spec"]
        pause = container(pods(objects)[role])["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pause > 0
        assert spec["terminationGracePeriodSeconds"] > pause + grace


def test_a_roll_takes_no_replica_away_before_another_is_there(defaults: list[dict]) -> None:
    for workload in of_kind(defaults, "Deployment"):
        rolling = workload["spec"]["strategy"]["rollingUpdate"]
        assert rolling == {"maxUnavailable": 0, "maxSurge": 1}
    for workload in of_kind(defaults, "StatefulSet"):
        # One at a time, of at least two.
        assert workload["spec"]["updateStrategy"] == {"type": "RollingUpdate"}
        scaler = named(defaults, "HorizontalPodAutoscaler", workload["metadata"]["name"])
        assert scaler["spec"]["minReplicas"] >= 2


def test_the_migration_is_done_before_a_role_starts(objects: list[dict]) -> None:
    job = named(objects, "Job", f"{PREFIX}-migrate")
    account = named(objects, "ServiceAccount", f"{PREFIX}-migrate")
    weights = []
    for item in (account, job):
        notes = item["metadata"]["annotations"]
        assert notes["helm.sh/hook"] == "pre-install,pre-upgrade"
        weights.append(int(notes["helm.sh/hook-weight"]))
    assert weights == sorted(weights)
    assert job["spec"]["template"]["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert job["spec"]["activeDeadlineSeconds"] > 0
    off = render(values(migrations__enabled=False))
    assert "migrate" not in pods(off)


def test_pods_roll_when_their_secrets_are_said_to_have_changed() -> None:
    def sums(**settings: object) -> dict[str, str]:
        templates = pods(render(values(**settings)))
        return {r: templates[r]["metadata"]["annotations"]["checksum/secrets"] for r in ROLES}

    assert sums() == sums()
    for role, before in sums().items():
        assert sums(secrets__revision="2")[role] != before


def test_strings_of_affinity_are_templates(defaults: list[dict]) -> None:
    for role in ROLES:
        spec = pods(defaults)[role]["spec"]
        (spread,) = spec["topologySpreadConstraints"]
        labels = pods(defaults)[role]["metadata"]["labels"]
        assert spread["labelSelector"]["matchLabels"] == labels
        (preferred,) = spec["affinity"]["podAntiAffinity"][
            "preferredDuringSchedulingIgnoredDuringExecution"
        ]
        assert preferred["podAffinityTerm"]["labelSelector"]["matchLabels"] == labels
    renamed = pods(render(values(nameOverride="authority")))["sts"]
    (spread,) = renamed["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == renamed["metadata"]["labels"]


def test_a_role_that_is_off_leaves_nothing_behind() -> None:
    objects = render(values(services__audit__enabled=False))
    for item in objects:
        assert item["metadata"]["name"] != f"{PREFIX}-audit", item["kind"]


def test_the_pods_meet_the_restricted_standard(objects: list[dict]) -> None:
    for name, template in pods(objects).items():
        spec = template["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & spec.keys()
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for volume in spec["volumes"]:
            (kind,) = volume.keys() - {"name"}
            assert kind in {"projected", "emptyDir"}, name
        for own in [*spec["containers"], *spec.get("initContainers", [])]:
            context = own["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert own["resources"]["limits"].keys() == {"cpu", "memory"}
            assert all("hostPort" not in port for port in own.get("ports", []))


def test_the_pods_run_as_the_images_user(objects: list[dict]) -> None:
    dockerfile = (INFRA / "image/Dockerfile").read_text()
    for template in pods(objects).values():
        context = template["spec"]["securityContext"]
        assert f"USER {context['runAsUser']}:{context['runAsGroup']}\n" in dockerfile
        assert context["fsGroup"] == context["runAsGroup"]


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"global": {"mode": "Stable"}}, "/global/mode"),
        ({"global": {"mode": "prod"}}, "/global/mode"),
        ({"global": {"modee": "stable"}}, "/global"),
        ({"global": {"tag": "v1.0.0"}}, "/global/tag"),
        ({"global": {"registry": "registry.test/"}}, "/global/registry"),
        ({"global": {"logLevel": "verbose"}}, "/global/logLevel"),
        ({"secretz": {}}, "': additional properties 'secretz'"),
        ({"secrets": {"database": {"sslMode": "verify"}}}, "/secrets/database/sslMode"),
        ({"secrets": {"database": {"port": "5432"}}}, "/secrets/database/port"),
        ({"secrets": {"plaintext": {"kek": "00"}}}, "/secrets/plaintext"),
        ({"services": {"web": {"enabled": True}}}, "/services"),
        ({"services": {"sts": {"port": 8443}}}, "/services/sts/port"),
        ({"services": {"sts": {"replicas": "2"}}}, "/services/sts/replicas"),
        ({"services": {"sts": {"trustProxy": True}}}, "/services/sts"),
        ({"services": {"sts": {"issuerUrl": "sts.test"}}}, "/services/sts/issuerUrl"),
        ({"services": {"sts": {"issuerUrl": "https://a:b@sts.test"}}}, "/services/sts/issuerUrl"),
        ({"services": {"sts": {"resources": {"limit": {}}}}}, "/services/sts/resources"),
        (
            {"networkPolicy": {"dnsEgress": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}},
            "/networkPolicy/dnsEgress/0",
        ),
        (
            {"networkPolicy": {"extraEgress": [{"ports": [{"port": 443}]}]}},
            "/networkPolicy/extraEgress/0",
        ),
        (
            {"networkPolicy": {"extraIngress": [{"from": [], "ports": [{"port": 1}]}]}},
            "/networkPolicy/extraIngress/0",
        ),
        ({"ingress": {"audit": {"enabled": True}}}, "/ingress"),
        ({"ingress": {"gateway": {"hosts": []}}}, "/ingress/gateway"),
        ({"replayPersistence": {"size": "1GB"}}, "/replayPersistence/size"),
        ({"alertRules": {"auditDlqSize": "0"}}, "/alertRules/auditDlqSize"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_the_schema_refuses(wrong: dict, place: str) -> None:
    with pytest.raises(Refused) as refused:
        render(wrong)
    assert f"- at '{place}" in str(refused.value)


def test_every_value_has_a_place_in_the_schema_and_the_other_way_round() -> None:
    with Chart.load(CHART) as chart:
        schema, shipped = chart.schema, chart.values

    def compare(path: str, node: dict, value: object) -> None:
        if "$ref" in node:
            node = schema["definitions"][node["$ref"].rsplit("/", 1)[1]]
        if node.get("additionalProperties") is False and isinstance(value, dict):
            optional = {"nameOverride", "fullnameOverride", "claims"}
            assert node["properties"].keys() - value.keys() <= optional, path
            assert value.keys() <= node["properties"].keys(), path
            for key, inner in value.items():
                compare(f"{path}.{key}", node["properties"][key], inner)

    compare("", schema, shipped)


# Values under which every other value has something to say.
EVERYTHING_ON = deployment(
    MANAGED,
    global__mode="rc",
    global__evaluation=True,
    global__podLabels={"a": "b"},
    secrets__create=True,
    secrets__kekRotation=True,
    secrets__plaintext={
        "postgresPassword": "p", "redisPassword": "r", "caracalAdminToken": "a",
        "caracalCoordinatorToken": "c", "metricsBearer": "m", "secretStoreKek": "k",
        "auditHmacKey": "h", "streamsHmacKey": "s", "gatewayStsHmacKey": "g",
    },
    **{
        f"secrets__{name}__secretName": "caracal-runtime"
        for name in ("stsAdminToken", "auditAdminToken", "auditCheckpointKey", "idempotencyHmacKey")
    },
    tls__caBundle__configMapName="roots",
    ingress__coordinator={"enabled": True, "host": "coordinator.test", "tlsSecretName": "tls"},
    services__api__hpa__enabled=False,
    services__sts__hpa__enabled=False,
    services__coordinator__hpa__enabled=False,
    services__audit__hpa__enabled=False,
    services__gateway__hpa__enabled=False,
    **{
        f"httpRoute__{role}": {"enabled": True, "hostnames": ["h.test"], "parentRefs": [{"name": "g"}]}
        for role in ("sts", "gateway", "api", "coordinator")
    },
)  # fmt: skip
PEER = {"ipBlock": {"cidr": "10.99.0.0/24"}}
PORT = {"protocol": "TCP", "port": 4242}
NAMED = {"name": "other", "mountPath": "/other"}
SAMPLES = [
    "other", "https://other.test", "other.test", "9Gi", "60%", "sha256:" + "1" * 64, "Always", "dev", "warn",
    "require", True, 7, {"a": "other"}, [NAMED], [{"name": "other"}], ["other.test"],
    [{"to": [PEER], "ports": [PORT]}], [{"from": [PEER], "ports": [PORT]}], [PEER],
    ["ReadWriteMany"], [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}}],
    [{"configMapRef": {"name": "other"}}], {"requests": {"cpu": "3"}}, ["other"],
]  # fmt: skip


def test_no_value_is_read_by_nothing() -> None:
    """Each value changes what is rendered, somewhere; or has a test of its own, named here."""
    with Chart.load(CHART) as chart:
        shipped = chart.values
    elsewhere = {
        "services.*.port",  # The schema refuses any other.
        "services.*.hpa.*",  # Below; with it on, replicas would say nothing.
        "ingress.*.tlsByController",  # The guards read it.
        "secrets.plaintext.*",  # The evaluation's tests.
        "tls.caBundle.secretName",  # Not beside configMapName.
        "secrets.create", "global.evaluation",  # The guards' tests.
        "serviceMonitor.*", "alertRules.*", "dashboards.*",  # Monitoring's tests.
    }  # fmt: skip

    def leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
        if isinstance(value, dict) and value and not path.endswith(("affinity", "resources")):
            for name, inner in value.items():
                yield from leaves(f"{path}.{name}" if path else name, inner)
        else:
            yield path, value

    plain = render_texts(EVERYTHING_ON)
    silent = []
    for path, value in leaves("", shipped):
        if any(fnmatch(path, pattern) for pattern in elsewhere):
            continue
        candidates = [True, False] if isinstance(value, bool) else SAMPLES
        if isinstance(value, int | float) and not isinstance(value, bool):
            candidates = [value + 1, value - 1]
        for candidate in candidates:
            if isinstance(value, str | list | dict) and type(candidate) is not type(value):
                continue
            try:
                changed = render_texts(merge(EVERYTHING_ON, nested(path, candidate)))
            except Refused:
                continue
            if changed != plain:
                break
        else:
            silent.append(path)
    assert not silent


def test_each_scaling_value_is_read() -> None:
    for name, value in (
        ("minReplicas", 3), ("maxReplicas", 9), ("targetCPUUtilizationPercentage", 1),
        ("targetMemoryUtilizationPercentage", 0), ("enabled", False),
    ):  # fmt: skip
        for role in ROLES:
            assert render(values(**{f"services__{role}__hpa__{name}": value})) != render({})


def test_the_readme_is_current() -> None:
    generated = succeed(sys.executable, INFRA / "helm/README.generate")
    assert (CHART / "README.md").read_text() == generated, (
        "run infra/helm/README.generate >infra/helm/caracal/README.md"
    )


def test_the_package_holds_what_an_operator_needs(tmp_path: Path) -> None:
    archive = package(CHART, destination=tmp_path)
    with tarfile.open(archive) as contents:
        names = {name.removeprefix("caracal/") for name in contents.getnames()}
    for wanted in (
        "README.md",
        "values.schema.json",
        "values.production.yaml",
        "templates/NOTES.txt",
    ):
        assert wanted in names
    for path in (CHART / "examples").rglob("*.yaml"):
        assert str(path.relative_to(CHART)) in names
