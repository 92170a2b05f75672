"""Python functions as handlers. Their type hints are checked when a handler is added."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from attrs import evolve, field, frozen

from cgworker.errors import InvalidRequest, UsageError
from cgworker.handlers.forked import EndingForkedChildren
from cgworker.handlers.signature import HandlerFunction, Signature, is_async, signature_of
from cgworker.lease import Interruption
from cgworker.outcome import Failed, Outcome, outcome_of, plain_outcome
from cgworker.turn import Turn
from cgworker.wire.converter import structure_plain

Handler = Callable[[Turn], Awaitable[Outcome]]
"""A handler: an async callable from a turn to its outcome."""


class HandlerAbandoned(Exception):
    """A handler's thread did not end within the grace of an interruption, and was left running."""


@frozen
class FunctionHandler:
    """A function `(turn)` or `(turn, input)` as a handler. A function that is not async runs in a thread.

    The type hint of the second parameter describes the turn's input: an attrs class, a dataclass, a
    TypedDict, a dict, a list, a plain type, or a union of these. Input that does not fit fails the turn with
    `error="invalid_input"` and every fault with its path, without calling the function. Further parameters
    are resources, which the worker's lifespan yields by name.

    Made by `FunctionHandler.of`.

    Attributes:
        function: the function.
        signature: its parameters.
        injected: further arguments, by name.
    """

    function: HandlerFunction
    signature: Signature
    injected: Mapping[str, Any] = field(repr=False)
    _is_async: bool = field(init=False, repr=False, eq=False)

    @_is_async.default
    def _look_whether_async(self) -> bool:
        return is_async(self.function)

    @classmethod
    def of(cls, function: HandlerFunction, injected: Mapping[str, Any] | None = None) -> FunctionHandler:
        """Check a function's signature, and make a handler of it.

        Args:
            function: the function.
            injected: further arguments, by name.

        Raises:
            UsageError: the signature is not that of a handler.
        """
        given = dict(injected or {})
        return cls(function, signature_of(function, set(given)), given)

    def with_resources(self, resources: Mapping[str, Any]) -> FunctionHandler:
        """Return the handler with the resources that its function has parameters for.

        Args:
            resources: what the lifespan yielded, by name.

        Raises:
            UsageError: a resource has the name of the parameter for the turn or its input, or one is missing.
        """
        for name in self.signature.turn_and_input:
            if name in resources:
                raise UsageError(
                    f"{self.signature.name}: the lifespan gives `{name}`, which is here the parameter for the"
                    f" turn or its input; put it after a `*` if the resource is meant: (turn, *, {name})"
                )
        asked_for = {name: resources[name] for name in self.signature.resources if name in resources}
        handler = evolve(self, injected={**asked_for, **self.injected})
        handler.check(given=resources)
        return handler

    def check(self, given: Mapping[str, Any] | None = None) -> None:
        """Check that every parameter has an argument; the worker does so before it claims.

        Args:
            given: what the lifespan yielded, by name; None if there is no lifespan.

        Raises:
            UsageError: a resource is missing.
        """
        for name, is_required in self.signature.resources.items():
            if is_required and name not in self.injected:
                there_is = "there is no lifespan" if given is None else f"the lifespan gives {_listed(given)}"
                raise UsageError(
                    f"{self.signature.name} asks for `{name}`, and {there_is}: yield {{{name!r}: ...}} in the"
                    " worker's lifespan=, or give the parameter a default"
                )

    async def __call__(self, turn: Turn) -> Outcome:
        """Call the function with a turn's input, and return its outcome.

        Args:
            turn: the turn.
        """
        arguments: list[Any] = [turn]
        if self.signature.takes_input:
            try:
                arguments.append(structure_plain(self.signature.input_type, turn.input))
            except InvalidRequest as invalid:
                return Failed({"error": "invalid_input", "faults": list(invalid.faults)})
        call: Callable[[], Any] = partial(self.function, *arguments, **self.injected)
        returned = await (call() if self._is_async else _call_in_thread(call, turn))
        return plain_outcome(outcome_of(returned))


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"


async def _call_in_thread(call: Callable[[], Any], turn: Turn) -> Any:
    """Call a function in a thread. A thread cannot be cancelled: an interruption waits for its grace."""
    limiter = anyio.CapacityLimiter(
        1
    )  # slots limit the work; a thread that never ends must not block other threads
    with anyio.CancelScope(shield=True) as waiting:

        def wait_no_longer_than_its_grace(interruption: Interruption) -> None:
            waiting.deadline = min(waiting.deadline, anyio.current_time() + interruption.grace_seconds)

        with turn.on_interrupt(wait_no_longer_than_its_grace):
            return await anyio.to_thread.run_sync(_in_thread, call, abandon_on_cancel=True, limiter=limiter)
    raise HandlerAbandoned(f"{turn.ref}: the handler's thread goes on although the turn was interrupted")


def _in_thread(call: Callable[[], Any]) -> Any:
    with EndingForkedChildren():
        try:
            return call()
        except (KeyboardInterrupt, GeneratorExit) as raised:
            # A KeyboardInterrupt here is no Ctrl-C, which only the main thread gets. A GeneratorExit would
            # close the coroutine that waits for the thread, instead of being raised there.
            raise RuntimeError(f"the handler's thread raised {type(raised).__name__}") from raised
