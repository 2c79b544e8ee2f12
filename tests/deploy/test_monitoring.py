"""Alerts and dashboards: they ask for what the roles export, and they fire when they should."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from chart import CHART, PREFIX, Refused, of_kind, render, values
from place import REPOSITORY, ROLES, succeed
from redis_server import free_port
from test_stack import Stack
from test_stack import test_a_governed_call_passes_through_the_stack as pass_a_governed_call
from testbed import Postgres

FILES = CHART / "files/monitoring"
RUNBOOKS = REPOSITORY / "docs/operations/alerts.md"
OBSERVABILITY = REPOSITORY / "docs/operations/observability.md"
RULES = yaml.safe_load((FILES / "rules.yaml").read_text())
CASES = yaml.safe_load((Path(__file__).parent / "monitoring/cases.yaml").read_text())
DASHBOARDS = sorted((FILES / "dashboards").glob("*.json"))
EACH_ROLE = {rule["alert"]: "each" in rule for rule in RULES["rules"]}
KINDS = ("ServiceMonitor", "PrometheusRule", "ConfigMap")

# Of Prometheus itself and of kube-state-metrics.
NOT_OURS = {"up": set(), "kube_pod_container_status_ready": {"container"}}
# What Prometheus adds to every sample of a target.
TARGET_LABELS = {"namespace", "job", "pod"}

# Counters that are exported from their first event on, and whose event can't be had here cheaply:
# the crate that counts it, and its labels.
AT_FIRST_EVENT = {
    "caracal_barrier_failures_total": ("store", set()),
    "caracal_log_dropped_total": ("caracal", set()),
    "caracal_api_refusal_rows_lost_total": ("api", set()),
    "caracal_coordinator_refusals_unrecorded_total": ("coordinator", set()),
    "caracal_coordinator_sweep_failures_total": ("coordinator", {"sweep"}),
}

# Exported because dashboards of others may ask for them, and always the value of the start: what they
# would count is not part of this implementation.
STANDING_STILL = {
    "caracal_sts_opa_max_policy_age_seconds",
    "caracal_sts_opa_poll_interval_seconds",
    "caracal_sts_provider_circuit_open_total",
    "caracal_sts_provider_refresh_errors_total",
    "caracal_gateway_audit_queue_capacity",
    "caracal_gateway_revocation_dead_letters_total",
    "caracal_gateway_revocation_invalid_signatures_total",
    "caracal_gateway_revocation_messages_total",
    "caracal_gateway_revocation_pending_replayed_total",
    "caracal_gateway_revocation_propagation_seconds",
    "caracal_gateway_revocations_active",
    "caracal_gateway_running_streams",
}


def monitoring(**settings: object) -> list[dict]:
    """The objects of monitoring, with everything turned on."""
    on = {f"{part}__enabled": True for part in ("serviceMonitor", "alertRules", "dashboards")}
    return objects(**on, **settings)


def objects(**settings: object) -> list[dict]:
    rendered = of_kind(render(values(**settings)), *KINDS)
    return [
        o for o in rendered if o["kind"] != "ConfigMap" or "-dashboard-" in o["metadata"]["name"]
    ]


def rules_of(documents: list[dict]) -> list[dict]:
    (rules,) = of_kind(documents, "PrometheusRule")
    (group,) = rules["spec"]["groups"]
    return group["rules"]


def promtool(*words: str | Path) -> None:
    program = shutil.which("promtool")
    assert program, "promtool is not installed; on Debian: apt-get install prometheus"
    succeed(program, *words)


def write_rules(path: Path, rules: list[dict]) -> Path:
    path.write_text(yaml.safe_dump({"groups": [{"name": "caracal", "rules": rules}]}))
    return path


# What the roles export.


def parse(exposition: str) -> dict[str, set[str]]:
    """Each metric and its labels."""
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", exposition, re.M):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def ask(url: str, bearer: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {bearer}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, ""


class WithOpsPorts(Stack):
    """Metrics apart from callers, as the chart has it."""

    def __init__(self, directory: Path, postgres: Postgres) -> None:
        super().__init__(directory, postgres)
        self.ops_ports = {role: free_port() for role in ROLES}

    def environment(self, name: str) -> dict[str, str]:
        given = super().environment(name)
        if name in ROLES:
            given["CARACAL_OPS_PORT"] = str(self.ops_ports[name])
        return given

    def scrape(self, role: str, bearer: str) -> tuple[int, str]:
        return ask(f"http://localhost:{self.ops_ports[role]}/metrics", bearer)


@pytest.fixture(scope="module")
def expositions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The metrics of each role after a governed call and refusals."""
    postgres = Postgres()
    try:
        stack = WithOpsPorts(tmp_path_factory.mktemp("monitored"), postgres)
        try:
            stack.migrate()
            for role in ROLES:
                stack.start(role)
            for role in ROLES:
                stack.wait(role)
            pass_a_governed_call(stack)
            assert ask(f"{stack.url('api')}/v1/zones", "nobody")[0] == 401
            bearer = (stack.secrets / "metricsBearer").read_text()
            texts = {role: stack.scrape(role, bearer)[1] for role in ROLES}
            for role in ROLES:
                assert stack.scrape(role, "another")[0] in (401, 403), role
            yield texts
        finally:
            stack.close()
    finally:
        postgres.close()


