"""OpenTelemetry metrics from the events of a worker; needs `cgworker[otel]`."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from cgworker import events
from cgworker.events import Event
from cgworker.wire.refs import TurnRef
from cgworker.worker.outbox.outbox import Outbox

_SYSTEM = {"messaging.system": "commonground"}

# OpenTelemetry's own buckets are for milliseconds: all turns of up to five seconds would be in one.
_BUCKET_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)


class WorkerMetrics:
    """Counts the events of a worker in OpenTelemetry metrics.

    Args:
        meter: makes the instruments.
        outbox: is counted whenever the metrics are read.
    """

    def __init__(self, meter: metrics.Meter, outbox: Outbox) -> None:
        self._outbox = outbox
        self._open: set[TurnRef] = set()
        self._settled = meter.create_counter("cgworker.turns.settled", "{turn}", "Turns by outcome.")
        self._seconds = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "From the claim to the settled outcome.",
            explicit_bucket_boundaries_advisory=_BUCKET_SECONDS,
        )
        self._to_run = meter.create_histogram(
            "cgworker.claim_to_run.duration",
            "s",
            "From the claim to the handler's start.",
            explicit_bucket_boundaries_advisory=_BUCKET_SECONDS,
        )
        self._given_up = meter.create_counter("cgworker.turns.given_up", "{turn}", "Attempts not settled.")
        self._lost = meter.create_counter("cgworker.leases.lost", "{lease}", "Leases lost.")
        self._failed = meter.create_counter("cgworker.renewals.failed", "{renewal}", "Renewals failed.")
        self._stuck = meter.create_counter("cgworker.handlers.stuck", "{handler}", "Handlers that go on.")
        self._held = meter.create_up_down_counter("cgworker.turns.held", "{turn}", "Turns held now.")
        self._kept = meter.create_counter("cgworker.results.kept", "{result}", "Results kept in the outbox.")
        meter.create_observable_gauge(
            "cgworker.outbox.waiting", [self._observe_outbox], "{result}", "Results the kernel has not yet."
        )

    def note(self, event: Event) -> None:
        """Count the event."""
        match event:
            case events.TurnClaimed():
                self._open.add(event.turn)
                self._held.add(1, _agent(event))
            case events.HandlerStarted():
                self._to_run.record(event.seconds, _agent(event))
            case events.TurnSettled():
                facts = {**_agent(event), "cgworker.outcome": event.outcome}
                self._release(event)
                self._settled.add(1, facts)
                self._seconds.record(event.seconds, facts)
            case events.TurnGivenUp():
                self._release(event)
                self._given_up.add(1, _agent(event))
            case events.LeaseEnded():
                self._lost.add(1, _agent(event))
            case events.RenewalFailed():
                self._failed.add(1, _agent(event))
            case events.HandlerStuck():
                self._stuck.add(1, _agent(event))
            case events.ResultKept():
                self._kept.add(1, _agent(event))

    def _observe_outbox(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self._outbox.waiting_count(), _SYSTEM)]

    def _release(self, event: events.TurnEvent) -> None:
        """Count a held turn less, if it was counted: a lease may be lost before its turn was loaded."""
        if event.turn in self._open:
            self._open.remove(event.turn)
            self._held.add(-1, _agent(event))


def _agent(event: events.TurnEvent) -> dict[str, str]:
    return {**_SYSTEM, "messaging.destination.name": str(event.agent)}
