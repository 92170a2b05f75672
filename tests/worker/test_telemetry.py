"""Spans and metrics of a worker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cgworker import KernelClient, Succeeded, Turn, TurnRef, Worker, inject_trace, instrument
from cgworker.errors import UsageError
from cgworker.events import HandlerStarted, LeaseEnded, TurnClaimed, TurnGivenUp, TurnSettled
from cgworker.testing import play
from cgworker.wire.turns import Dispatch, RootRequest
from cgworker.worker.outbox.outbox import Outbox
from cgworker.worker.telemetry.metrics import WorkerMetrics
from tests.turns import AGENT, make_turn

SECRET = "the-payload"
FACTS: dict[str, Any] = {"turn": TurnRef(project_id="p", turn_id="T-1"), "agent": AGENT, "attempt": 1}


async def spans_of(handler: Any) -> tuple[ReadableSpan, ...]:
    """The spans of one turn."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    desk = Worker(KernelClient("http://127.0.0.1:9", agent=AGENT, token="t"), handler)
    instrument(desk, tracer_provider=provider, meter_provider=MeterProvider())
    await play(desk, {"text": SECRET}, attempt=2)
    return exporter.get_finished_spans()


async def test_a_handlers_own_spans_hang_under_the_turns() -> None:
    """The span of the turn is current in the handler, and says which attempt it was and what came of it."""
    seen: list[trace.Span] = []

    async def handle(_turn: Turn) -> None:
        seen.append(trace.get_current_span())

    (span,) = await spans_of(handle)
    assert seen[0].get_span_context() == span.context
    assert span.attributes is not None
    assert span.attributes["cgworker.attempt"] == 2
    assert span.attributes["cgworker.outcome"] == "succeeded"


@pytest.mark.parametrize("raised", [ValueError(SECRET), KeyError(SECRET)])
async def test_a_span_of_a_failed_turn_says_what_class_was_raised_and_nothing_of_its_text(
    raised: Exception,
) -> None:
    """An exception's text may hold a payload or a credential."""

    async def handle(_turn: Turn) -> None:
        raise raised

    (span,) = await spans_of(handle)
    assert span.status.status_code is trace.StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == type(raised).__name__
    assert SECRET not in span.to_json()


async def test_figures_add_up(tmp_path: Path) -> None:
    """A turn given up before it was read was never held."""
    reader = InMemoryMetricReader()
    outbox = Outbox(tmp_path, max_bytes=100_000)
    figures = WorkerMetrics(MeterProvider([reader]).get_meter("test"), outbox)
    for turn_id in ("T-1", "T-2"):
        await outbox.put(make_turn(turn_id=turn_id), Succeeded(1))
    for event in (
        TurnClaimed(**FACTS, kind="k"),
        HandlerStarted(**FACTS, seconds=0.25),
        TurnSettled(**FACTS, outcome="succeeded", seconds=1.5),
        LeaseEnded(**FACTS, reason="over"),
        TurnGivenUp(**FACTS, outcome=None, reason="the lease was lost"),
    ):
        figures.note(event)
    data = reader.get_metrics_data()
    assert data is not None
    points = {m.name: m.data.data_points[0] for m in data.resource_metrics[0].scope_metrics[0].metrics}
    counted = {name: getattr(point, "value", None) for name, point in points.items()}
    assert counted["cgworker.turns.held"] == 0
    assert counted["cgworker.turns.settled"] == 1
    assert counted["cgworker.turns.given_up"] == 1
    assert counted["cgworker.leases.lost"] == 1
    assert counted["cgworker.outbox.waiting"] == 2
    assert getattr(points["messaging.process.duration"], "sum", None) == 1.5
    assert getattr(points["cgworker.claim_to_run.duration"], "sum", None) == 0.25
    for name, seconds in {"messaging.process.duration": 1.5, "cgworker.claim_to_run.duration": 0.25}.items():
        bounds = points[name].explicit_bounds  # type: ignore[union-attr]
        assert 0.1 < min(bound for bound in bounds if bound >= seconds) <= 2.5, name


def test_without_opentelemetry_a_dispatch_stays_and_a_worker_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "cgworker.worker.telemetry.spans", None)
    dispatch = Dispatch(
        requested_by=AGENT,
        target_agent=AGENT,
        input=1,
        dispatch_key="k",
        authority=RootRequest(request_id="k"),
    )
    assert inject_trace(dispatch) is dispatch
    with pytest.raises(UsageError, match=r"pip install 'cgworker\[otel\]'"):
        instrument(Worker(KernelClient("http://127.0.0.1:9", agent=AGENT, token="t")))
