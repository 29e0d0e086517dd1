"""The alert rules: about metrics there are, tried by Prometheus itself, each with a runbook."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.harness.documents import ROOT
from tests.harness.monitoring import JOB, PROMETHEUS, promtool, unknown_in

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
CASES: list[dict[str, Any]] = [
    case
    for test in yaml.safe_load((PROMETHEUS / "alerts-test.yaml").read_text())["tests"]
    for case in test["alert_rule_test"]
]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


def test_what_an_operator_must_hear_of_has_an_alert() -> None:
    assert {rule["alert"].removeprefix("InterestStream") for rule in RULES} == {
        "WorkerDown", "NoWorkers", "Lag", "SlowUpdates", "DeadLetters", "NoCommits",
        "NotReady", "RecoveryTooLong", "ModelMismatch", "Restarts",
    }  # fmt: skip


@each_rule
def test_an_alert_asks_for_metrics_there_are(rule: dict[str, Any]) -> None:
    assert not unknown_in(rule["expr"])


def test_a_metric_or_label_there_is_not_would_be_found() -> None:
    assert unknown_in("sum(interest_stream_lags)") == ["interest_stream_lags"]
    wrong = 'interest_stream_lag_records{job="a", topic="b"}'
    assert unknown_in(wrong) == ["interest_stream_lag_records{topic}"]


@each_rule
def test_an_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/operations.md"
    heading = f"### {anchor.replace('-', ' ').capitalize()}"
    section = OPERATIONS.partition(f"\n{heading}\n")[2].split("\n##")[0]
    assert f"`{rule['alert']}`" in section, f"{heading} of docs/operations.md"


def test_every_runbook_section_belongs_to_an_alert() -> None:
    part = OPERATIONS.partition("\n## Alerts and what to do\n")[2].split("\n## ")[0]
    named = set(re.findall(r"`(InterestStream\w+)`", part))
    assert named == {rule["alert"] for rule in RULES}


@each_rule
def test_an_alert_waits_and_says_how_bad_it_is(rule: dict[str, Any]) -> None:
    """None fires on one bad scrape, and nobody is woken for what can wait."""
    assert re.fullmatch(r"\d+m", rule["for"])
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"page", "ticket"}


@each_rule
def test_an_alert_is_tried_where_it_fires_and_where_it_does_not(rule: dict[str, Any]) -> None:
    cases = [case for case in CASES if case["alertname"] == rule["alert"]]
    assert any(case["exp_alerts"] for case in cases)
    # Either at no time at all, or for one of several that look alike: cases list all that fire.
    quiet = any(not case["exp_alerts"] for case in cases)
    assert quiet or rule["alert"] == "InterestStreamDeadLetters"


def test_promtool_takes_the_rules() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", PROMETHEUS / "alerts.yaml")


def test_promtool_takes_the_configuration() -> None:
    said = promtool("check", "config", PROMETHEUS / "prometheus.yaml")
    assert "1 rule files found" in said


def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", PROMETHEUS / "alerts-test.yaml")


def test_the_scrapes_have_the_name_that_rules_ask_for() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    assert [each["job_name"] for each in config["scrape_configs"]] == [JOB]
    asked = {job for rule in RULES for job in re.findall(r"job(=.+?)[,}]", rule["expr"])}
    assert asked == {f'=~"{JOB}.*"'}, "a job for each stream, whose names begin with it"
