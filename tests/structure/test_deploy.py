"""What `deploy/` watches exists: rules that Prometheus accepts, and no metric that the service does not have."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import yaml

from tests.support.node import ROOT, Node

PROMETHEUS, GRAFANA = ROOT / "deploy/prometheus", ROOT / "deploy/grafana"
RULES = PROMETHEUS / "rules.yml"
DASHBOARD = GRAFANA / "dashboards/ratelimiter.json"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize("what", [("check", "config", "prometheus.yml"), ("check", "rules", "rules.yml")])
def test_prometheus_accepts_its_files(what: tuple[str, ...]) -> None:
    checked = subprocess.run(["promtool", *what], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def rules() -> list[dict[str, str]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [rule["expr"] for rule in rules()] + [target["expr"] for panel in panels for target in panel["targets"]]


def test_every_metric_of_rules_and_dashboard_is_there(node: Node) -> None:
    node.check("watched")
    text = node.request("GET", "/metrics", key=None).text
    served = set(re.findall(r"^([a-z_]+)[{ ]", text, re.MULTILINE))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    named = set(re.findall(r"\b(?:ratelimiter|flask)_\w+|\bratelimiter:\w+:\w+", "\n".join(expressions())))
    assert len(named) > 15
    assert named - served - recorded == set()


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) > 5
    for alert in alerts:
        assert alert["labels"].keys() == {"severity"}, alert
        assert alert["annotations"].keys() == {"summary", "action"}, alert


def test_the_dashboard_asks_the_data_source_that_is_provisioned() -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"] for source in sources}
