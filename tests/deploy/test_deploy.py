"""Everything in deploy/ is read by the tools that will read it in earnest, and its parts agree with each other."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
ALERTS = DEPLOY / "prometheus/alerts.yml"
KUBERNETES = "1.34"
TOOLS = ROOT / ".cache/tools/bin"
STOP_S = 32
"""After its deadline a drain and the stop take no longer (`DRAIN_GRACE` and `STOP_LIMIT` in src/serve.rs)."""
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
METRIC = re.compile(r"\b(?:sfu|sluice|turn|tls|signaling|process)_[a-z0-9_]+\b")
HELM_VALUES = {
    "as an operator would set it": DEPLOY / "helm/example-values.yaml",
}


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def helm(*arguments: str | Path) -> str:
    """Helm as tools/setup.sh installs it."""
    return run(TOOLS / "helm", *arguments)


def grafana_build():
    spec = importlib.util.spec_from_file_location("grafana_build", DEPLOY / "grafana/build.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["grafana_build"] = module
    spec.loader.exec_module(module)
    return module


def documented_metrics() -> set[str]:
    """Names of docs/metrics.md, which is generated from the registry of a running node."""
    return set(METRIC.findall((ROOT / "docs/metrics.md").read_text()))


def metrics_of(queries: list[str]) -> set[str]:
    names = {name for query in queries for name in METRIC.findall(query)}
    return {re.sub(r"_(bucket|count|sum)$", "", name) if not name.endswith("_drops_count") else name for name in names}


def test_alerting_rules_are_valid_and_each_fires_for_its_condition_only():
    run("promtool", "check", "rules", ALERTS)
    run("promtool", "test", "rules", "alerts.test.yml", cwd=DEPLOY / "prometheus")


def test_every_alert_is_tested_both_ways():
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts.test.yml").read_text())["tests"]
    fires = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
    silent = {case["alertname"] for test in tests for case in test["alert_rule_test"] if not case.get("exp_alerts")}
    names = {rule["alert"] for rule in RULES}
    assert fires == names
    assert silent == names


def test_the_runbook_has_a_section_for_each_alert_and_no_other():
    text = (DEPLOY / "runbook.md").read_text()
    sections = re.split(r"^## ", text, flags=re.M)[1:]
    assert {section.split("\n", 1)[0] for section in sections} == {rule["alert"] for rule in RULES}
    for section in sections:
        for part in ("**Means:**", "**Check:**", "**Do"):
            assert part in section, f"{part} in {section[:40]}"


def test_alerts_use_metrics_that_exist():
    assert metrics_of([rule["expr"] for rule in RULES]) - documented_metrics() == set()


def documented_words() -> dict[str, dict[str, set[str]]]:
    """The words of every label of docs/metrics.md, by metric."""
    sections = re.split(r"^### `(\w+)`$", (ROOT / "docs/metrics.md").read_text(), flags=re.M)[1:]
    lists = {name: re.findall(r"^- `(\w+)`: (.*)$", text, re.M) for name, text in zip(sections[::2], sections[1::2], strict=True)}
    return {name: {label: set(re.findall(r"`([^`]*)`", words)) for label, words in labels} for name, labels in lists.items()}


def test_alerts_and_their_tests_use_words_that_exist():
    """A reason that no node ever says would keep an alert silent, or make its test prove nothing."""
    known = documented_words()
    selector, matcher = re.compile(r"\b(\w+)\{([^{}]*)\}"), re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts.test.yml").read_text())["tests"]
    texts = [rule["expr"] for rule in RULES] + [series["series"] for test in tests for series in test["input_series"]]
    wrong, seen = [], 0
    for text in texts:
        for name, labels in selector.findall(text):
            words_of = known.get(re.sub(r"_(bucket|count|sum)$", "", name), {})
            for label, operator, value in matcher.findall(labels):
                if label not in words_of:
                    continue
                seen += 1
                parts = value.split("|") if "~" in operator else [value]
                wrong += [(name, label, part) for part in parts if not any(re.fullmatch(part, word) if "~" in operator else part == word for word in words_of[label])]
    assert wrong == []
    assert seen > 30, "hardly anything was compared"


def seconds(span: str) -> int:
    """Of "120s", "2m", "1h 5m", "65min"."""
    units = {"s": 1, "m": 60, "min": 60, "h": 3600}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)\s*([a-z]+)", span))


def test_whatever_stops_the_server_waits_longer_than_its_drain():
    unit = (DEPLOY / "systemd/sluice.service").read_text()
    examples = {path.stem: tomllib.loads(path.read_text()) for path in (DEPLOY / "config/examples").glob("*.toml")}
    drains = {name: seconds(example["server"]["drain_timeout"]) for name, example in examples.items() if "server" in example and name != "turn-only"}
    assert len(drains) >= 8 and all(drain > 0 for drain in drains.values()), drains
    assert seconds(re.search(r"^TimeoutStopSec=(.*)$", unit, re.M)[1]) >= max(drains.values()) + STOP_S
    assert "DRAIN_TIMEOUT" not in unit, "the environment would win over the file"

    sluice = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())["services"]["sluice"]
    assert seconds(sluice["stop_grace_period"]) >= seconds(sluice["environment"]["SLUICE_SERVER__DRAIN_TIMEOUT"]) + STOP_S

    for values in HELM_VALUES.values():
        documents = [d for d in yaml.safe_load_all(helm("template", "calls", DEPLOY / "helm/sluice", "--kube-version", KUBERNETES, "-f", values)) if d]
        (config,) = [tomllib.loads(d["data"]["sluice.toml"]) for d in documents if d["kind"] == "ConfigMap"]
        (pod,) = [d["spec"]["template"]["spec"] for d in documents if d["kind"] == "Deployment"]
        assert pod["terminationGracePeriodSeconds"] >= seconds(config["server"]["drain_timeout"]) + STOP_S


def test_dashboards_are_those_of_build_py_and_use_metrics_that_exist():
    build = grafana_build()
    assert {path.stem for path in (DEPLOY / "grafana").glob("*.json")} == set(build.DASHBOARDS)
    for name in build.DASHBOARDS:
        text = (DEPLOY / f"grafana/{name}.json").read_text()
        assert text == build.render(name), "run deploy/grafana/build.py"
        queries = [target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]]
        assert metrics_of(queries) - documented_metrics() == set()


def test_every_query_of_the_dashboards_is_promql():
    build = grafana_build()
    queries = [query for _, panels in build.DASHBOARDS.values() for panel in panels for query, _ in panel.lines]
    rules = {"groups": [{"name": "dashboards", "rules": [{"record": f"panel:{at}", "expr": query.replace("$__rate_interval", "5m")} for at, query in enumerate(queries)]}]}
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"sluice-dashboards-{os.getpid()}.yml"
    try:
        path.write_text(yaml.safe_dump(rules))
        run("promtool", "check", "rules", path)
    finally:
        path.unlink(missing_ok=True)


def test_prometheus_of_the_compose_project_reads_its_configuration():
    # promtool looks for the rule file where the container has it
    text = (DEPLOY / "compose/prometheus.yml").read_text().replace("/etc/prometheus/alerts.yml", str(ALERTS))
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"sluice-prometheus-{os.getpid()}.yml"
    try:
        path.write_text(text)
        run("promtool", "check", "config", path)
    finally:
        path.unlink(missing_ok=True)


def test_the_compose_project_is_valid_and_mounts_what_exists():
    env = {"SLUICE_KEYS": "key: secret", "SLUICE_ADDRESS": "203.0.113.7", "GRAFANA_PASSWORD": "x"}
    project = yaml.safe_load(run("docker-compose", "-f", "compose.yaml", "config", cwd=DEPLOY / "compose", env=env))
    for service in project["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":", 1)[0] if isinstance(volume, str) else volume["source"]
            assert not source.startswith("/") or Path(source).exists(), source
    assert set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose/compose.yaml").read_text())) <= set(re.findall(r"^(\w+)=", (DEPLOY / "compose/.env.example").read_text(), re.M))


def test_the_options_that_the_deployments_set_exist(sluice: Path):
    compose = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())
    values = {"SLUICE_KEYS": "key: 0123456789abcdef0123456789abcdef", "SLUICE_ADDRESS": "203.0.113.7"}
    env = {name: re.sub(r"\$\{(\w+)(?:[:-][^}]*)?\}", lambda m: values.get(m[1], "false"), value) for name, value in compose["services"]["sluice"]["environment"].items()}
    run(sluice, "config", "check", env=env)


def test_the_configuration_of_the_chart_is_accepted(sluice: Path, tmp_path: Path):
    for values in HELM_VALUES.values():
        documents = list(yaml.safe_load_all(helm("template", "calls", DEPLOY / "helm/sluice", "--kube-version", KUBERNETES, "-f", values)))
        (config,) = [d["data"]["sluice.toml"] for d in documents if d and d["kind"] == "ConfigMap"]
        keys = tmp_path / "keys"
        keys.write_text("key: 0123456789abcdef0123456789abcdef\n")
        keys.chmod(0o600)
        (tmp_path / "sluice.toml").write_text(config.replace("/run/sluice/keys", str(keys)))
        run(sluice, "config", "check", "--config", tmp_path / "sluice.toml")


@pytest.mark.parametrize("values", HELM_VALUES.values(), ids=HELM_VALUES.keys())
def test_the_chart_is_clean_and_its_objects_are_valid(values: Path):
    helm("lint", "--strict", DEPLOY / "helm/sluice", "-f", values)
    documents = [d for d in yaml.safe_load_all(helm("template", "calls", DEPLOY / "helm/sluice", "--kube-version", KUBERNETES, "-f", values)) if d]
    kinds = {d["kind"] for d in documents}
    assert {"Deployment", "Service", "ConfigMap", "NetworkPolicy"} <= kinds
    for document in documents:
        if "monitoring.coreos.com" not in document["apiVersion"]:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    (pod,) = [d["spec"]["template"]["spec"] for d in documents if d["kind"] == "Deployment"]
    assert "hostNetwork" not in pod and pod["securityContext"]["runAsNonRoot"]
    assert all("hostPort" not in port for container in pod["containers"] for port in container["ports"])
    if "PrometheusRule" in kinds:
        (rule,) = [d for d in documents if d["kind"] == "PrometheusRule"]
        assert rule["spec"]["groups"] == yaml.safe_load(ALERTS.read_text())["groups"]


def test_a_chart_without_what_it_needs_says_so():
    done = subprocess.run([TOOLS / "helm", "template", "calls", DEPLOY / "helm/sluice", "--kube-version", KUBERNETES, "--set", "keys.existingSecret=x"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "media.advertise" in done.stderr


def test_the_dockerfile_is_clean():
    run(Path(sys.executable).parent / "hadolint", DEPLOY / "docker/Dockerfile")


def test_the_image_gets_every_folder_that_the_build_needs():
    allowed = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.M))
    members = re.search(r"^members = \[(.*?)\]", (ROOT / "Cargo.toml").read_text(), re.M | re.S)[1]
    for member in re.findall(r'"([^"]+)"', members):
        assert any(member == path or member.startswith(f"{path}/") for path in allowed), f"{member} is missing in .dockerignore"


def test_the_systemd_unit_is_valid_and_hardened(sluice: Path, tmp_path: Path):
    unit = tmp_path / "sluice.service"
    unit.write_text((DEPLOY / "systemd/sluice.service").read_text().replace("/usr/local/bin/sluice", str(sluice)))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "sluice.service" not in done.stderr, done.stderr
    report = run("systemd-analyze", "security", "--offline=true", "--threshold=25", unit)
    assert "OK" in report.splitlines()[-1]


@pytest.fixture(scope="session")
def sluice() -> Path:
    binary = Path(os.environ.get("SLUICE_BIN", ROOT / "target/debug/sluice"))
    assert binary.exists(), f"{binary}: build it first"
    return binary


def test_the_tools_are_here():
    missing = [tool for tool in ("promtool", "docker-compose", "systemd-analyze") if shutil.which(tool) is None]
    assert missing == [] and (TOOLS / "helm").exists()
