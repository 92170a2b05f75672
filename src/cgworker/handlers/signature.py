"""The signatures of handler functions: as types for type checkers, and as a check when one is added."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from enum import Enum
from functools import partial
from types import CodeType, UnionType
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Protocol,
    TypeAlias,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from attrs import field, frozen

from cgworker.errors import UsageError
from cgworker.outcome import Outcome
from cgworker.turn import Turn
from cgworker.wire.converter import check_readable

# ---------------------------------------------------------------- for type checkers


class _Attrs(Protocol):
    """A class made by attrs. Only mypy knows `attrs.AttrsInstance`; others take it for any object."""

    __attrs_attrs__: ClassVar[Any]


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


_Json: TypeAlias = bool | int | float | str | list[Any] | tuple[Any, ...] | Mapping[str, Any] | None

Returned: TypeAlias = _Json | _Attrs | _Dataclass | Enum | Outcome
"""The values that a handler may return: JSON, an object of an attrs class or a dataclass, or an outcome."""

HandlerFunction: TypeAlias = Callable[Concatenate[Turn, ...], Awaitable[Returned] | Returned]
"""`(turn)` or `(turn, input)`, async or plain, with resources of the worker's lifespan by name."""

HandlerMethod: TypeAlias = Callable[Concatenate[Any, Turn, ...], Awaitable[Returned] | Returned]
"""A `HandlerFunction` as a method, with `self` before the turn."""


# ---------------------------------------------------------------- for the check when it is added


@frozen
class Signature:
    """The parameters of a handler's function.

    Attributes:
        name: the function's qualified name.
        purpose: the first line of its docstring; None without one.
        turn_and_input: the names of the parameters for the turn and, if there is one, its input.
        input_type: the type of the input; Any if the function takes none.
        resources: the names of the other parameters, and whether each is required.
        takes_input: whether the function takes the turn's input.
    """

    name: str
    purpose: str | None
    turn_and_input: tuple[str, ...]
    input_type: Any
    resources: Mapping[str, bool]
    takes_input: bool = field(init=False)

    @takes_input.default
    def _has_two(self) -> bool:
        return len(self.turn_and_input) == 2

    @property
    def wanted(self) -> str:
        """The required resources, as text for a message."""
        return ", ".join(f"`{name}`" for name, is_required in self.resources.items() if is_required)


def signature_of(function: Callable[..., Any], given: set[str]) -> Signature:
    """Read the signature of a handler's function.

    Args:
        function: the function.
        given: names of parameters that already have arguments.

    Raises:
        UsageError: the signature is not that of a handler.
    """
    name = name_of(function)
    if yields(function):
        raise UsageError(
            f"{name} yields, so it would be a generator and not a handler: publish pieces with turn.record or"
            " turn.stream, and return the result"
        )
    parameters = [each for each in _parameters_of(function, name) if each.name not in given]
    positional = [each for each in parameters if each.kind is not each.KEYWORD_ONLY]
    if not positional:
        raise UsageError(f"{name} must take (turn) or (turn, input), not {inspect.signature(function)}")
    hints = _hints_of(function, name)
    _check_return(name, hints.get("return", Any))
    input_type = hints.get(positional[1].name, Any) if len(positional) > 1 else Any
    _check_input(name, input_type)
    resources = [*positional[2:], *(each for each in parameters if each.kind is each.KEYWORD_ONLY)]
    return Signature(
        name=name,
        purpose=(inspect.getdoc(_called_by(function)) or "").partition("\n")[0] or None,
        turn_and_input=tuple(each.name for each in positional[:2]),
        input_type=input_type,
        resources={each.name: each.default is each.empty for each in resources},
    )


def _parameters_of(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as unknown:
        raise UsageError(f"{name} is not a function that can handle turns: {unknown}") from unknown
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each for each in signature.parameters.values() if each.kind not in variadic]


def _hints_of(function: Callable[..., Any], name: str) -> dict[str, Any]:
    target = _called_by(function)
    try:
        return get_type_hints(target, localns=_names_around(target), include_extras=True)
    except NameError as unknown:
        raise UsageError(f"{name}: a type hint cannot be read: {unknown}") from unknown


def _names_around(function: Any) -> Mapping[str, Any] | None:
    """Find the local names where the function is being defined, for type hints that are strings."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    frame = inspect.currentframe()
    while frame is not None and code is not None:
        if code in _codes_in(frame.f_code, depth=2):
            return frame.f_locals
        frame = frame.f_back
    return None


def _codes_in(code: CodeType, depth: int) -> Iterator[CodeType]:
    """Yield the code of functions inside a function, and of those in its classes."""
    for constant in code.co_consts if depth else ():
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes_in(constant, depth - 1)


def _check_input(name: str, input_type: Any) -> None:
    try:
        check_readable(input_type)
    except Exception as unreadable:
        raise UsageError(
            f"{name}: its second parameter is the turn's input, and {input_type!r} cannot be read from JSON:"
            f" {unreadable}. A resource of the worker's lifespan stands after a `*`: (turn, *, database)"
        ) from unreadable


def _check_return(name: str, returned: Any) -> None:
    """Check that a return hint is JSON, a class with fields, or an outcome."""
    for part in get_args(returned) if get_origin(returned) in (Union, UnionType) else (returned,):
        if (get_origin(part) or part) in (bytes, bytearray, set, frozenset, complex):
            raise UsageError(f"{name} returns {getattr(part, '__name__', part)}, which is not JSON")


def name_of(function: Callable[..., Any]) -> str:
    """Return the function's qualified name; of a partial, that of the function within."""
    while isinstance(function, partial):
        function = function.func
    return cast("str", getattr(function, "__qualname__", repr(function)))


def yields(function: Callable[..., Any]) -> bool:
    """Whether a call makes a generator."""
    called = _called_by(function)
    return inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call returns an awaitable."""
    called = _called_by(function)
    return inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(inspect.unwrap(called))


def _called_by(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that runs: of a partial, the one within; of an object, its `__call__`."""
    while isinstance(function, partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__
