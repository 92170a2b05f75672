"""Run a function for each turn on a cluster: what `RayHandler` and `DaskHandler` share.

The worker keeps the lease and settles the turn; only the function runs on the cluster. It cannot reach the
turn from there, so it gets the turn's input, and a `RemoteTurn` if it asks for one.
"""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

import anyio
from attrs import frozen

from cgworker.adapters.extras import require_asyncio
from cgworker.errors import InvalidRequest, UsageError
from cgworker.handlers.signature import name_of
from cgworker.outcome import Failed, Outcome, outcome_of, plain_outcome
from cgworker.turn import Turn
from cgworker.wire.converter import check_readable, structure_plain

Task = TypeVar("Task")

MAX_RESULT_BYTES: int = 64 * 1024 * 1024

_MANY_BYTES = 256 * 1024  # from here on a thread unpickles


@frozen
class RemoteTurn:
    """What a function on a cluster knows of its turn.

    Attributes:
        project_id: the turn's project.
        turn_id: its id.
        kind: its turn kind.
        attempt: the number of the attempt, from 1.
        fingerprint: a value that no other turn has, and that all attempts share: a key for what the function
            does elsewhere.
    """

    project_id: str
    turn_id: str
    kind: str
    attempt: int
    fingerprint: str


@frozen
class ResultTooLarge:
    """What the cluster sends in place of a result that has too many bytes."""

    byte_count: int


@frozen
class RemoteFunction:
    """A function that runs on a cluster, as it is sent there.

    Attributes:
        function: a function `(input)` or `(turn, input)`, async or not.
        takes_turn: whether it takes the `RemoteTurn` before the input.
        input_type: the type of the input.
        max_result_bytes: the largest result, pickled, that may come back.
    """

    function: Callable[..., Any]
    takes_turn: bool
    input_type: Any
    max_result_bytes: int

    @classmethod
    def of(cls, function: Callable[..., Any], max_result_bytes: int) -> RemoteFunction:
        """Read the signature of a function.

        Args:
            function: the function.
            max_result_bytes: the largest result, pickled, that may come back.

        Raises:
            UsageError: it is not a function `(input)` or `(turn, input)`.
        """
        name = name_of(function)
        parameters = list(inspect.signature(function).parameters.values())
        required = [each for each in parameters if each.default is each.empty]
        positional = [each for each in required if each.kind is each.POSITIONAL_OR_KEYWORD]
        if len(positional) not in (1, 2) or len(positional) != len(required):
            raise UsageError(
                f"{name} must take (input) or (turn, input), not {inspect.signature(function)}: it runs on a"
                " cluster, where there are no resources of a lifespan"
            )
        input_type = get_type_hints(function, include_extras=True).get(positional[-1].name, Any)
        try:
            check_readable(input_type)
        except Exception as unreadable:
            raise UsageError(f"{name}: {input_type!r} cannot be read from JSON: {unreadable}") from unreadable
        return cls(function, len(positional) == 2, input_type, max_result_bytes)

    def arguments_for(self, turn: Turn) -> tuple[Any, ...]:
        """Return the arguments of the function for a turn.

        Args:
            turn: the turn.

        Raises:
            InvalidRequest: the turn's input does not have the function's type.
        """
        given = structure_plain(self.input_type, turn.input)
        if not self.takes_turn:
            return (given,)
        ref = turn.ref
        remote = RemoteTurn(ref.project_id, ref.turn_id, turn.kind, turn.attempt, turn.fingerprint)
        return (remote, given)

    def __call__(self, *arguments: Any) -> bytes | ResultTooLarge:
        """Call the function, on the cluster, and return its pickled result if that is small enough."""
        returned = self.function(*arguments)
        if inspect.iscoroutine(returned):
            returned = asyncio.run(returned)
        pickled = pickle.dumps(returned, protocol=5)
        return pickled if len(pickled) <= self.max_result_bytes else ResultTooLarge(len(pickled))


class ClusterHandler:
    """Base class of handlers whose function runs on a cluster.

    Args:
        function: a function `(input)` or `(turn, input)`, async or not; the turn is a `RemoteTurn`. The
            type hint of `input` is checked as a handler's is.
        max_result_bytes: the largest result, pickled, that comes back; a larger one stays on the cluster and
            fails the turn with `result_too_large`.

    Raises:
        UsageError: the function has another signature.
    """

    def __init__(self, function: Callable[..., Any], *, max_result_bytes: int = MAX_RESULT_BYTES) -> None:
        self.remote: RemoteFunction = RemoteFunction.of(function, max_result_bytes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({name_of(self.remote.function)})"

    async def run(self, turn: Turn, arguments: tuple[Any, ...]) -> bytes | ResultTooLarge:
        """Run the function on the cluster, and cancel it there if this is cancelled.

        Args:
            turn: the turn.
            arguments: the function's arguments.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it runs a function")

    async def __call__(self, turn: Turn) -> Outcome:
        """Run the function with a turn's input, and return its outcome.

        Args:
            turn: the turn.

        Raises:
            UsageError: this worker runs on trio.
            Exception: what the function raised, or the cluster's own error if its nodes died too often.
        """
        require_asyncio(type(self).__name__)
        try:
            arguments = self.remote.arguments_for(turn)
        except InvalidRequest as invalid:
            return Failed({"error": "invalid_input", "faults": list(invalid.faults)})
        returned = await self.run(turn, arguments)
        if isinstance(returned, ResultTooLarge):
            return Failed(_too_large(returned.byte_count, self.remote.max_result_bytes))
        if len(returned) < _MANY_BYTES:
            return plain_outcome(outcome_of(pickle.loads(returned)))
        return await anyio.to_thread.run_sync(lambda: plain_outcome(outcome_of(pickle.loads(returned))))


def _too_large(byte_count: int, most: int) -> Mapping[str, Any]:
    message = (
        f"the result has {byte_count} bytes, at most {most} come back from the cluster: let the function"
        " store it and return where it is"
    )
    return {"error": "result_too_large", "message": message}


async def finished(task: asyncio.Future[Any], seconds: float) -> bool:
    """Wait for a future's end, whatever it is, and return whether it came in time.

    Args:
        task: the future.
        seconds: how long to wait at most.
    """
    done, _ = await asyncio.wait([task], timeout=seconds)
    if done and not task.cancelled():
        task.exception()  # nobody else asks for it
    return bool(done)
