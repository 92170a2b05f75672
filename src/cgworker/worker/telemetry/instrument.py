"""OpenTelemetry for workers and for programs that dispatch: spans, metrics, and trace propagation.

Attributes name the turn, its kind, the agent and the outcome. They never hold a payload, a credential or the
text of an exception. OpenTelemetry is imported only when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from cgworker.deprecation import warn_renamed
from cgworker.errors import UsageError
from cgworker.wire.meta import Meta
from cgworker.wire.turns import Dispatch
from cgworker.worker.outbox.outbox import Outbox
from cgworker.worker.worker import Worker

if TYPE_CHECKING:
    from opentelemetry import metrics, trace


def instrument(
    worker: Worker,
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
) -> None:
    """Have a worker make spans and metrics; call it once, before the worker runs.

    The span is current in the handler, so that the handler's own spans hang under it, and the first spans of
    turns it dispatches as well. Names are those of OpenTelemetry's messaging conventions where there are any.

    Args:
        worker: the worker, which gets a middleware and a listener.
        tracer_provider: gets the spans; None is the program's global one.
        meter_provider: gets the metrics; None is the program's global one.

    Raises:
        UsageError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry import metrics, trace

        from cgworker.worker.telemetry.metrics import WorkerMetrics
        from cgworker.worker.telemetry.spans import Spans
    except ImportError as missing:
        raise UsageError("OpenTelemetry is not installed: pip install 'cgworker[otel]'") from missing
    outbox = Outbox(worker.options.outbox_folder, max_bytes=worker.options.outbox_max_bytes)
    worker.middleware(Spans(trace.get_tracer("cgworker", tracer_provider=tracer_provider)).around)
    worker.listen(WorkerMetrics(metrics.get_meter("cgworker", meter_provider=meter_provider), outbox).note)


def inject_trace(dispatch: Dispatch) -> Dispatch:
    """Return the dispatch with the current span in its annotations, for `kernel.turns.dispatch`.

    The span of an instrumented worker then becomes a child of the current span. Without OpenTelemetry, or
    outside any span, the dispatch is returned unchanged.

    Args:
        dispatch: the dispatch, whose own annotations stay.
    """
    try:
        from cgworker.worker.telemetry.spans import current_trace
    except ImportError:
        return dispatch
    meta = dispatch.meta or Meta()
    annotations = {**meta.annotations, **current_trace()}
    return evolve(dispatch, meta=evolve(meta, annotations=annotations)) if annotations else dispatch


def carry_trace(dispatch: Dispatch) -> Dispatch:
    """Do what `inject_trace` does: the old name of it; deprecated."""
    warn_renamed("carry_trace()", "inject_trace()")
    return inject_trace(dispatch)
