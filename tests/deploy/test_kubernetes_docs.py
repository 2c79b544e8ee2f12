"""The pages on Kubernetes: each command renders or is refused as they say; all that they name exists."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from chart import (
    CHART,
    MANAGED,
    NAMESPACE,
    PREFIX,
    Refused,
    deployment,
    merge,
    named,
    of_kind,
    overlays,
    render,
    render_texts,
    set_strings,
    values,
)
from place import REPOSITORY, ROLES

OPERATIONS = REPOSITORY / "docs/operations"
NAMES = (
    "deploy-on-managed-kubernetes.md", "choose-a-cloud-profile.md", "deploy-with-helm.md",
    "harden-production.md", "upgrade.md", "scale.md",
)  # fmt: skip
PAGES = [OPERATIONS / name for name in NAMES]
EXTERNAL_SECRETS = CHART / "examples/external-secrets"

# kubectl's names -> kinds.
KINDS = {
    "secret": "Secret", "externalsecret": "ExternalSecret", "certificate": "Certificate", "job": "Job",
    "statefulset": "StatefulSet", "deployment": "Deployment", "service": "Service", "services": "Service",
    "ingress": "Ingress", "servicemonitor": "ServiceMonitor", "prometheusrule": "PrometheusRule",
    "networkpolicies": "NetworkPolicy", "horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "pods": "Pod", "persistentvolumeclaims": "PersistentVolumeClaim", "namespace": "Namespace",
}  # fmt: skip
# Options of kubectl and Helm that take the next word.
TAKING = {
    "--namespace", "-n", "--selector", "--output", "-o", "--for", "--as", "-f", "--set", "--timeout",
}  # fmt: skip
# Dotted words that are neither a value nor a file: hosts, and files that the commands write.
FOREIGN = {"next.yaml"}


@dataclass(frozen=True)
class Command:
    words: tuple[str, ...]
    # What the comment above says that Helm answers.
    refusal: str

    def options(self, *names: str) -> list[str]:
        following = zip(self.words, self.words[1:], strict=False)
        return [value for word, value in following if word in names]

    def positional(self) -> list[str]:
        found, skip = [], False
        for word in self.words:
            if skip or word == "--":
                skip = False
            elif word in TAKING:
                skip = True
            elif not word.startswith("-"):
                found.append(word)
        return found


def blocks(text: str, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.M | re.S)
    return [re.sub(rf"^{indent}", "", body, flags=re.M) for indent, body in found]


def inline(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S))


def commands(text: str, program: str) -> list[Command]:
    """Each call of a program in the page's blocks, in pipes and substitutions too, and in its sentences
    where it is a whole one."""
    found = [
        Command(tuple(shlex.split(words)), "")
        for words in inline(text)
        if words.startswith(f"{program} ") and "--namespace" in words
    ]
    for block in blocks(text, "bash"):
        block = re.sub(r"^cat >\S+ <<END\n.*?^END$", "", block, flags=re.M | re.S)
        refusal = ""
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("# Refused: "):
                refusal = line.removeprefix("# Refused: ")
                continue
            for part in re.split(r" \| |\$\(", line):
                if re.match(rf"\s*{program} ", part):
                    plain = re.sub(r" >\S+$| &$|\)$", "", part.rstrip())
                    found.append(Command(tuple(shlex.split(plain)), refusal))
            refusal = ""
    return found


def written(text: str) -> dict[str, dict]:
    """Values files that the page gives: named in a block's first line, or made by a command."""
    files = {}
    for block in blocks(text, "yaml"):
        first = re.match(r"# (\S+\.yaml)\n", block)
        assert first, f"a block without a name:\n{block}"
        files[first[1]] = yaml.safe_load(block)
    for name, body in re.findall(
        r"^cat >(\S+) <<END\n(.*?)^END$", "\n".join(blocks(text, "bash")), re.M | re.S
    ):
        files[name] = yaml.safe_load(body.replace("$(openssl rand -hex 32)", "'" + "5a" * 32 + "'"))
    return files


def given(command: Command, files: dict[str, dict]) -> dict:
    merged: dict = {}
    for name in command.options("-f", "--values"):
        own = files.get(name)
        path = REPOSITORY / name
        merged = merge(merged, own if own is not None else yaml.safe_load(path.read_text()))
    settings = [re.sub(r"<[a-z-]+>", "yours.test", told) for told in command.options("--set")]
    return merge(merged, set_strings(*settings))