@pytest.fixture(scope="module")
def exported(expositions: dict[str, str]) -> dict[str, set[str]]:
    known = {**NOT_OURS, **{name: labels for name, (_, labels) in AT_FIRST_EVENT.items()}}
    for text in expositions.values():
        for name, labels in parse(text).items():
            known.setdefault(name, set()).update(labels)
    return known


SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^{}]*(?:\"[^\"]*\"[^{}]*)*)\}")


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """Each metric that an expression asks for, and the labels by which it chooses."""
    found = []
    for name, matchers in SELECTOR.findall(expression):
        without_values = re.sub(r'"[^"]*"', '""', matchers)
        found.append((name, set(re.findall(r"(\w+)[!=~]+\"\"", without_values))))
    return found


def assert_exported(expression: str, exported: dict[str, set[str]]) -> None:
    asked = selectors(expression)
    assert asked, expression
    assert expression.count("{") == len(asked), expression
    for name, labels in asked:
        assert name in exported, f"no role exports {name}: {expression}"
        assert name not in STANDING_STILL, f"{name} never changes: {expression}"
        assert {"namespace"} < labels, f"{name} is not limited to the release: {expression}"
        assert labels - TARGET_LABELS <= exported[name], f"{name} has no such label: {expression}"
    grouped = {
        label.strip()
        for by in re.findall(r"\bby \(([^)]*)\)", expression)
        for label in by.split(",")
    }
    known = set().union(*(exported[name] for name, _ in asked)) | TARGET_LABELS
    assert grouped <= known, expression


# The files.


def expressions(dashboard: dict) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def test_every_alert_asks_for_what_a_role_exports(exported: dict) -> None:
    for rule in rules_of(monitoring()):
        assert_exported(rule["expr"], exported)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_asks_for_what_a_role_exports(path: Path, exported: dict) -> None:
    dashboard = json.loads(path.read_text())
    for expression in expressions(dashboard):
        assert_exported(expression, exported)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.findall(r"label_values\((\w+)", variable["query"]["query"])
            assert asked and set(asked) <= set(exported)


def test_what_is_exported_at_its_first_event_is_counted_somewhere() -> None:
    for name, (crate, labels) in AT_FIRST_EVENT.items():
        sources = "".join(
            path.read_text() for path in REPOSITORY.glob(f"crates/{crate}/src/**/*.rs")
        )
        calls = re.findall(rf'counter!\("{name}"([^)]*)\)', sources)
        assert calls, name
        assert {label for call in calls for label in re.findall(r'"(\w+)" =>', call)} == labels


