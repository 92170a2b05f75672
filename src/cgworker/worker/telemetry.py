"""OpenTelemetry for a worker: a span around each run of a handler, and metrics from the worker's events.

Attributes name the turn, its kind, the agent and the outcome; never a payload, a credential or the text of an
exception, which may hold either. Importing this module takes the extra `cgworker[otel]`.
"""

from __future__ import annotations

from opentelemetry import metrics, trace

from cgworker import events
from cgworker.events import Event
from cgworker.handlers import Handler
from cgworker.outcome import Failed, Outcome, word_for
from cgworker.turn import Turn
from cgworker.wire.refs import TurnRef
from cgworker.worker.loop import Worker


def instrument(
    worker: Worker,
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
) -> None:
    """Have a worker make spans and metrics; call it once, before the worker runs.

    The span is current in the handler, so that the handler's own spans hang under it. Names are those of
    OpenTelemetry's messaging conventions where there are any.

    Args:
        worker: its middleware and listeners get one more each.
        tracer_provider: where spans go; None is the program's global one.
        meter_provider: where metrics go; None is the program's global one.
    """
    tracer = trace.get_tracer("cgworker", tracer_provider=tracer_provider)
    meter = metrics.get_meter("cgworker", meter_provider=meter_provider)

    async def traced(turn: Turn, call_next: Handler) -> Outcome:
        with tracer.start_as_current_span(
            f"process {turn.agent}",
            kind=trace.SpanKind.CONSUMER,
            attributes=_attributes(turn),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
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

    worker.middleware(traced)
    worker.listen(Figures(meter).note)


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


class Figures:
    """What a worker's events add up to.

    Args:
        meter: makes the instruments.
    """

    def __init__(self, meter: metrics.Meter) -> None:
        self._open: set[TurnRef] = set()
        self._settled = meter.create_counter("cgworker.turns.settled", "{turn}", "Turns by outcome.")
        self._seconds = meter.create_histogram(
            "messaging.process.duration", "s", "From the claim to the settled outcome."
        )
        self._given_up = meter.create_counter("cgworker.turns.given_up", "{turn}", "Attempts not settled.")
        self._lost = meter.create_counter("cgworker.leases.lost", "{lease}", "Leases lost.")
        self._failed = meter.create_counter("cgworker.renewals.failed", "{renewal}", "Renewals failed.")
        self._stuck = meter.create_counter("cgworker.handlers.stuck", "{handler}", "Handlers that go on.")
        self._held = meter.create_up_down_counter("cgworker.turns.held", "{turn}", "Turns held now.")
        self._kept = meter.create_counter("cgworker.results.kept", "{result}", "Results kept in the outbox.")

    def note(self, event: Event) -> None:
        """Count the event."""
        match event:
            case events.TurnClaimed():
                self._open.add(event.turn)
                self._held.add(1, _agent(event))
            case events.TurnSettled():
                facts = {**_agent(event), "cgworker.outcome": event.outcome}
                self._let_go(event)
                self._settled.add(1, facts)
                self._seconds.record(event.seconds, facts)
            case events.TurnGivenUp():
                self._let_go(event)
                self._given_up.add(1, _agent(event))
            case events.LeaseLost():
                self._lost.add(1, _agent(event))
            case events.RenewalFailed():
                self._failed.add(1, _agent(event))
            case events.HandlerStuck():
                self._stuck.add(1, _agent(event))
            case events.ResultKept():
                self._kept.add(1, _agent(event))

    def _let_go(self, event: events.TurnEvent) -> None:
        """Not every attempt that ends began: a lease may be lost before its turn was read."""
        if event.turn in self._open:
            self._open.remove(event.turn)
            self._held.add(-1, _agent(event))


def _agent(event: events.TurnEvent) -> dict[str, str]:
    return {"messaging.system": "commonground", "messaging.destination.name": str(event.agent)}
