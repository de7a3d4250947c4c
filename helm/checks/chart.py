#!/usr/bin/env python3
"""Checks the chart, the alerts, the dashboard and compose.yaml. `./dev chart` calls it with the tools in place.

usage: chart.py --pelton BINARY --schemas DIRECTORY --compose LOADER [--update]

Every ci/*-values.yaml is rendered, compared with its snapshot, validated strictly against the schemas of Kubernetes and of
the CRDs, and held to the restricted Pod Security Standard; `pelton validate` reads each configuration that comes out. Goes
through everything and fails at the end, with all that is wrong.
"""
import argparse
import difflib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHECKS = ROOT / "helm/checks"
CHART = ROOT / "helm/pelton"
SNAPSHOTS = CHECKS / "snapshots"
ALERTS = CHART / "files/alerts.yaml"
DASHBOARD = CHART / "files/dashboard.json"
RUNBOOK = "https://github.com/pelton-stream/pelton/blob/main/"
NEWEST = "1.37.0"
OLDEST = "1.29.0"
# Of ci files that need more than OLDEST.
NEEDS = re.compile(r"^# Kubernetes (1\.\d+)\b.* and newer", re.MULTILINE)

problems: list[str] = []


def problem(where: str, what: str) -> None:
    problems.append(f"{where}: {what}")


def say(text: str) -> None:
    print(f"    {text}", file=sys.stderr)


def run(*command, **options) -> subprocess.CompletedProcess:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)


def passes(where: str, *command, **options) -> str:
    """The standard output of a command that must succeed."""
    done = run(*command, **options)
    if done.returncode != 0:
        problem(where, (done.stdout + done.stderr).strip())
    return done.stdout


def render(*values: pathlib.Path, version: str = NEWEST) -> subprocess.CompletedProcess:
    files = [part for file in values for part in ("--values", file)]
    return run("helm", "template", "demo", CHART, "--namespace", "streams", "--kube-version", version, *files)


def snapshot(name: str, text: str, update: bool) -> None:
    # What is read by eye is that the files get in, not what is in them.
    for file, indent in ((ALERTS, "  "), (DASHBOARD, "    ")):
        block = "\n".join(indent + line for line in file.read_text().splitlines())
        text = text.replace(block, f"{indent}file: {file.relative_to(ROOT)}")
    text = text.rstrip() + "\n"
    target = SNAPSHOTS / f"{name}.yaml"
    if update:
        SNAPSHOTS.mkdir(exist_ok=True)
        target.write_text(text)
        return
    reviewed = target.read_text() if target.exists() else ""
    if reviewed != text:
        lines = difflib.unified_diff(
            reviewed.splitlines(), text.splitlines(), f"snapshots/{name}.yaml", "rendered now", lineterm=""
        )
        problem(name, "renders otherwise than reviewed; `./dev chart --update` if that is right\n" + "\n".join(lines))


def objects(text: str) -> list[dict]:
    return [item for item in yaml.safe_load_all(text) if item]


def pod_specs(items: list[dict]):
    for item in items:
        if item["kind"] == "Pod":
            yield f"{item['kind']}/{item['metadata']['name']}", item["spec"]
        elif "template" in item.get("spec", {}):
            yield f"{item['kind']}/{item['metadata']['name']}", item["spec"]["template"]["spec"]


RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
}


def restricted(where: str, pod: dict) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, and what we add to it."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            problem(where, f"{key} is not restricted")
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds or not kinds <= RESTRICTED_VOLUMES:
            problem(where, f"volume {volume['name']} of kind {sorted(kinds)}")
    of_pod = pod.get("securityContext", {})
    if of_pod.get("sysctls"):
        problem(where, "sysctls")
    for container in pod.get("initContainers", []) + pod["containers"]:
        name, own = container["name"], container.get("securityContext", {})
        capabilities = own.get("capabilities", {})
        wants = {
            "runAsNonRoot": own.get("runAsNonRoot", of_pod.get("runAsNonRoot")) is True,
            "runAsUser": own.get("runAsUser", of_pod.get("runAsUser")) != 0,
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "privileged": not own.get("privileged"),
            "procMount": own.get("procMount", "Default") == "Default",
            "capabilities.drop": "ALL" in capabilities.get("drop", []),
            "capabilities.add": set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
            "seccompProfile": own.get("seccompProfile", of_pod.get("seccompProfile", {})).get("type")
            in ("RuntimeDefault", "Localhost"),
            "hostPort": not any(port.get("hostPort") for port in container.get("ports", [])),
        }
        # Ours: of the chart's own containers.
        if name in ("pelton", "validate", "ready"):
            wants["readOnlyRootFilesystem"] = own.get("readOnlyRootFilesystem") is True
        for key, right in wants.items():
            if not right:
                problem(where, f"{key} of container {name} is not restricted")
        # A ConfigMap that is mounted by subPath never changes in a running pod.
        for mount in container.get("volumeMounts", []):
            if "subPath" in mount:
                problem(where, f"{mount['name']} is mounted by subPath")
    if pod.get("automountServiceAccountToken") is not False:
        problem(where, "the service account's token is mounted")


