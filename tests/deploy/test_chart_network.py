"""Who reaches whom in the cluster, and what of it the outside reaches."""

from __future__ import annotations

import ipaddress

import pytest
from chart import (
    MANAGED,
    PREFIX,
    container,
    deployment,
    merge,
    named,
    of_kind,
    overlays,
    pods,
    render,
    values,
)
from place import PORTS, ROLES

CLOUDS = {
    "nginx": (MANAGED,),
    "eks": (MANAGED, "examples/values.eks.yaml"),
    "gke": (MANAGED, "examples/values.gke.yaml"),
    "aks": (MANAGED, "examples/values.aks.yaml"),
}
OPS = 9464


class Pod:
    """An end of a connection inside the cluster."""

    def __init__(self, namespace: str, **labels: str) -> None:
        self.namespace = namespace
        self.labels = {key.replace("__", "/"): value for key, value in labels.items()}


def role(name: str) -> Pod:
    pod = Pod("caracal")
    pod.labels = {
        "app.kubernetes.io/name": "caracal",
        "app.kubernetes.io/instance": "caracal",
        "app.kubernetes.io/component": name,
    }
    return pod


def foreign(namespace: str, **labels: str) -> Pod:
    pod = Pod(namespace)
    pod.labels = {key.replace("_", "-"): value for key, value in labels.items()}
    if "name" in labels:
        pod.labels["app.kubernetes.io/name"] = pod.labels.pop("name")
    return pod


End = Pod | str


def selects(selector: dict, labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}, "the evaluation knows labels alone"
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_peer(peer: dict, end: End) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        if isinstance(end, Pod):
            return False
        inside = ipaddress.ip_address(end) in ipaddress.ip_network(block["cidr"])
        return inside and not any(
            ipaddress.ip_address(end) in ipaddress.ip_network(cut)
            for cut in block.get("except", [])
        )
    if not isinstance(end, Pod):
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": end.namespace}):
            return False
    elif end.namespace != "caracal":
        return False
    return selects(peer.get("podSelector", {}), end.labels)


def admits(rules: list[dict] | None, side: str, end: End, port: int, protocol: str) -> bool:
    for rule in rules or []:
        peers, ports = rule.get(side), rule.get("ports")
        if peers is not None and not any(is_peer(peer, end) for peer in peers):
            continue
        if ports is None or any(
            p.get("protocol", "TCP") == protocol
            and p["port"] <= port <= p.get("endPort", p["port"])
            for p in ports
        ):
            return True
    return False


def allowed(
    objects: list[dict], source: End, target: End, port: int, protocol: str = "TCP"
) -> bool:
    """As the cluster's network decides: each end's policies, where any selects it, must admit."""
    policies = of_kind(objects, "NetworkPolicy")

    def over(end: End, direction: str) -> list[dict]:
        if not isinstance(end, Pod) or end.namespace != "caracal":
            return []
        return [
            policy["spec"]
            for policy in policies
            if selects(policy["spec"]["podSelector"], end.labels)
            and direction in policy["spec"]["policyTypes"]
        ]

    leaving = over(source, "Egress")
    entering = over(target, "Ingress")
    out = not leaving or any(admits(s.get("egress"), "to", target, port, protocol) for s in leaving)
    into = not entering or any(
        admits(s.get("ingress"), "from", source, port, protocol) for s in entering
    )
    return out and into


NGINX = foreign("ingress-nginx", name="ingress-nginx")
PROMETHEUS = foreign("monitoring", name="prometheus")
RESOLVER = foreign("kube-system", k8s_app="kube-dns")
STRANGER = foreign("caracal", app="stranger")
NEIGHBOUR = foreign("default", app="neighbour")
POSTGRES, REDIS, UPSTREAM, INTERNET, METADATA = (
    "10.20.0.5",
    "10.20.0.6",
    "10.30.0.9",
    "93.184.216.34",
    "169.254.169.254",
)

CALLS = {
    ("gateway", "sts"),
    ("coordinator", "sts"),
    ("api", "sts"),
    ("api", "gateway"),
    ("api", "coordinator"),
}


@pytest.mark.parametrize("caller", [*ROLES, "migrate"])
@pytest.mark.parametrize("called", [*ROLES, "migrate"])
def test_roles_call_those_whose_answers_they_need(caller: str, called: str) -> None:
    objects = render(deployment(MANAGED))
    for port in (PORTS.get(called, 8080), OPS, 22):
        wanted = (caller, called) in CALLS and port == PORTS.get(called)
        assert allowed(objects, role(caller), role(called), port) == wanted, port


