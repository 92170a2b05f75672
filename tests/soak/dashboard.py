"""Have a real Prometheus watch the soak, and draw the dashboard of examples/deploy/monitoring from it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path
from typing import Any

import httpx
import yaml
from benchmarks.drawing import lines_of

from tests.pages import ROOT
from tests.soak.stage import Stage, free_ports

FOLDER = ROOT / "examples" / "deploy" / "monitoring"
_SCRAPE_SECONDS = 1
_STEP_SECONDS = 2

_STYLE = """
body { font: 13px sans-serif; margin: 12px; width: 1500px; background: #fff; color: #333 }
h2 { font-size: 16px; margin: 14px 0 4px } .row { display: flex; gap: 10px; flex-wrap: wrap }
figure { margin: 0; border: 1px solid #ddd; border-radius: 4px; padding: 6px; width: 478px }
figure.stat { width: 222px } .stat b { font-size: 30px; display: block; color: #1b9e77 }
"""


@asynccontextmanager
async def watched(stage: Stage, page: Path | None) -> AsyncIterator[None]:
    """Let Prometheus scrape kernels and workers meanwhile, and draw the dashboard at the end.

    Args:
        page: the HTML file to write; None watches nothing.
    """
    if page is None:
        yield
        return
    program = shutil.which("prometheus")
    assert program is not None, "prometheus is not installed: apt-get install prometheus"
    folder, (port,) = stage.folder / "prometheus", free_ports(1)
    folder.mkdir()
    (folder / "prometheus.yml").write_text(yaml.safe_dump(_configuration(stage)))
    shutil.copy(FOLDER / "alerts.yml", folder)
    address = f"127.0.0.1:{port}"
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, f"--web.listen-address={address}", stdout=log, stderr=log
        )
    began_at = time.time()
    try:
        yield
        await asyncio.to_thread(page.write_text, _drawn(Queries(f"http://{address}", began_at, time.time())))
    finally:
        process.terminate()
        await process.wait()


def _configuration(stage: Stage) -> Any:
    """The example's, with this stage's addresses and a shorter interval."""
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    configuration["global"] = {f"{what}_interval": f"{_SCRAPE_SECONDS}s" for what in ("scrape", "evaluation")}
    for job, ports in zip(
        configuration["scrape_configs"], (stage.proxy.ports, stage.metrics_ports), strict=True
    ):
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
    return configuration


class Queries:
    """Queries to Prometheus over one time."""

    def __init__(self, base_url: str, began_at: float, ended_at: float) -> None:
        self.began_at, self.ended_at = began_at, ended_at
        self._client = httpx.Client(base_url=base_url, timeout=60)

    def lines(self, query: str) -> list[tuple[Mapping[str, str], list[tuple[float, float]]]]:
        """The series of a query: their labels, and their values over seconds since the begin."""
        over = {"start": self.began_at, "end": self.ended_at, "step": _STEP_SECONDS}
        found = self._ask("query_range", query=query, **over)
        return [
            (
                series["metric"],
                [(at - self.began_at, float(value)) for at, value in series["values"] if value != "NaN"],
            )
            for series in found
        ]

    def number(self, query: str) -> str:
        """The value of a query at the middle."""
        found = self._ask("query", query=query, time=(self.began_at + self.ended_at) / 2)
        return f"{float(found[0]['value'][1]):.0f}" if found else "no data"

    def _ask(self, path: str, **parameters: Any) -> list[Any]:
        answer = self._client.get(f"/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        result: list[Any] = answer.json()["data"]["result"]
        return result


def _drawn(queries: Queries) -> str:
    parts = [f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style><div class=row>"]
    for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]:
        if panel["type"] == "row":
            parts.append(f"</div><h2>{escape(panel['title'])}</h2><div class=row>")
        elif panel["type"] == "stat":
            (target,) = panel["targets"]
            value = queries.number(_filled(target["expr"]))
            parts.append(f"<figure class=stat>{escape(panel['title'])}<b>{value}</b></figure>")
        else:
            parts.append(f"<figure>{_picture(panel, queries)}</figure>")
    return "\n".join([*parts, "</div>"])


def _picture(panel: Any, queries: Queries) -> str:
    lines = {}
    for target in panel["targets"]:
        for labels, points in queries.lines(_filled(target["expr"])):
            if points:
                lines[_legend(target["legendFormat"], labels)] = points
    if not lines:
        return f"{escape(panel['title'])}<br>no data"
    return lines_of(panel["title"], "seconds", panel["fieldConfig"]["defaults"]["unit"], lines)


def _filled(query: str) -> str:
    """As Grafana sends it, with all projects and agents chosen."""
    return re.sub(r"\$\w+", ".*", query.replace("$__rate_interval", "10s"))


def _legend(form: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), form)
