"""Find the handler of a turn by its kind."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar, cast

from cgworker.errors import UsageError
from cgworker.events import logger
from cgworker.handlers import FunctionHandler, Handler
from cgworker.handlers.signature import HandlerFunction, HandlerMethod
from cgworker.outcome import Outcome
from cgworker.turn import Turn
from cgworker.worker.retries import Retries

Middleware = Callable[[Turn, Handler], Awaitable[Outcome]]
"""`async (turn, call_next) -> Outcome`: runs around every handler of a worker."""

Method = TypeVar("Method", bound=HandlerMethod)

_MARK_ATTRIBUTE = "__cgworker_handles__"


class Routes:
    """Handlers by turn kind, and one for every other kind."""

    def __init__(self) -> None:
        self._by_kind: dict[str, Handler] = {}
        self._default: Handler | None = None
        self._retries: dict[str | None, Retries] = {}

    def add(self, kind: str | None, handler: Handler, *, retries: Retries | None = None) -> None:
        """Send turns of `kind` to the handler; None is every kind without one of its own.

        Args:
            kind: the turn kind.
            handler: the handler.
            retries: the handler's own retry policy.

        Raises:
            UsageError: the kind has a handler already.
        """
        if kind is None:
            if self._default is not None:
                raise UsageError("this worker has a handler for every other kind already")
            self._default = handler
        elif kind in self._by_kind:
            raise UsageError(f"this worker has a handler for {kind} already")
        else:
            self._by_kind[kind] = handler
        if retries is not None:
            self._retries[kind] = retries

    def retries_for(self, kind: str) -> Retries | None:
        """Return the own retry policy of the kind's handler, or None."""
        return self._retries.get(kind if kind in self._by_kind else None)

    def find(self, kind: str) -> Handler | None:
        """Return the handler of the kind, or None."""
        return self._by_kind.get(kind, self._default)

    @property
    def by_kind(self) -> Mapping[str, Handler]:
        """The handlers that have a kind of their own."""
        return dict(self._by_kind)

    @property
    def handlers(self) -> tuple[Handler, ...]:
        """All handlers."""
        others = () if self._default is None else (self._default,)
        return (*self._by_kind.values(), *others)

    def check(self) -> None:
        """Check that the handlers can run.

        Raises:
            UsageError: there is no handler, or one lacks a resource.
            CommandNotFound: the command of a command handler is missing.
        """
        handlers = self.handlers
        if not handlers:
            raise UsageError("this worker has no handler: decorate a function with @worker.turn(kind)")
        for handler in handlers:
            if (check := getattr(handler, "check", None)) is not None:
                check()

    def forget(self, turn: Turn) -> None:
        """Let the handler of a closed turn remove what it kept for further attempts."""
        try:
            if (forget := getattr(self.find(turn.kind), "forget", None)) is not None:
                forget(turn)
        except KeyboardInterrupt:
            raise
        except BaseException:
            logger.exception("%s: its handler could not forget it", turn.ref)

    def with_resources(self, resources: Mapping[str, Any]) -> Routes:
        """Return the same routes with the resources of a lifespan bound to the functions that take them.

        Args:
            resources: the resources by parameter name.

        Raises:
            UsageError: a function takes a resource that is missing, or whose name is not a parameter for one.
        """

        def with_them(handler: Handler) -> Handler:
            return handler.with_resources(resources) if isinstance(handler, FunctionHandler) else handler

        return self.mapped(with_them)

    def mapped(self, change: Callable[[Handler], Handler]) -> Routes:
        """Return the same routes with each handler replaced by what `change` makes of it."""
        routes = Routes()
        routes._by_kind = {kind: change(handler) for kind, handler in self._by_kind.items()}
        routes._default = None if self._default is None else change(self._default)
        routes._retries = dict(self._retries)
        return routes


def as_handler(handler: Handler | HandlerFunction) -> Handler:
    """Return a function as a handler, by its type hints; other callables are handlers as they are.

    Raises:
        UsageError: the signature of the function is not that of a handler, or this is no callable object.
    """
    if inspect.isroutine(handler) or isinstance(handler, partial):
        return FunctionHandler.of(handler)
    if isinstance(handler, type) or not callable(handler):
        raise UsageError(
            f"{handler!r} is no handler: that is a function (turn) or (turn, input), or an object such as a"
            " CommandHandler"
        )
    return cast("Handler", handler)


def handles(kind: str, *, retries: Retries | None = None) -> Callable[[Method], Method]:
    """Mark a method of a `Worker` subclass as the handler of a turn kind.

    Args:
        kind: the turn kind.
        retries: how often a turn is tried again after an exception; None takes `WorkerOptions.retries`.
    """

    def mark(method: Method) -> Method:
        setattr(method, _MARK_ATTRIBUTE, (kind, retries))
        return method

    return mark


def marked_methods(worker: object) -> dict[str, tuple[Callable[..., Any], Retries | None]]:
    """Return the methods marked by `handles`, with their retries, by kind; overridden ones are left out."""
    found = {}
    for name in dir(type(worker)):
        mark = getattr(getattr(type(worker), name, None), _MARK_ATTRIBUTE, None)
        if mark is not None:
            kind, retries = mark
            found[kind] = getattr(worker, name), retries
    return found