def test_the_calls_are_those_of_the_environment() -> None:
    """Who is told another role's address may reach it, and nobody else."""
    told = set()
    for name, template in pods(render(deployment(MANAGED))).items():
        for entry in container(template)["env"]:
            for other in ROLES:
                if entry["value"] == f"http://{PREFIX}-{other}:{PORTS[other]}":
                    told.add((name, other))
    assert told == CALLS


@pytest.mark.parametrize(
    ("source", "target", "port", "wanted"),
    [
        (NGINX, role("sts"), 8080, True),
        (NGINX, role("gateway"), 8081, True),
        (NGINX, role("api"), 3000, True),
        (NGINX, role("coordinator"), 4000, False),
        (NGINX, role("audit"), 9090, False),
        (NGINX, role("sts"), OPS, False),
        (NGINX, role("gateway"), OPS, False),
        (PROMETHEUS, role("sts"), OPS, True),
        (PROMETHEUS, role("audit"), OPS, True),
        (PROMETHEUS, role("coordinator"), OPS, True),
        (PROMETHEUS, role("audit"), 9090, False),
        (PROMETHEUS, role("api"), 3000, False),
        (STRANGER, role("audit"), 9090, False),
        (STRANGER, role("coordinator"), 4000, False),
        (STRANGER, role("sts"), 8080, False),
        (NEIGHBOUR, role("gateway"), 8081, False),
        (INTERNET, role("gateway"), 8081, False),
        (role("sts"), POSTGRES, 5432, True),
        (role("audit"), POSTGRES, 5432, True),
        (role("migrate"), POSTGRES, 5432, True),
        (role("gateway"), REDIS, 6379, True),
        (role("gateway"), POSTGRES, 22, False),
        (role("gateway"), UPSTREAM, 443, True),
        (role("sts"), UPSTREAM, 443, False),
        (role("audit"), UPSTREAM, 443, False),
        (role("gateway"), INTERNET, 443, False),
        (role("gateway"), INTERNET, 5432, False),
        (role("migrate"), INTERNET, 443, False),
        (role("gateway"), METADATA, 80, False),
        (role("gateway"), STRANGER, 8080, False),
        (role("gateway"), NEIGHBOUR, 443, False),
    ],
)  # fmt: skip
def test_who_reaches_whom_on_a_managed_cluster(
    source: End, target: End, port: int, wanted: bool
) -> None:
    assert allowed(render(deployment(MANAGED)), source, target, port) == wanted


