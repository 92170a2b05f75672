"""Python functions as handlers: typed by their hints, checked when they are added, not on the first turn."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import anyio
import anyio.to_thread
from attrs import frozen

from cgworker.errors import InvalidRequest, UsageError
from cgworker.lease import Interruption
from cgworker.outcome import Failed, Outcome, Succeeded, outcome_of
from cgworker.turn import Turn
from cgworker.wire.converter import check_json, check_readable, structure_plain, unstructure

Handler = Callable[[Turn], Awaitable[Outcome]]
"""What the worker runs: one async callable from a turn to its outcome."""


class HandlerAbandoned(Exception):
    """A thread did not end in the time an interruption gave it; it was left behind."""


@frozen
class FunctionHandler:
    """A function `(turn)` or `(turn, input)`, async, or plain and then run in a thread.

    The second parameter's hint says what the turn's input must look like: an attrs class, a dataclass, a
    dict, a plain type. Input that does not fit fails the turn with `error="invalid_input"` and every fault
    with its path, and the function is not called.

    Made by `FunctionHandler.of`.
    """

    function: Callable[..., Any]
    injected: dict[str, Any]
    input_type: Any
    takes_input: bool

    @classmethod
    def of(cls, function: Callable[..., Any], injected: dict[str, Any] | None = None) -> FunctionHandler:
        """Check the function's signature and make a handler of it.

        Args:
            function: what to call.
            injected: further keyword arguments, by name.

        Raises:
            UsageError: the signature cannot be a handler's.
        """
        injected = injected or {}
        parameters = _positional_parameters(function, set(injected))
        hints = _hints_of(function)
        _check_return(function, hints.get("return", Any))
        takes_input = len(parameters) == 2
        input_type = hints.get(parameters[1].name, Any) if takes_input else Any
        _check_input(function, input_type)
        return cls(function, injected, input_type, takes_input)

    async def __call__(self, turn: Turn) -> Outcome:
        try:
            arguments = (turn, structure_plain(self.input_type, turn.input)) if self.takes_input else (turn,)
        except InvalidRequest as invalid:
            return Failed({"error": "invalid_input", "faults": list(invalid.faults)})
        call = partial(self.function, *arguments, **self.injected)
        returned = await (call() if _is_async(self.function) else _call_in_thread(call, turn))
        return _as_outcome(returned)


def _as_outcome(returned: Any) -> Outcome:
    outcome = outcome_of(returned)
    if isinstance(outcome, Succeeded) and outcome.payload is returned:
        payload = unstructure(returned)
        check_json(payload)  # what is not JSON is the handler's error, here, and not the settle call's
        return Succeeded(payload)
    return outcome


async def _call_in_thread(call: Callable[[], Any], turn: Turn) -> Any:
    """Threads cannot be cancelled: an interruption is seen by `turn.check()`, and waited for so long."""
    limiter = anyio.CapacityLimiter(1)  # slots limit work; a thread that never ends must not block others
    with anyio.CancelScope(shield=True) as waiting:

        def wait_no_longer_than_its_grace(interruption: Interruption) -> None:
            waiting.deadline = min(waiting.deadline, anyio.current_time() + interruption.grace_seconds)

        with turn.on_interrupt(wait_no_longer_than_its_grace):
            return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=limiter)
    raise HandlerAbandoned(f"{turn.ref}: the handler's thread goes on although the turn was interrupted")


# ---------------------------------------------------------------- checks at decoration


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # an object with an async __call__
    )


def _positional_parameters(function: Callable[..., Any], injected: set[str]) -> list[inspect.Parameter]:
    name = _name_of(function)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as unknown:
        raise UsageError(f"{name} is not a function that can handle turns: {unknown}") from unknown
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [p for p in signature.parameters.values() if p.name not in injected]
    positional = [p for p in parameters if p.kind in kinds]
    unknown_names = [
        p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is inspect.Parameter.empty
    ]
    if unknown_names:
        raise UsageError(
            f"{name} asks for {', '.join(unknown_names)}, which the worker's lifespan does not give"
        )
    if not 1 <= len(positional) <= 2:
        raise UsageError(f"{name} must take (turn) or (turn, input), not {signature}")
    return positional


def _hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        return get_type_hints(target)
    except NameError as unknown:
        raise UsageError(f"{_name_of(function)}: a type hint cannot be read: {unknown}") from unknown


def _check_input(function: Callable[..., Any], input_type: Any) -> None:
    try:
        check_readable(input_type)
    except Exception as unreadable:
        raise UsageError(
            f"{_name_of(function)}: input of type {input_type!r} cannot be read from JSON: {unreadable}"
        ) from unreadable


def _check_return(function: Callable[..., Any], returned: Any) -> None:
    """A return hint must be JSON-like, a class with fields, or an outcome."""
    for part in get_args(returned) if get_origin(returned) in (Union, UnionType) else (returned,):
        if part in (bytes, bytearray, set, frozenset, complex):
            raise UsageError(f"{_name_of(function)} returns {part.__name__}, which is not JSON")


def _name_of(function: Callable[..., Any]) -> str:
    return cast("str", getattr(function, "__qualname__", repr(function)))
