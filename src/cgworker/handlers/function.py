"""Python functions as handlers: typed by their hints, checked when they are added, not on the first turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from attrs import evolve, field, frozen

from cgworker.errors import InvalidRequest, UsageError
from cgworker.handlers.forked import ending_forked_children
from cgworker.handlers.signature import HandlerFunction, Signature, is_async, signature_of
from cgworker.lease import Interruption
from cgworker.outcome import Failed, Outcome, outcome_of, plain_outcome
from cgworker.turn import Turn
from cgworker.wire.converter import structure_plain

Handler = Callable[[Turn], Awaitable[Outcome]]
"""What the worker runs: one async callable from a turn to its outcome."""


class HandlerAbandoned(Exception):
    """A thread did not end in the time an interruption gave it; it was left behind."""


@frozen
class FunctionHandler:
    """A function `(turn)` or `(turn, input)`, async, or plain and then run in a thread.

    The second parameter's hint says what the turn's input must look like: an attrs class, a dataclass, a
    TypedDict, a dict, a list, a plain type, or a union of these. Input that does not fit fails the turn with
    `error="invalid_input"` and every fault with its path, and the function is not called. Further parameters
    are resources: the worker's lifespan gives them, by name.

    Made by `FunctionHandler.of`.
    """

    function: HandlerFunction
    signature: Signature
    injected: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, function: HandlerFunction, injected: Mapping[str, Any] | None = None) -> FunctionHandler:
        """Check the function's signature and make a handler of it.

        Args:
            function: what to call.
            injected: further arguments, by name.

        Raises:
            UsageError: the signature cannot be a handler's.
        """
        given = dict(injected or {})
        return cls(function, signature_of(function, set(given)), given)

    def with_resources(self, resources: Mapping[str, Any]) -> FunctionHandler:
        """The same handler with what a lifespan gives, as far as it asks for it.

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
        """Refuse now what could not be called later; the worker asks before it claims.

        Args:
            given: what the lifespan gives; None where there is no lifespan.

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
        try:
            arguments = [turn, *self._input_of(turn)]
        except InvalidRequest as invalid:
            return Failed({"error": "invalid_input", "faults": list(invalid.faults)})
        call: Callable[[], Any] = partial(self.function, *arguments, **self.injected)
        returned = await (call() if is_async(self.function) else _call_in_thread(call, turn))
        return plain_outcome(outcome_of(returned))

    def _input_of(self, turn: Turn) -> tuple[Any, ...]:
        return (structure_plain(self.signature.input_type, turn.input),) if self.signature.takes_input else ()


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"


async def _call_in_thread(call: Callable[[], Any], turn: Turn) -> Any:
    """Threads cannot be cancelled: an interruption is seen by `turn.check()`, and waited for so long."""
    limiter = anyio.CapacityLimiter(1)  # slots limit work; a thread that never ends must not block others
    with anyio.CancelScope(shield=True) as waiting:

        def wait_no_longer_than_its_grace(interruption: Interruption) -> None:
            waiting.deadline = min(waiting.deadline, anyio.current_time() + interruption.grace_seconds)

        with turn.on_interrupt(wait_no_longer_than_its_grace):
            return await anyio.to_thread.run_sync(_in_thread, call, abandon_on_cancel=True, limiter=limiter)
    raise HandlerAbandoned(f"{turn.ref}: the handler's thread goes on although the turn was interrupted")


def _in_thread(call: Callable[[], Any]) -> Any:
    with ending_forked_children():
        try:
            return call()
        except (KeyboardInterrupt, GeneratorExit) as raised:
            # The first is no Ctrl-C, which only the main thread is told of, and the second would close the
            # coroutine that waits for the thread, instead of being raised there.
            raise RuntimeError(f"the handler's thread raised {type(raised).__name__}") from raised