@pytest.mark.parametrize("name", [*ROLES, "migrate"])
def test_names_are_resolved_by_the_clusters_resolver_alone(name: str) -> None:
    objects = render(deployment(MANAGED))
    for protocol in ("UDP", "TCP"):
        assert allowed(objects, role(name), RESOLVER, 53, protocol)
        assert not allowed(objects, role(name), INTERNET, 53, protocol)
        assert not allowed(objects, role(name), NEIGHBOUR, 53, protocol)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_no_rule_of_a_managed_cluster_is_open(cloud: str) -> None:
    for policy in of_kind(render(deployment(*CLOUDS[cloud])), "NetworkPolicy"):
        spec = policy["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        for side, rules in (("to", spec.get("egress")), ("from", spec.get("ingress"))):
            for rule in rules or []:
                assert rule[side], policy["metadata"]["name"]
                assert rule["ports"]
                for peer in rule[side]:
                    assert peer
                    if "ipBlock" in peer:
                        assert ipaddress.ip_network(peer["ipBlock"]["cidr"]).prefixlen >= 8


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_pod_is_under_a_policy_of_its_own(cloud: str) -> None:
    objects = render(deployment(*CLOUDS[cloud]))
    policies = of_kind(objects, "NetworkPolicy")
    for name, template in pods(objects).items():
        over = [
            p for p in policies if selects(p["spec"]["podSelector"], template["metadata"]["labels"])
        ]
        assert [p["metadata"]["name"] for p in over] == [f"{PREFIX}-{name}"]


@pytest.mark.parametrize("cloud", ["eks", "gke", "aks"])
def test_a_clouds_load_balancer_reaches_what_is_published_and_its_readiness(cloud: str) -> None:
    objects = render(deployment(*CLOUDS[cloud]))
    balancer = {"eks": "10.60.3.4", "gke": "130.211.1.1", "aks": "10.60.0.7"}[cloud]
    for name in ("sts", "gateway", "api"):
        assert allowed(objects, balancer, role(name), PORTS[name])
        assert allowed(objects, balancer, role(name), OPS)
    for name in ("audit", "coordinator"):
        assert not allowed(objects, balancer, role(name), PORTS[name])
        assert not allowed(objects, balancer, role(name), OPS)
    assert allowed(objects, role("api"), REDIS, 6380 if cloud == "aks" else 6379)


def test_the_migration_is_under_its_policy_when_it_runs() -> None:
    notes = named(render({}), "NetworkPolicy", f"{PREFIX}-migrate")["metadata"]["annotations"]
    assert notes["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert int(notes["helm.sh/hook-weight"]) < 0


def test_stores_may_be_named_as_peers_of_their_own() -> None:
    store = [{"ipBlock": {"cidr": "10.40.0.0/24"}}]
    cache = [{"ipBlock": {"cidr": "10.41.0.0/24"}}]
    objects = render(
        deployment(
            MANAGED, networkPolicy__extraEgress=[], networkPolicy__postgres=store, networkPolicy__redis=cache,
            secrets__redis__port=6380,
        )
    )  # fmt: skip
    for name in ROLES:
        assert allowed(objects, role(name), "10.40.0.1", 5432)
        assert allowed(objects, role(name), "10.41.0.1", 6380)
        assert not allowed(objects, role(name), "10.40.0.1", 6380)
        assert not allowed(objects, role(name), "10.41.0.1", 5432)
    assert allowed(objects, role("migrate"), "10.40.0.1", 5432)
    assert not allowed(objects, role("migrate"), "10.41.0.1", 6380)


def test_what_is_opened_is_opened_for_those_who_need_it() -> None:
    given = {"networkPolicy__allowOpenHttps": True, "networkPolicy__allowOpenDns": True}
    objects = render(deployment(MANAGED, **given))
    for name in (*ROLES, "migrate"):
        assert allowed(objects, role(name), INTERNET, 443) == (name in {"sts", "gateway", "api"})
        assert allowed(objects, role(name), INTERNET, 53, "UDP")


def test_outside_of_stable_the_stores_ports_are_open_until_they_are_named() -> None:
    unnamed = render({})
    assert allowed(unnamed, role("sts"), INTERNET, 5432)
    assert not allowed(unnamed, role("sts"), INTERNET, 443)
    named_store = render(values(networkPolicy__postgres=[{"ipBlock": {"cidr": "10.40.0.0/24"}}]))
    assert not allowed(named_store, role("sts"), INTERNET, 5432)


def test_without_policies_there_are_none() -> None:
    assert of_kind(render(values(networkPolicy__enabled=False)), "NetworkPolicy") == []


PATHS = {
    "sts": [
        ("/oauth/2/token", "Exact"),
        ("/.well-known/jwks.json", "Exact"),
        ("/approvals", "Prefix"),
    ],
    "gateway": [("/", "Prefix")],
    "api": [("/v1", "Prefix")],
    "coordinator": [("/zones", "Prefix"), ("/v1/verify", "Exact")],
}


def published(name: str) -> dict:
    return {
        "ingress": {
            name: {"enabled": True, "host": f"{name}.test", "tlsSecretName": f"{name}-tls"}
        },
        "httpRoute": {
            name: {
                "enabled": True,
                "hostnames": [f"{name}.test"],
                "parentRefs": [{"name": "edge", "namespace": "edge"}],
            }
        },
    }


@pytest.mark.parametrize("name", PATHS)
def test_the_outside_sees_the_paths_that_callers_need(name: str) -> None:
    objects = render(published(name))
    (ingress,) = of_kind(objects, "Ingress")
    assert ingress["spec"]["tls"] == [{"hosts": [f"{name}.test"], "secretName": f"{name}-tls"}]
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == f"{name}.test"
    assert [(path["path"], path["pathType"]) for path in rule["http"]["paths"]] == PATHS[name]
    service = named(objects, "Service", f"{PREFIX}-{name}")
    for path in rule["http"]["paths"]:
        assert path["backend"]["service"] == {
            "name": service["metadata"]["name"],
            "port": {"name": "http"},
        }
    (route,) = of_kind(objects, "HTTPRoute")
    (only,) = route["spec"]["rules"]
    kinds = {"PathPrefix": "Prefix", "Exact": "Exact"}
    assert [(m["path"]["value"], kinds[m["path"]["type"]]) for m in only["matches"]] == PATHS[name]
    assert only["backendRefs"] == [{"name": f"{PREFIX}-{name}", "port": PORTS[name]}]
    assert route["spec"]["parentRefs"] == [{"name": "edge", "namespace": "edge"}]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(
    "operation", ["/metrics", "/ready", "/health", "/internal/zones/z/signing-key/rotate"]
)
def test_no_published_path_leads_to_an_operation(name: str, operation: str) -> None:
    own = container(pods(render(published(name)))[name])
    for path, kind in PATHS[name]:
        whole = path.rstrip("/") + "/"
        leads = operation == path if kind == "Exact" else f"{operation}/".startswith(whole)
        # The Gateway's paths are its upstreams'; its own operations are on the other port.
        assert not leads or (
            name == "gateway" and {p["name"] for p in own["ports"]} == {"http", "ops"}
        )


def test_the_pages_certificates_are_of_the_issuers() -> None:
    objects = render(deployment(MANAGED))
    for name in ("sts", "gateway", "api"):
        ingress = named(objects, "Ingress", f"{PREFIX}-{name}")
        assert (
            ingress["metadata"]["annotations"]["cert-manager.io/cluster-issuer"]
            == "letsencrypt-prod"
        )
        (tls,) = ingress["spec"]["tls"]
        assert tls["secretName"] == f"caracal-{name}-tls"
        assert tls["hosts"] == [ingress["spec"]["rules"][0]["host"]]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_one_authority_issues_an_ingress_its_certificate(cloud: str) -> None:
    for ingress in of_kind(render(deployment(*CLOUDS[cloud])), "Ingress"):
        notes = ingress["metadata"]["annotations"]
        assert None not in notes.values()
        by_manager = "cert-manager.io/cluster-issuer" in notes
        by_cloud = {
            "alb.ingress.kubernetes.io/certificate-arn",
            "networking.gke.io/managed-certificates",
        }
        assert by_manager != bool(by_cloud & notes.keys())
        assert by_manager == ("tls" in ingress["spec"])


@pytest.mark.parametrize(
    ("cloud", "ingress_class", "storage"),
    [
        ("eks", "alb", "gp3"),
        ("gke", "gce", "premium-rwo"),
        ("aks", "azure-application-gateway", "managed-csi"),
    ],
)
def test_a_cloud_differs_in_class_storage_and_identity_alone(
    cloud: str, ingress_class: str, storage: str
) -> None:
    def without_cloud(objects: list[dict]) -> list[dict]:
        kept = []
        for item in objects:
            if item["kind"] in {
                "NetworkPolicy",
                "BackendConfig",
                "ServiceMonitor",
                "PrometheusRule",
            }:
                continue
            item["metadata"].pop("annotations", None)
            if item["kind"] == "Ingress":
                item["spec"].pop("ingressClassName", None)
                item["spec"].pop("tls", None)
            for claim in item.get("spec", {}).get("volumeClaimTemplates", []):
                claim["spec"].pop("storageClassName", None)
            if item["kind"] in {"StatefulSet", "Deployment"}:
                template = item["spec"]["template"]["metadata"]
                template["labels"].pop("azure.workload.identity/use", None)
            kept.append(item)
        return kept

    objects = render(deployment(*CLOUDS[cloud]))
    for ingress in of_kind(objects, "Ingress"):
        assert ingress["spec"]["ingressClassName"] == ingress_class
    for workload in of_kind(objects, "StatefulSet"):
        (claim,) = workload["spec"]["volumeClaimTemplates"]
        assert claim["spec"]["storageClassName"] == storage
    (account,) = [a for a in of_kind(objects, "ServiceAccount") if a["metadata"]["name"] == PREFIX]
    assert len(account["metadata"]["annotations"]) == 1
    assert without_cloud(objects) == without_cloud(render(deployment(MANAGED)))


def test_a_budget_never_keeps_a_node_from_being_drained() -> None:
    objects = render({})
    for budget in of_kind(objects, "PodDisruptionBudget"):
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert len(of_kind(objects, "PodDisruptionBudget")) == len(ROLES)
    assert of_kind(render(values("values.dev.yaml")), "PodDisruptionBudget") == []


@pytest.mark.parametrize("files", overlays(), ids=str)
def test_a_scaled_workload_names_no_number_of_its_own(files: tuple[str, ...]) -> None:
    objects = render(deployment(*files))
    scaled = {
        o["spec"]["scaleTargetRef"]["name"]: o for o in of_kind(objects, "HorizontalPodAutoscaler")
    }
    for workload in of_kind(objects, "StatefulSet", "Deployment"):
        name = workload["metadata"]["name"]
        assert ("replicas" in workload["spec"]) != (name in scaled)
        if name in scaled:
            assert scaled[name]["spec"]["scaleTargetRef"]["kind"] == workload["kind"]


def test_objects_of_your_own_are_templates() -> None:
    own = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-own"}}
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: text\n"
    names = {
        o["metadata"]["name"] for o in of_kind(render({"extraObjects": [own, text]}), "ConfigMap")
    }
    assert names == {"caracal-own", "text"}


def test_the_evaluation_knows_a_policy_when_it_sees_one() -> None:
    """The table above would be worth nothing if everything were allowed, or nothing."""
    open_policy = {
        "kind": "NetworkPolicy",
        "metadata": {"name": "open"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]},
    }
    assert allowed([open_policy], role("sts"), INTERNET, 1)
    closed = merge(open_policy, {"spec": {"egress": []}})
    assert not allowed([closed], role("sts"), INTERNET, 1)
    assert allowed([closed], INTERNET, role("sts"), 1)
