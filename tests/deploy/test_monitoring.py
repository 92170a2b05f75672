"""examples/deploy/monitoring: Prometheus reads it, each alert fires and is quiet, and each metric exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cgworker import events
from cgworker.kernel.metrics import Metrics
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.worker.outbox.outbox import Outbox
from cgworker.worker.telemetry.metrics import WorkerMetrics
from tests.pages import ROOT

FOLDER = ROOT / "examples" / "deploy" / "monitoring"
DASHBOARD = FOLDER / "dashboard.json"
PROMTOOL = shutil.which("promtool")
NO_PROMTOOL = "promtool is not installed, so nobody checks the alert rules: apt-get install prometheus"

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason=NO_PROMTOOL)


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Each query of the dashboard with the title of its panel, as Grafana would send it for all agents."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "1m")
            yield panel["title"], re.sub(r"\$\w+", ".*", query)


def _promtool(*arguments: str) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@needs_promtool
def test_prometheus_reads_the_configuration() -> None:
    """The scrape configuration, with its rules."""
    _promtool("check", "config", "prometheus.yml")


@needs_promtool
def test_each_alert_fires_and_is_quiet_as_its_test_says() -> None:
    """promtool plays invented series to the rules."""
    _promtool("test", "rules", "alerts.test.yml")
    tested = (FOLDER / "alerts.test.yml").read_text()
    assert [rule["alert"] for rule in _rules() if f"alertname: {rule['alert']}\n" not in tested] == []


@needs_promtool
def test_each_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    """Prometheus itself reads them."""
    rules = [{"record": f"panel:{n}", "expr": query} for n, (_, query) in enumerate(dashboard_queries())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    _promtool("check", "rules", str(file))


def _kernel_names() -> set[str]:
    described = [
        metric for each in vars(Metrics()).values() if hasattr(each, "describe") for metric in each.describe()
    ]
    return {f"{m.name}{'_total' if m.type == 'counter' else ''}" for m in described}


def _worker_names(tmp_path: Path) -> set[str]:
    """The names that OpenTelemetry's exporter for Prometheus gives to a worker's metrics."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry)
    metrics = WorkerMetrics(MeterProvider([reader]).get_meter("cgworker"), Outbox(tmp_path, max_bytes=1))
    agent = AgentRef(project_id="acme", agent_id="desk")
    about: Any = {"turn": TurnRef(project_id="acme", turn_id="T-1"), "agent": agent, "attempt": 1}
    for event in (
        events.TurnClaimed(kind="k", **about),
        events.HandlerStarted(seconds=1.0, **about),
        events.RenewalFailed(error="e", seconds_left=1.0, **about),
        events.LeaseEnded(reason="r", **about),
        events.HandlerStuck(stuck_count=1, **about),
        events.TurnGivenUp(outcome=None, reason="r", **about),
        events.ResultKept(path="p", reason="r", **about),
        events.TurnSettled(outcome="succeeded", seconds=1.0, **about),
    ):
        metrics.note(event)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {sample.name for family in families for sample in family.samples}


def test_each_metric_that_is_asked_for_exists(tmp_path: Path) -> None:
    """A metric that is renamed must be renamed in the dashboard and in the alerts."""
    queries = [query for _, query in dashboard_queries()] + [rule["expr"] for rule in _rules()]
    asked = set(re.findall(r"\b(?:cg|cgworker|messaging)_\w+(?=[{\[ )]|$)", " ".join(queries)))
    known = _kernel_names() | _worker_names(tmp_path) | {"cg_request_seconds_bucket"}
    assert len(asked) > 20
    assert asked - known == {"messaging_destination_name", "cgworker_outcome"}  # these are labels