def processor(where: str, pod: dict) -> None:
    """What Pelton needs from its pod."""
    container = next(item for item in pod["containers"] if item["name"] == "pelton")
    environment = {item["name"]: item for item in container["env"]}
    port = container["ports"][0]["containerPort"]
    if environment["PELTON__ADMIN__LISTEN"]["value"] != f"0.0.0.0:{port}":
        problem(where, "the admin server does not listen where the probes ask")
    if environment["PELTON_INSTANCE"]["valueFrom"]["fieldRef"]["fieldPath"] != "metadata.name":
        problem(where, "the instance is not the pod's name")
    for name in ("PELTON__CACHE_DIR", "PELTON__ADMIN__SOCKET"):
        place = environment[name]["value"]
        if not any(place.startswith(mount["mountPath"] + "/") for mount in container["volumeMounts"]):
            problem(where, f"{name} is not on a volume")
    for probe, path in {"startupProbe": "/startupz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}.items():
        if container[probe]["httpGet"] != {"path": path, "port": "admin"}:
            problem(where, f"{probe} does not ask {path}")


def configuration(where: str, text: str, pelton: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / "config.yaml"
        file.write_text(text)
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PELTON", "KAFKA_"))}
        passes(where, pelton, "validate", "--no-environment", "--config", file, env=clean)


def conform(where: str, text: str, schemas: pathlib.Path, version: str) -> None:
    location = schemas / version / "{{.ResourceKind}}{{.KindSuffix}}.json"
    passes(where, "kubeconform", "-strict", "-summary", "-kubernetes-version", version, "-schema-location", location,
           input=text)


def chart(options) -> None:
    passes("values.schema.json", sys.executable, CHECKS / "values_schema.py", *([] if options.update else ["--check"]))
    cases = sorted(CHART.glob("ci/*-values.yaml"))
    for values in cases:
        name = values.name.removesuffix("-values.yaml")
        passes(f"helm lint, {name}", "helm", "lint", "--strict", "--quiet", CHART, "--values", values)
        rendered = render(values)
        if rendered.returncode != 0:
            problem(name, rendered.stderr.strip())
            continue
        snapshot(name, rendered.stdout, options.update)
        conform(f"{name}, Kubernetes {NEWEST}", rendered.stdout, options.schemas, NEWEST)
        if not NEEDS.search(values.read_text()):
            conform(f"{name}, Kubernetes {OLDEST}", render(values, version=OLDEST).stdout, options.schemas, OLDEST)
        items = objects(rendered.stdout)
        for where, pod in pod_specs(items):
            restricted(f"{name}, {where}", pod)
            if not where.startswith("Pod/"):
                processor(f"{name}, {where}", pod)
        for item in items:
            text = item.get("data", {}).get("config.yaml") if item["kind"] == "ConfigMap" else None
            if text:
                configuration(f"{name}, pelton validate", text, options.pelton)
    stray = {file.stem for file in SNAPSHOTS.glob("*.yaml")} - {case.name.removesuffix("-values.yaml") for case in cases}
    for name in sorted(stray):
        problem(f"snapshots/{name}.yaml", "there are no such values")
    say(f"{len(cases)} sets of values: rendered, reviewed, valid for Kubernetes {OLDEST} and {NEWEST}, restricted")


def refusals() -> None:
    cases = yaml.safe_load((CHECKS / "refused.yaml").read_text())
    with tempfile.TemporaryDirectory() as directory:
        for case in cases:
            file = pathlib.Path(directory) / "values.yaml"
            file.write_text(yaml.safe_dump(case["values"]))
            rendered = render(CHART / f"ci/{case.get('base', 'minimal')}-values.yaml", file)
            if rendered.returncode == 0:
                problem(case["name"], "is not refused")
            elif case["says"] not in rendered.stderr:
                problem(case["name"], f"is refused with other words: {rendered.stderr.strip()}")
    say(f"{len(cases)} mistakes in values are refused")


def known_metrics() -> tuple[str, dict[str, set[str]]]:
    """Names and labels, out of the documentation."""
    documented = ROOT / "docs/metrics.md"
    known = {}
    for name, about in re.findall(r"^### `(pelton_[a-z0-9_]+)`\n+(.*)$", documented.read_text(), re.MULTILINE):
        labels = re.search(r"\blabels? ((?:`[a-z_]+`(?:, )?)+)", about)
        known[name] = set(re.findall(r"[a-z_]+", labels[1])) if labels else set()
    return str(documented.relative_to(ROOT)), known


def monitoring() -> None:
    passes("alerts.yaml", "promtool", "check", "rules", ALERTS)
    passes("alerts_test.yaml", "promtool", "test", "rules", CHECKS / "alerts_test.yaml")
    source, known = known_metrics()
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    tested = (CHECKS / "alerts_test.yaml").read_text()
    for rule in rules:
        alert, notes = rule["alert"], rule["annotations"]
        if not {"summary", "description", "runbook_url"} <= set(notes):
            problem(alert, "lacks an annotation")
        page, _, anchor = notes["runbook_url"].removeprefix(RUNBOOK).partition("#")
        file = ROOT / page
        headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE) if file.is_file() else []
        if anchor not in [heading.lower().replace(" ", "-") for heading in headings]:
            problem(alert, f"its runbook is not there: {page}#{anchor}")
        if f"alertname: {alert}\n        exp_alerts" not in tested:
            problem(alert, "has no test in which it fires")
        uses(alert, rule["expr"], source, known)
    expressions = list(targets(json.loads(DASHBOARD.read_text())["panels"]))
    for panel, expression in expressions:
        uses(f"dashboard, {panel}", expression, source, known)
    if not known:
        problem(source, "there are no metrics in it")
    promql(expressions)
    say(f"{len(rules)} alerts fire when they should; {len(expressions)} queries of the dashboard; metrics as in {source}")


# Of every series: the scraper's, and those that the monitors set; `le` of histograms.
OF_ALL = {"namespace", "application", "instance", "job", "pod", "le"}


def uses(where: str, expression: str, source: str, known: dict[str, set[str]]) -> None:
    """Every metric is known, and every label that is named belongs to one of them."""
    has = set(OF_ALL)
    for name in re.findall(r"\bpelton_[a-z0-9_]+\b", expression):
        name = name if name in known else re.sub(r"_(bucket|sum|count)$", "", name)
        if name not in known:
            problem(where, f"{name} is not in {source}")
        has |= known.get(name, set())
    named = re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
    named += [re.sub(r'"[^"]*"', "", inside) for inside in re.findall(r"\{([^}]*)\}", expression)]
    for label in sorted(set(re.findall(r"[a-z_]+", " ".join(named))) - has):
        problem(where, f"no metric of it has the label {label}, says {source}")


def targets(panels: list[dict]):
    for panel in panels:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
        yield from targets(panel.get("panels", []))


def promql(expressions: list[tuple[str, str]]) -> None:
    """Grafana's variables aside, each query must be PromQL: promtool reads them as recording rules."""
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, (_, expression) in enumerate(expressions)
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
        file.flush()
        passes("dashboard", "promtool", "check", "rules", file.name)


def compose(options) -> None:
    """The loader of `docker compose`, the files that are mounted, and the configurations that are in them."""
    passes("compose.yaml", options.compose, ROOT / "compose.yaml", cwd=ROOT)
    model = yaml.safe_load((ROOT / "compose.yaml").read_text())
    for name, service in model["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0] if isinstance(volume, str) else volume["source"]
            # Built modules are not in the repository.
            if source.startswith("./") and "/target/" not in source and not (ROOT / source).exists():
                problem("compose.yaml", f"{name} mounts {source}, which is not there")
    configuration("compose.yaml, pelton validate", (ROOT / "docker/compose/pelton/config.yaml").read_text(), options.pelton)
    passes("prometheus.yml", "promtool", "check", "config", "--syntax-only", ROOT / "docker/compose/prometheus.yml")
    say(f"compose.yaml: {len(model['services'])} services")


def versions() -> None:
    """One version of everything; ./dev release relies on it."""
    version = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    if not about["version"] == about["appVersion"] == version:
        problem("Chart.yaml", f"version and appVersion are not {version}, which Cargo.toml says")
    if f"/pelton:{version}}}" not in (ROOT / "compose.yaml").read_text():
        problem("compose.yaml", f"its image of Pelton is not {version}")


def lint() -> None:
    places = [CHART / "Chart.yaml", CHART / "values.yaml", CHART / "ci", ALERTS, CHECKS, ROOT / "compose.yaml",
              ROOT / "docker/compose", ROOT / ".github"]
    passes("yamllint", sys.executable, "-m", "yamllint", "--strict", "--config-file", CHECKS / "yamllint.yaml",
           *[place for place in places if place.exists()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pelton", required=True)
    parser.add_argument("--schemas", required=True, type=pathlib.Path)
    parser.add_argument("--compose", required=True)
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    chart(options)
    refusals()
    monitoring()
    compose(options)
    versions()
    lint()
    if problems:
        sys.exit("\n".join(problems) + f"\n{len(problems)} problems")


if __name__ == "__main__":
    main()
