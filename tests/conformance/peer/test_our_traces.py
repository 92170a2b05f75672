"""Traces at the reference's server: it keeps what a dispatch carries, and tells it in the turn's feed."""

from __future__ import annotations

import secrets

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cgworker import Turn, Worker, inject_trace, instrument
from cgworker.wire.turns import Dispatch, RootRequest
from tests.conformance.peer.elsewhere import OPTIONS, Desk


async def test_a_turn_hangs_under_the_span_it_was_dispatched_in(desk: Desk) -> None:
    """As at our own kernel."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    worker = Worker(desk.kernel, options=OPTIONS)
    instrument(worker, tracer_provider=provider, meter_provider=MeterProvider())

    @worker.turn()
    async def handle(_: Turn) -> None: ...

    assert desk.asker.agent is not None
    key = secrets.token_hex(8)
    dispatch = Dispatch(
        requested_by=desk.asker.agent,
        target_agent=desk.agent,
        input={},
        dispatch_key=key,
        authority=RootRequest(request_id=key),
    )
    with provider.get_tracer("my.program").start_as_current_span("my program"):
        turn = await desk.asker.turns.dispatch(inject_trace(dispatch))
    await worker.once()
    await desk.closed(turn)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    dispatched, run = spans["my program"].context, spans[f"process {desk.agent}"].parent
    assert dispatched is not None
    assert run is not None
    assert (run.trace_id, run.span_id) == (dispatched.trace_id, dispatched.span_id)
