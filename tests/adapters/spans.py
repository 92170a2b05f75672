"""The spans of a handler in an instrumented worker."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cgworker import KernelClient, Worker, instrument
from cgworker.testing import play
from tests.turns import AGENT


async def spans_of(handler: Any, **script: Any) -> dict[str, ReadableSpan]:
    """Play the handler by a script, and return the last span of each name."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    desk = Worker(KernelClient("http://127.0.0.1:9", agent=AGENT, token="t"), handler)
    instrument(desk, tracer_provider=provider, meter_provider=MeterProvider())
    await play(desk, **script)
    return {span.name: span for span in exporter.get_finished_spans()}
