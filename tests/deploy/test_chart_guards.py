"""What the chart refuses to render, and the sentence that says what to set."""

from __future__ import annotations

import re
import shlex

import pytest
from chart import (
    CHART,
    MANAGED,
    PREFIX,
    Refused,
    deployment,
    merge,
    of_kind,
    render,
    render_texts,
    set_strings,
    values,
)
from helm_python import lint

CLOUDS = ("examples/values.eks.yaml", "examples/values.gke.yaml", "examples/values.aks.yaml")
HOSTS = ("secrets.database.host=db.internal.test", "secrets.redis.host=cache.internal.test")
PLAIN = {"postgresPassword": "x"}


def refused(given: dict) -> str:
    with pytest.raises(Refused) as said:
        render(given)
    return str(said.value)


def test_the_pages_command_renders() -> None:
    command = """helm upgrade --install caracal infra/helm/caracal
      --namespace caracal --create-namespace
      -f infra/helm/caracal/examples/values.cloud-managed.yaml
      --set secrets.database.host=managed-postgres-host
      --set secrets.redis.host=managed-redis-host"""
    words = shlex.split(command)
    files = [
        words[i + 1].removeprefix("infra/helm/caracal/") for i, w in enumerate(words) if w == "-f"
    ]
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    for upgrade in (False, True):
        objects = render(merge(values(*files), set_strings(*sets)), upgrade=upgrade)
        assert {o["metadata"]["name"] for o in of_kind(objects, "Ingress")} == {
            f"{PREFIX}-{role}" for role in ("sts", "gateway", "api")
        }


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ((), "secrets.database.host"),
        (HOSTS[:1], "secrets.redis.host"),
        (HOSTS[1:], "secrets.database.host"),
    ],
)
def test_the_pages_command_fails_fast_without_a_host(given: tuple[str, ...], missing: str) -> None:
    assert f"set {missing}" in refused(merge(values(MANAGED), set_strings(*given)))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_clouds_overlay_renders_with_the_same_two_settings(cloud: str) -> None:
    assert render(merge(values(MANAGED, cloud), set_strings(*HOSTS)))
    report = lint(CHART, merge(values(MANAGED, cloud), set_strings(*HOSTS)), strict=True)
    assert report["errors"] == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"secrets__create": True}, "secrets.create=true is forbidden when global.mode=stable"),
        ({"global__evaluation": True}, "set global.evaluation=false"),
        (
            {"secrets__database__host": "postgres.default.svc.cluster.local"},
            "externally managed HA Postgres: set secrets.database.host",
        ),
        (
            {"secrets__redis__host": "redis.default.svc.cluster.local"},
            "externally managed HA Redis: set secrets.redis.host",
        ),
        ({"networkPolicy__enabled": False}, "set networkPolicy.enabled=true"),
        ({"networkPolicy__dnsEgress": []}, "configure networkPolicy.dnsEgress"),
        ({"networkPolicy__extraIngress": []}, "configure networkPolicy.extraIngress"),
        ({"networkPolicy__extraEgress": []}, "set networkPolicy.postgres and networkPolicy.redis"),
        ({"services__sts__issuerUrl": ""}, "Set services.sts.issuerUrl to the https origin"),
        (
            {"services__sts__issuerUrl": "http://sts.your-domain.example"},
            "Set services.sts.issuerUrl",
        ),
        ({"services__sts__issuerUrl": "https://other.your-domain.example"}, "make them the same"),
        ({"ingress__gateway__tlsSecretName": ""}, "set ingress.gateway.tlsSecretName"),
        ({"ingress__api__tlsSecretName": ""}, "set ingress.api.tlsSecretName"),
        (
            {"ingress__gateway__host": "gateway.caracal.example.com"},
            "ingress.gateway.host is the chart's example",
        ),
        (
            {"ingress__api__host": "api.caracal.example.com"},
            "ingress.api.host is the chart's example",
        ),
    ],
)
def test_stable_refuses(settings: dict, sentence: str) -> None:
    assert sentence in refused(deployment(MANAGED, **settings))


def test_production_alone_says_what_is_missing_until_nothing_is() -> None:
    given = values("values.production.yaml")
    for sentence, settings in (
        ("secrets.database.host", {"secrets__database__host": "db.test"}),
        ("secrets.redis.host", {"secrets__redis__host": "cache.test"}),
        ("networkPolicy.dnsEgress", {"networkPolicy__allowOpenDns": True}),
        (
            "networkPolicy.postgres",
            {
                "networkPolicy__postgres": [{"ipBlock": {"cidr": "10.0.0.0/24"}}],
                "networkPolicy__redis": [{"ipBlock": {"cidr": "10.0.1.0/24"}}],
            },
        ),
        ("services.sts.issuerUrl", {"services__sts__issuerUrl": "https://sts.test"}),
    ):
        assert sentence in refused(given)
        given = merge(given, values(**settings))
    assert of_kind(render(given), "Ingress") == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"secrets__create": True}, "set global.evaluation=true"),
        ({"httpRoute__gateway__enabled": True}, "set httpRoute.gateway.parentRefs"),
        ({"global__opsPort": 8081}, "global.opsPort is the port of gateway"),
        (
            {"services__sts__hpa": {"minReplicas": 9}},
            "services.sts.hpa.minReplicas is more than maxReplicas",
        ),
        ({"scheduling__preStopSleepSeconds": 20}, "set scheduling.terminationGracePeriodSeconds"),
        (
            {"tls__caBundle": {"configMapName": "a", "secretName": "b"}},
            "set configMapName or secretName, not both",
        ),
    ],
)
def test_every_mode_refuses(settings: dict, sentence: str) -> None:
    assert sentence in refused(values(**settings))


def test_what_is_not_published_needs_no_certificate() -> None:
    given = deployment(MANAGED, ingress__gateway__enabled=False, ingress__gateway__tlsSecretName="")
    assert len(of_kind(render(given), "Ingress")) == 2


def test_the_load_balancer_may_have_the_certificate() -> None:
    given = deployment(
        MANAGED, ingress__gateway__tlsSecretName="", ingress__gateway__tlsByController=True
    )
    assert render(given)


def test_the_notes_say_what_to_check_next() -> None:
    (notes,) = [
        t for path, t in render_texts(deployment(MANAGED)).items() if path.endswith("NOTES.txt")
    ]
    for wanted in (
        "get externalsecret caracal-runtime",
        "get certificate caracal-gateway-tls", "get certificate caracal-api-tls",
        "https://sts.caracal.your-domain.example", "service/caracal-caracal-api 3000:3000",
    ):  # fmt: skip
        assert wanted in notes
    (inside,) = [t for path, t in render_texts(values()).items() if path.endswith("NOTES.txt")]
    assert "set services.sts.issuerUrl" in inside
    assert not re.search(r"<no value>|%!", notes + inside)
