"""The tracer of the worker whose handler runs, for code that adds spans below the turn's span."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

handler_tracer: ContextVar[Tracer | None] = ContextVar("handler_tracer", default=None)
"""None in the handlers of a worker that is not instrumented."""