def test_what_stands_still_is_exported_and_never_touched(exported: dict) -> None:
    assert set(exported) >= STANDING_STILL
    gateway = REPOSITORY / "crates/gateway/src"
    fields = re.findall(r'(\w+) => "(\w+)", "\w+";', (gateway / "meter.rs").read_text())
    uses = "".join(path.read_text() for path in gateway.rglob("*.rs"))
    used = set(re.findall(r"\bmeter\s*\.(\w+)", uses)) | set(
        re.findall(r"self\.(\w+)\s*\.set", uses)
    )
    untouched = {f"caracal_gateway_{name}" for field, name in fields if field not in used}
    assert untouched == {name for name in STANDING_STILL if name.startswith("caracal_gateway_")}
    sts = "".join(path.read_text() for path in (REPOSITORY / "crates/sts/src").rglob("*.rs"))
    for name in STANDING_STILL:
        if name.startswith("caracal_sts_"):
            assert sts.count(f'"{name}"') == 1, name


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_sound(path: Path, tmp_path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"] == f"caracal-{path.stem}"
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
        )
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"] and panel["datasource"]["uid"] == "${datasource}"
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    put_in = {"$__rate_interval": "5m", "$namespace": "caracal", "$release": PREFIX}
    rules = []
    for number, expression in enumerate(expressions(dashboard)):
        for variable, value in put_in.items():
            expression = expression.replace(variable, value)
        assert "$" not in expression
        rules.append({"record": f"panel:{number}", "expr": expression})
    assert defined == {"datasource", "namespace", "release"}
    promtool("check", "rules", write_rules(tmp_path / "panels.yaml", rules))


# The objects.


def test_nothing_is_rendered_unless_asked_for() -> None:
    assert objects() == []


def test_each_enabled_role_is_scraped_with_the_bearer() -> None:
    monitors = of_kind(monitoring(), "ServiceMonitor")
    assert {monitor["metadata"]["name"] for monitor in monitors} == {
        f"{PREFIX}-{role}" for role in ROLES
    }
    for monitor in monitors:
        (endpoint,) = monitor["spec"]["endpoints"]
        assert (endpoint["path"], endpoint["interval"]) == ("/metrics", "30s")
        assert endpoint["authorization"] == {
            "type": "Bearer",
            "credentials": {"name": "caracal-runtime", "key": "metricsBearer"},
        }
        role = monitor["metadata"]["labels"]["app.kubernetes.io/component"]
        assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["caracal"]}
        assert monitor["spec"]["selector"]["matchLabels"] == {
            "app.kubernetes.io/name": "caracal",
            "app.kubernetes.io/instance": "caracal",
            "app.kubernetes.io/component": role,
        }


def test_the_bearer_may_be_in_a_secret_of_its_own() -> None:
    bearer = {"secretName": "metrics", "key": "token"}
    for monitor in of_kind(monitoring(secrets__metricsBearer=bearer), "ServiceMonitor"):
        credentials = monitor["spec"]["endpoints"][0]["authorization"]["credentials"]
        assert credentials == {"name": "metrics", "key": "token"}


def test_a_role_that_is_off_is_neither_scraped_nor_missed() -> None:
    documents = monitoring(services__coordinator__enabled=False)
    names = [monitor["metadata"]["name"] for monitor in of_kind(documents, "ServiceMonitor")]
    assert len(names) == 4 and f"{PREFIX}-coordinator" not in names
    rules = rules_of(documents)
    assert {rule["labels"]["component"] for rule in rules} >= set(ROLES) - {"coordinator"}
    for rule in rules:
        assert rule["labels"]["component"] != "coordinator"
        assert "|coordinator" not in re.sub(r'role=~"[^"]*"', "", rule["expr"])


