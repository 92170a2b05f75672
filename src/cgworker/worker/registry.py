"""`HandlerRegistry`: the handlers and the middleware of a worker, and the ways to add them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from cgworker.handlers import BaseCommandHandler, FunctionHandler, Handler
from cgworker.handlers.signature import HandlerFunction
from cgworker.worker.retries import Retries
from cgworker.worker.routing import Middleware, Routes, as_handler

Function = TypeVar("Function", bound=HandlerFunction)


class HandlerRegistry:
    """The part of a `Worker` that handlers and middleware are added to."""

    def __init__(self) -> None:
        self._routes = Routes()
        self._middleware: list[Middleware] = []

    def turn(
        self, kind: str | None = None, *, retries: Retries | None = None
    ) -> Callable[[Function], Function]:
        """Decorate a function `(turn)` or `(turn, input)` as the handler of a kind.

        Further parameters are resources of the lifespan: `(turn, question, *, database)`.

        Args:
            kind: the turn kind; None is every kind without a handler of its own.
            retries: how often a turn is tried again after an exception; None takes `options.retries`.

        Raises:
            UsageError: the signature is not that of a handler, or the kind has a handler already.
        """

        def add(function: Function) -> Function:
            self.add(kind, FunctionHandler.of(function), retries=retries)
            return function

        return add

    def add(
        self, kind: str | None, handler: Handler | HandlerFunction, *, retries: Retries | None = None
    ) -> None:
        """Send turns of a kind to a handler.

        Args:
            kind: the turn kind; None is every kind without a handler of its own.
            handler: a handler such as a `CommandHandler`, or a function as for `@worker.turn(kind)`.
            retries: how often a turn is tried again after a failure; None takes `options.retries`.

        Raises:
            UsageError: the signature is not that of a handler, the kind has a handler already, or the worker
                is running.
        """
        self._routes.add(kind, self._checked(handler), retries=retries)

    def _checked(self, handler: Handler | HandlerFunction) -> Handler:
        """Return the handler if it can be added now; raise UsageError if not."""
        return as_handler(handler)

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The handlers by turn kind, without the one for every other kind."""
        return self._routes.by_kind

    def check_commands(self) -> None:
        """Check that the commands of command handlers can be run now.

        Raises:
            CommandNotFound: a command is missing.
            UsageError: a folder or file of a command cannot be used.
        """
        for handler in self._routes.handlers:
            if isinstance(handler, BaseCommandHandler):
                handler.check()

    def middleware(self, function: Middleware) -> Middleware:
        """Decorate `async (turn, call_next) -> Outcome` to run around every handler."""
        self._middleware.append(function)
        return function
