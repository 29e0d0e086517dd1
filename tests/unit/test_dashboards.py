"""Grafana's dashboard and what provisions it: metrics there are, PromQL, files in their places."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness.documents import ROOT
from tests.harness.monitoring import JOB, check_expressions, documented, unknown_in

GRAFANA = ROOT / "docker" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards/interest-stream.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SOURCE = {"type": "prometheus", "uid": "prometheus"}
_GRID_COLUMNS = 24


def expressions() -> list[str]:
    return [target["expr"] for panel in PANELS for target in panel["targets"]]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_metrics_there_are_of_the_chosen_stream(panel: dict[str, Any]) -> None:
    assert panel["datasource"] == SOURCE
    assert panel["targets"]
    for target in panel["targets"]:
        assert not unknown_in(target["expr"])
        assert 'job="$job"' in target["expr"]


def test_prometheus_can_parse_every_panel(tmp_path: Path) -> None:
    filled = [each.replace("$__rate_interval", "1m").replace("$job", JOB) for each in expressions()]
    check_expressions(filled, tmp_path)


def test_what_the_alerts_look_at_is_on_the_dashboard() -> None:
    rules = (ROOT / "docker" / "prometheus" / "alerts.yaml").read_text()
    shown = " ".join(expressions())
    looked_at = {name for name in documented() if name in rules}
    assert looked_at
    assert {name for name in looked_at if name not in shown} == set()


def test_no_two_panels_lie_on_each_other() -> None:
    covered: Counter[tuple[int, int]] = Counter()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= _GRID_COLUMNS
        for x in range(at["x"], at["x"] + at["w"]):
            covered.update((x, y) for y in range(at["y"], at["y"] + at["h"]))
    assert max(covered.values()) == 1
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_stream_is_chosen_among_those_there_are() -> None:
    (chosen,) = DASHBOARD["templating"]["list"]
    assert chosen["name"] == "job"
    assert not unknown_in(chosen["query"]["query"])


def test_nobody_logs_in_with_a_first_password() -> None:
    services = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
    allowed = services["grafana"]["environment"]
    assert allowed["GF_AUTH_BASIC_ENABLED"] == "false"
    assert allowed["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert allowed["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert all(port.startswith("127.0.0.1:") for port in services["grafana"]["ports"])


def test_grafana_gets_source_and_dashboard_where_compose_puts_them() -> None:
    provisioning = GRAFANA / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())
    (source,) = sources["datasources"]
    assert {"type": source["type"], "uid": source["uid"]} == SOURCE
    services = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    places = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    (provider,) = yaml.safe_load((provisioning / "dashboards/interest-stream.yaml").read_text())[
        "providers"
    ]
    assert provider["options"]["path"] == places["./grafana/dashboards"]
    assert places["./grafana/provisioning"] == "/etc/grafana/provisioning"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{places['./grafana/dashboards']}/interest-stream.json"