def test_values_reach_the_objects() -> None:
    documents = monitoring(
        serviceMonitor__interval="15s",
        serviceMonitor__scrapeTimeout="5s",
        serviceMonitor__labels={"release": "prom"},
        alertRules__labels={"release": "prom"},
        alertRules__auditConsumerLag=77,
        alertRules__failureRatio=0.125,
        dashboards__labels={"board": "yes"},
        dashboards__annotations={"folder": "C"},
    )
    for document in documents:
        labels, kind = document["metadata"]["labels"], document["kind"]
        assert labels["board" if kind == "ConfigMap" else "release"] in ("yes", "prom")
    endpoint = of_kind(documents, "ServiceMonitor")[0]["spec"]["endpoints"][0]
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == ("15s", "5s")
    assert of_kind(documents, "ConfigMap")[0]["metadata"]["annotations"] == {"folder": "C"}
    rules = {rule["alert"]: rule for rule in rules_of(documents)}
    assert rules["CaracalAuditConsumerLagHigh"]["expr"].endswith("> 77")
    assert rules["CaracalSTSFailures"]["expr"].endswith("> 0.125")


def test_a_threshold_that_is_none_is_refused() -> None:
    with pytest.raises(Refused, match="alertRules.auditDlqSise: there is no such threshold"):
        monitoring(alertRules__auditDlqSise=3)


def test_a_threshold_of_an_alert_that_could_not_fire_changes_nothing() -> None:
    plain = rules_of(monitoring())
    for name in RULES["withoutEffect"]:
        assert rules_of(monitoring(**{f"alertRules__{name}": 1})) == plain


def test_metrics_are_read_where_the_roles_serve_them() -> None:
    for port, name in ((0, "http"), (9464, "ops")):
        for monitor in of_kind(monitoring(global__opsPort=port), "ServiceMonitor"):
            assert monitor["spec"]["endpoints"][0]["port"] == name


def test_the_dashboards_are_in_the_config_maps_as_they_are() -> None:
    maps = of_kind(monitoring(), "ConfigMap")
    held = {name: text for each in maps for name, text in each["data"].items()}
    assert {name: json.loads(text) for name, text in held.items()} == {
        f"caracal-{path.name}": json.loads(path.read_text()) for path in DASHBOARDS
    }
    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in maps)


def test_every_threshold_is_used() -> None:
    text = json.dumps(RULES["rules"])
    assert {name for name in RULES["thresholds"] if f"@{name}@" not in text} == set()
    rendered = json.dumps(rules_of(monitoring()))
    assert "@" not in rendered


def test_every_alert_says_what_to_do() -> None:
    headings = re.findall(r"^## (\w+)\n\n`(\w+)`, (\S+?)[.]", RUNBOOKS.read_text(), re.M)
    written = {name: (severity, component) for name, severity, component in headings}
    assert written == {
        rule["alert"]: (rule["severity"], rule["component"].replace("@role@", "each"))
        for rule in RULES["rules"]
    }
    for rule in rules_of(monitoring()):
        said = rule["annotations"]
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert said["summary"] and said["description"]
        assert said["runbook_url"].endswith(f"/alerts/#{rule['alert'].lower()}")


def test_the_pages_point_at_alerts_that_there_are() -> None:
    anchors = {alert.lower() for alert in EACH_ROLE}
    within = set(re.findall(r"\]\(#(\w+)\)", RUNBOOKS.read_text()))
    across = set(re.findall(r"\]\(alerts\.md#(\w+)\)", OBSERVABILITY.read_text()))
    assert within and across and (within | across) <= anchors
    named = set(
        re.findall(r"\bCaracal(?:[A-Z]\w+)+\b", RUNBOOKS.read_text() + OBSERVABILITY.read_text())
    )
    assert named <= set(EACH_ROLE)


def test_the_page_has_every_threshold_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([0-9.]+)[ |]", OBSERVABILITY.read_text(), re.M)
    assert {name: float(default) for name, default in rows} == RULES["thresholds"]
    used = set(re.findall(r"`alertRules\.(\w+)`", RUNBOOKS.read_text()))
    assert used <= {"enabled", *RULES["thresholds"]}