def texts_of(command: Command, files: dict[str, dict]) -> dict[str, str]:
    positional = command.positional()
    assert positional[1] in ("upgrade", "template", "install")
    assert positional[2:] == ["caracal", "infra/helm/caracal"], positional
    assert set(command.options("--namespace", "-n")) <= {NAMESPACE}
    upgrade = "--is-upgrade" in command.words
    return render_texts(given(command, files), upgrade=upgrade)


def check_helm(command: Command, files: dict[str, dict]) -> None:
    """It renders; or is refused with the sentence that the page has."""
    if not command.refusal:
        assert texts_of(command, files)
        return
    with pytest.raises(Refused) as said:
        texts_of(command, files)
    assert command.refusal in str(said.value)


def rendering(page: Path) -> list[Command]:
    found = commands(page.read_text(), "helm")
    return [c for c in found if c.positional()[1] in ("upgrade", "template", "install")]


EVERY_HELM = [(page, command) for page in PAGES for command in rendering(page)]


def objects() -> list[dict]:
    """What a cluster has after the managed page: the release, the examples, what operators make of them."""
    found = list(render(deployment(MANAGED)))
    for path in sorted(EXTERNAL_SECRETS.glob("*.yaml")):
        found += [item for item in yaml.safe_load_all(path.read_text()) if item]
    made = []
    for item in found:
        if item["kind"] == "ExternalSecret":
            made.append(("Secret", item["spec"]["target"]["name"]))
        if item["kind"] == "Ingress":
            made += [("Certificate", tls["secretName"]) for tls in item["spec"].get("tls", [])]
    return found + [{"kind": kind, "metadata": {"name": name}} for kind, name in made]


def check_kubectl(command: Command, there: list[dict]) -> None:
    """Its objects, files and selectors are there."""
    for path in command.options("-f"):
        if path != "-":
            assert (REPOSITORY / path).is_file(), path
    for selector in command.options("--selector"):
        key, value = selector.split("=")
        assert any(o["metadata"].get("labels", {}).get(key) == value for o in there), selector
    assert set(command.options("--namespace", "-n")) <= {NAMESPACE}
    positional = command.positional()[1:]
    verb, rest = positional[0], positional[1:]
    if verb in ("apply", "auth"):
        return
    if verb == "rollout":
        rest = rest[1:]
    target, more = rest[0], rest[1:]
    if "/" in target:
        kind, name = target.split("/")
        named_objects = [name]
    else:
        kind, named_objects = target, more if verb in ("get", "describe") else more[:1]
    assert kind in KINDS, kind
    for name in named_objects:
        found = [o for o in there if (o["kind"], o["metadata"]["name"]) == (KINDS[kind], name)]
        assert found, f"{kind} {name}"
    if verb == "port-forward":
        _, port = more[0].split(":")
        ports = [p["port"] for p in named(there, "Service", named_objects[0])["spec"]["ports"]]
        assert int(port) in ports, port


def defaults() -> dict:
    return yaml.safe_load((CHART / "values.yaml").read_text())


def has_value(path: str) -> bool:
    """Whether values.yaml has the key; <role> stands for any role."""
    if "<role>" in path:
        return any(has_value(path.replace("<role>", role)) for role in ROLES)
    node = defaults()
    for key in path.split("."):
        if not isinstance(node, dict) or key not in node:
            return False
        node = node[key]
    return True


def check_words(text: str) -> None:
    """Dotted words in backticks are values of the chart, or files of it or of the page."""
    known = {path.name for path in CHART.rglob("*.yaml")} | set(written(text)) | FOREIGN
    for word in inline(text):
        key, _, _ = word.partition("=")
        if re.fullmatch(r"[a-zA-Z]+(?:\.(?:[a-zA-Z]+|<role>))+", key):
            assert has_value(key) or word in known or is_host(word), word
        elif re.fullmatch(r"[\w.-]+\.yaml", word):
            assert word in known, word


def is_host(word: str) -> bool:
    return word.endswith((".svc.cluster.local", ".example"))


@pytest.mark.parametrize("name", NAMES)
def test_the_words_of_a_page_exist(name: str) -> None:
    check_words((OPERATIONS / name).read_text())


