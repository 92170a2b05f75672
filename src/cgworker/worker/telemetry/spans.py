"""Make a span around each run of a handler, in the trace of the turn; needs `cgworker[otel]`.

Only W3C's `traceparent` and `tracestate` are propagated, whatever propagators a program has set up: all
readers of the ledger see annotations, and baggage may hold anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
from attrs import frozen
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cgworker.errors import CommonGroundError
from cgworker.events import logger
from cgworker.handlers import Handler
from cgworker.outcome import Failed, Outcome, word_for
from cgworker.turn import Turn
from cgworker.wire.refs import TurnRef
from cgworker.worker.suspension import cause_of_suspension
from cgworker.worker.telemetry.tracer import handler_tracer

_W3C = TraceContextTextMapPropagator()
_MAX_CHARACTERS = 512
_FEED_PAGE = 100
_READ_SECONDS = 2.0
_MAX_REMEMBERED = 1000


def current_trace() -> dict[str, str]:
    """Return the current span as annotations; empty if there is none."""
    annotations: dict[str, str] = {}
    _W3C.inject(annotations)
    return annotations


@frozen
class RunOrigin:
    """The trace context of a run of a handler.

    Attributes:
        dispatched_in: the span in which the turn was dispatched; None if that was not traced.
        is_first: whether this is the first run of the turn.
    """

    dispatched_in: trace.SpanContext | None
    is_first: bool


async def read_origin(turn: Turn) -> RunOrigin:
    """Read the trace context of a run from the turn's feed; after two seconds without an answer, none."""
    try:
        with anyio.fail_after(_READ_SECONDS):
            page = await turn.kernel.turns.feed(turn.ref, limit=_FEED_PAGE)
    except (CommonGroundError, TimeoutError) as trouble:
        logger.debug("%s: the trace it belongs to could not be read: %s", turn.ref, trouble)
        return RunOrigin(None, turn.attempt == 1)
    own = [event for event in page.items if event.subject_id == turn.ref.turn_id]
    born = next((event for event in own if event.event_type == "turn.spawned"), None)
    claim_count = sum(event.event_type == "turn.claimed" for event in own)
    return RunOrigin(_span_in(cause_of_suspension(born).annotations) if born else None, claim_count <= 1)


def _span_in(annotations: Mapping[str, Any]) -> trace.SpanContext | None:
    """Return the span that annotations name; None if they are invalid, since any caller can write them."""
    carrier = {
        name: value
        for name in _W3C.fields
        if isinstance(value := annotations.get(name), str) and len(value) <= _MAX_CHARACTERS
    }
    found = trace.get_current_span(_W3C.extract(carrier, Context())).get_span_context()
    return found if found.is_valid else None


class Spans:
    """Makes the spans of a worker's turns.

    The first run of a turn is a child of the span in which the turn was dispatched. Each later run, after a
    lost lease, a crash or a suspension, begins a trace of its own. It links to the span of the first run if
    this process ran it, else to that of the dispatch.

    Args:
        tracer: makes the spans.
    """

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._first_runs: dict[TurnRef, trace.SpanContext] = {}

    async def around(self, turn: Turn, call_next: Handler) -> Outcome:
        """Run a handler in a span, as middleware; the turn's children are dispatched in this span."""
        origin = await read_origin(turn)
        with self._tracer.start_as_current_span(
            f"process {turn.agent}",
            context=_parent_of(origin),
            links=self._links_of(turn.ref, origin),
            kind=trace.SpanKind.CONSUMER,
            attributes=_attributes(turn),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            if origin.is_first:
                self._remember(turn.ref, span.get_span_context())
            turn.annotate = current_trace
            handler_tracer.set(self._tracer)
            return await _run_in_span(span, turn, call_next)

    def _links_of(self, turn: TurnRef, origin: RunOrigin) -> list[trace.Link]:
        first = None if origin.is_first else self._first_runs.get(turn, origin.dispatched_in)
        return [trace.Link(first)] if first else []

    def _remember(self, turn: TurnRef, run: trace.SpanContext) -> None:
        self._first_runs[turn] = run
        if len(self._first_runs) > _MAX_REMEMBERED:
            del self._first_runs[next(iter(self._first_runs))]


def _parent_of(origin: RunOrigin) -> Context:
    """Return the parent of the span; never the span that happens to be current in the worker's task."""
    if origin.dispatched_in is None or not origin.is_first:
        return Context()
    return trace.set_span_in_context(trace.NonRecordingSpan(origin.dispatched_in), Context())


async def _run_in_span(span: trace.Span, turn: Turn, call_next: Handler) -> Outcome:
    try:
        outcome = await call_next(turn)
    except Exception as raised:
        span.set_attribute("error.type", type(raised).__qualname__)
        span.set_status(trace.StatusCode.ERROR)
        raise
    span.set_attribute("cgworker.outcome", word_for(outcome))
    if isinstance(outcome, Failed):
        span.set_status(trace.StatusCode.ERROR)
    return outcome


def _attributes(turn: Turn) -> dict[str, str | int]:
    return {
        "messaging.system": "commonground",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": str(turn.agent),
        "messaging.message.id": str(turn.ref),
        "cgworker.turn.kind": turn.kind,
        "cgworker.attempt": turn.attempt,
    }