def test_the_page_has_every_metric(exported: dict[str, set[str]]) -> None:
    page = OBSERVABILITY.read_text()
    for name in exported:
        whole = re.sub(r"_(?:bucket|sum|count)$", "", name)
        denial = whole.replace("caracal_gateway_denials_", "").removesuffix("_total")
        assert whole in NOT_OURS or f"`{whole}`" in page or f"`{denial}`" in page, name


# Firing.


def labelled(series: str, role: str) -> str:
    name, _, own = series.rstrip("}").partition("{") if series.endswith("}") else (series, "", "")
    added = 'namespace="caracal"'
    if not name.startswith("kube_"):
        added += f',job="{PREFIX}-{role}",pod="{PREFIX}-{role}-0"'
    return f"{name}{{{','.join(filter(None, [own, added]))}}}"


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    promtool("check", "rules", write_rules(tmp_path / "rules.yaml", rules_of(monitoring())))


def test_there_is_a_case_for_every_alert() -> None:
    assert sorted(CASES) == sorted(EACH_ROLE)


def test_the_cases_are_of_series_that_the_roles_export(exported: dict) -> None:
    for alert, case in CASES.items():
        for series in [*case["fires"]["series"], *case["quiet"]["series"]]:
            ((name, labels),) = parse(f"{series} 1").items()
            extra = {"pod"} if name.startswith("kube_") else set()
            assert name in exported, (alert, name)
            assert labels == exported[name] | extra, (alert, series)
        # YAML reads 0x10 without quotes as a number.
        notations = [*case["fires"]["series"].values(), *case["quiet"]["series"].values()]
        assert all(isinstance(notation, str) for notation in notations), alert


def course(name: str, alert: str, case: dict, samples: list[dict]) -> dict:
    """A unit test of promtool's: whether the alert fires at the end of a course of samples."""
    firing = f'alertname="{alert}",alertstate="firing"'
    if EACH_ROLE[alert]:
        firing += f',component="{case["role"]}"'
    series = case[name]["series"].items()
    return {
        "name": f"{alert} {name}",
        "interval": "1m",
        "input_series": [
            {"series": labelled(text, case["role"]), "values": notation}
            for text, notation in series
        ],
        "promql_expr_test": [
            {
                "expr": f"count(ALERTS{{{firing}}})",
                "eval_time": case[name]["at"],
                "exp_samples": samples,
            }
        ],
    }


def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    rules = rules_of(monitoring())
    files = []
    for alert, case in CASES.items():
        own = [rule for rule in rules if rule["alert"] == alert]
        write_rules(tmp_path / f"{alert}.rules.yaml", own)
        fires = course("fires", alert, case, [{"labels": "{}", "value": 1}])
        quiet = course("quiet", alert, case, [])
        files.append(tmp_path / f"{alert}.yaml")
        files[-1].write_text(
            yaml.safe_dump(
                {
                    "rule_files": [f"{alert}.rules.yaml"],
                    "evaluation_interval": "1m",
                    "tests": [fires, quiet],
                }
            )
        )
    promtool("test", "rules", *files)


def test_a_healthy_deployment_raises_no_alert(expositions: dict[str, str], tmp_path: Path) -> None:
    """What the roles exported here, an hour long; jobs that run all the time go on."""
    write_rules(tmp_path / "rules.yaml", rules_of(monitoring()))
    series = []
    for role, text in expositions.items():
        series.append({"series": labelled("up", role), "values": "1x60"})
        for sample, value in re.findall(r"^(caracal_\S+(?: \S+)*) (\S+)$", text, re.M):
            step = 1 if sample.endswith("_runs_total") else 0
            values = f"{float(value):f}+{step}x60"
            series.append({"series": labelled(sample, role), "values": values})
    asked = {"expr": "ALERTS", "eval_time": "1h", "exp_samples": []}
    test = {
        "name": "healthy",
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [asked],
    }
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(document))
    promtool("test", "rules", tmp_path / "cases.yaml")
