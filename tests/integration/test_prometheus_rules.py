"""Rules and alerts, checked by Prometheus's own tool, and the page that says what to do about an alert."""

import re

import pytest
import yaml
from prometheus_tools import CONFIG, ROOT, promtool

DEPLOY = ROOT / "deploy" / "prometheus"
RULES = sorted((DEPLOY / "rules").glob("*.yml"))
TESTS = sorted((DEPLOY / "tests").glob("*.yml"))


def rules():
    for file in RULES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


def alerts():
    return [rule for rule in rules() if "alert" in rule]


def test_prometheus_accepts_the_configuration_and_the_rules():
    assert f"{len(RULES)} rule files found" in promtool("check", "config", "--lint=all", CONFIG)
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", *RULES)


def test_rules_give_what_they_should_and_alerts_fire_when_they_should():
    assert promtool("test", "rules", *TESTS).count("SUCCESS") == len(TESTS)


@pytest.mark.parametrize("name", sorted({each["alert"] for each in alerts()}))
def test_each_alert_is_tested_both_ways(name):
    checks = [
        check
        for file in TESTS
        for test in yaml.safe_load(file.read_text())["tests"]
        for check in test.get("alert_rule_test", ())
        if check["alertname"] == name
    ]
    fired = {alert["exp_labels"]["severity"] for check in checks for alert in check["exp_alerts"]}
    assert fired == {each["labels"]["severity"] for each in alerts() if each["alert"] == name}
    assert any(check["exp_alerts"] == [] for check in checks)


def test_each_alert_has_a_paragraph_in_the_runbooks_and_each_paragraph_an_alert():
    page = (ROOT / "docs" / "runbooks.md").read_text()
    paragraphs = dict(re.findall(r"^## (\w+)\n\n(.+?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert set(paragraphs) == {each["alert"] for each in alerts()}
    for alert in alerts():
        assert alert["annotations"]["runbook"] == f"docs/runbooks.md#{alert['alert'].lower()}"
        assert alert["labels"]["severity"] in {"critical", "warning"}
    for name, paragraph in paragraphs.items():
        assert "**Do:**" in paragraph, name