@pytest.mark.parametrize(
    ("page", "command"),
    EVERY_HELM,
    ids=[f"{page.stem}-{number}" for number, (page, _) in enumerate(EVERY_HELM)],
)
def test_a_helm_command_does_what_the_page_says(page: Path, command: Command) -> None:
    check_helm(command, written(page.read_text()))


@pytest.mark.parametrize("name", NAMES)
def test_what_kubectl_is_asked_for_exists(name: str) -> None:
    there = objects()
    for command in commands((OPERATIONS / name).read_text(), "kubectl"):
        check_kubectl(command, there)


def test_no_command_is_passed_over() -> None:
    """As many as a plain search of the pages finds."""
    for program in ("helm", "kubectl"):
        for page in PAGES:
            text = page.read_text()
            whole = [words for words in inline(text) if "--namespace" in words]
            code = "\n".join([*blocks(text, "bash"), *whole])
            assert len(commands(text, program)) == len(
                re.findall(rf"(?:^|\| |\$\(){program} ", code, re.M)
            ), page
    assert len(EVERY_HELM) >= 12
    assert sum(1 for _, command in EVERY_HELM if command.refusal) == 3


def test_commands_of_releases_name_the_release() -> None:
    for page in PAGES:
        for command in commands(page.read_text(), "helm"):
            positional = command.positional()
            name = positional[3] if positional[1] == "get" else positional[2]
            assert name == "caracal", command


def test_the_files_that_a_page_gives_are_used_by_its_commands() -> None:
    for page in PAGES:
        text = page.read_text()
        used = {name for c in commands(text, "helm") for name in c.options("-f")}
        assert set(written(text)) <= used, page


def test_the_check_for_plaintext_prints_what_the_page_says() -> None:
    text = (OPERATIONS / NAMES[0]).read_text()
    (pattern,) = re.findall(r"grep --count '([^']+)'", text)
    (command,) = [c for c in commands(text, "helm") if c.words[1] == "template" and not c.refusal]
    made = "\n".join(texts_of(command, {}).values())
    assert re.findall(pattern, made, re.M) == []
    evaluation = (OPERATIONS / "deploy-with-helm.md").read_text()
    (first, *_) = rendering(OPERATIONS / "deploy-with-helm.md")
    assert re.findall(pattern, "\n".join(texts_of(first, written(evaluation)).values()), re.M)


def test_the_entries_are_those_that_the_external_secret_asks_for() -> None:
    (external,) = [o for o in objects() if o["kind"] == "ExternalSecret"]
    asked: dict[str, set[str]] = {}
    for item in external["spec"]["data"]:
        reference = item["remoteRef"]
        asked.setdefault(reference["key"], set()).update(
            {reference["property"]} if "property" in reference else set()
        )
    text = (OPERATIONS / NAMES[0]).read_text()
    table = re.search(r"^\| entry \|.*?\n\n", text, re.M | re.S)[0]
    told: dict[str, set[str]] = {}
    for row in table.strip().splitlines()[2:]:
        _, entries, contents, _ = row.split("|")
        for entry in inline(entries):
            told[entry] = set() if "optional" in contents else set(inline(contents))
    optional = {"caracal/sts-admin-token", "caracal/audit-admin-token", "caracal/metrics-bearer"}
    assert {entry: fields for entry, fields in told.items() if entry not in optional} == asked
    assert optional < set(told)
    searched = external["spec"]["dataFrom"][0]["find"]["name"]["regexp"]
    for entry in optional:
        assert entry.removeprefix("caracal/") in searched


def test_the_keys_of_a_secret_of_ones_own_are_those_that_are_mounted() -> None:
    text = (OPERATIONS / "deploy-with-helm.md").read_text()
    table = re.search(r"^\| key \|.*?\n\n", text, re.M | re.S)[0]
    told = {key for row in table.strip().splitlines()[2:] for key in inline(row.split("|")[1])}
    mounted = {
        item["key"]
        for workload in of_kind(render(values()), "StatefulSet", "Deployment", "Job")
        for volume in workload["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "secrets"
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }
    assert told == mounted


def test_the_table_of_clouds_is_that_of_the_overlays() -> None:
    text = (OPERATIONS / NAMES[0]).read_text()
    header, *rows = re.search(r"^\| \| AWS.*?\n\n", text, re.M | re.S)[0].strip().splitlines()
    cells = {row.split("|")[1].strip(): row.split("|")[2:5] for row in rows}
    for column, name in enumerate(("eks", "gke", "aks")):
        overlay = values(f"examples/values.{name}.yaml")
        assert name.upper() in header.split("|")[column + 2]

        def told(row: str, column: int = column) -> list[str]:
            return inline(cells[row][column])

        assert told("`replayPersistence.storageClassName`") == [
            overlay["replayPersistence"]["storageClassName"]
        ]
        classes = {ingress["className"] for ingress in overlay["ingress"].values()}
        assert set(told("`ingress.<role>.className`")) == classes
        (store,) = told("store")
        assert (EXTERNAL_SECRETS / store).is_file()


def test_the_sizes_are_those_of_the_values() -> None:
    text = (OPERATIONS / "scale.md").read_text()
    services = defaults()["services"]
    rows = re.findall(
        r"^\| `(\w+)` \| (\d+)–(\d+) \| (\d+) %, (\d+) % \| (\w+), (\w+) \|$", text, re.M
    )
    assert {row[0] for row in rows} == set(ROLES)
    for role, least, most, cpu, memory, *requests in rows:
        hpa = services[role]["hpa"]
        assert [int(least), int(most), int(cpu), int(memory)] == [
            hpa["minReplicas"], hpa["maxReplicas"],
            hpa["targetCPUUtilizationPercentage"], hpa["targetMemoryUtilizationPercentage"],
        ]  # fmt: skip
        assert requests == list(services[role]["resources"]["requests"].values())
    for bound in ("minReplicas", "maxReplicas"):
        total = sum(services[role]["hpa"][bound] for role in ROLES)
        assert re.search(rf"\b{total * 23}\b", text), total


def test_the_pages_name_every_overlay() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    for files in overlays():
        for name in files:
            assert Path(name).name in text


def broken(line: str) -> str:
    return f"```bash\n{line}\n```\n"


@pytest.mark.parametrize(
    "line",
    [
        "helm template caracal infra/helm/caracal --set global.mod=rc",
        "helm template caracal infra/helm/caracal -f infra/helm/caracal/values.production.yaml",
        "helm template caracal infra/helm/caracal -f infra/helm/caracal/values.none.yaml",
        "helm template caracal infra/helm/other",
        "# Refused: set secrets.redis.host\nhelm template caracal infra/helm/caracal",
        "# Refused: another reason\nhelm template caracal infra/helm/caracal --set secrets.create=true",
    ],
)
def test_a_helm_command_that_is_wrong_is_seen(line: str) -> None:
    (command,) = commands(broken(line), "helm")
    with pytest.raises((AssertionError, Refused, FileNotFoundError, pytest.fail.Exception)):
        check_helm(command, {})


@pytest.mark.parametrize(
    "line",
    [
        "kubectl --namespace caracal get secret caracal-none",
        "kubectl --namespace other get secret caracal-runtime",
        "kubectl --namespace caracal get certificate caracal-sts-tls caracal-none-tls",
        f"kubectl --namespace caracal logs deployment/{PREFIX}-sts",
        f"kubectl --namespace caracal port-forward service/{PREFIX}-api 3000:3001",
        "kubectl --namespace caracal get pods --selector app.kubernetes.io/instance=other",
        "kubectl apply -f infra/helm/caracal/examples/none.yaml",
    ],
)
def test_a_kubectl_command_that_is_wrong_is_seen(line: str) -> None:
    (command,) = commands(broken(line), "kubectl")
    with pytest.raises(AssertionError):
        check_kubectl(command, objects())


@pytest.mark.parametrize(
    "word",
    ["secrets.databse.host", "security.context", "services.<role>.hpa.least", "values.none.yaml"],
)
def test_a_word_that_is_wrong_is_seen(word: str) -> None:
    with pytest.raises(AssertionError):
        check_words(f"Set `{word}`.\n")


def test_a_placeholder_that_is_left_is_refused() -> None:
    left = set_strings(
        "secrets.database.host=<managed-postgres-host>", "secrets.redis.host=yours.test"
    )
    with pytest.raises(Refused, match=r"secrets.database.host|/secrets/database/host"):
        render(merge(values(MANAGED), left))
