"""Read the fields of an answer only when they are looked at.

A turn may have a thousand records, of which a handler looks at a few: reading them all costs more than all
the rest of the turn. An object that was read lazily equals, prints and is written as any other of its class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, TypeVar

import attrs

from cgworker.errors import AnswerInvalid

T = TypeVar("T", bound="Lazy")


class Lazy:
    """A base of wire types, whose objects may keep the JSON of an answer until a field is looked at.

    A fault of the answer is found then: AnswerInvalid.
    """

    __slots__ = ("_answer",)

    read: ClassVar[Callable[[Any, Any], Any]]
    """Reads a value of a type from JSON, or from JSON text; the converter sets it."""

    hook_of: ClassVar[Callable[[Any], Callable[[Any, Any], Any]]]
    """Returns what reads values of a type from JSON, and raises whatever; the converter sets it."""

    @classmethod
    def of(cls: type[T], answer: Mapping[str, Any] | bytes) -> T:
        """Return an object that reads its fields from this JSON object, or from its text."""
        lazy = cls.__new__(cls)
        _keep(lazy, answer)
        return lazy

    def answered(self) -> Mapping[str, Any]:
        """Return the JSON object, for a look that needs no types.

        Raises:
            AnswerInvalid: it is no JSON object.
            AttributeError: the object was not read from an answer.
        """
        if not isinstance(self._answer, dict):
            _keep(self, Lazy.read(dict, self._answer))
        answer: Mapping[str, Any] = self._answer
        return answer

    def read_whole(self: T) -> T:
        """Read all fields now, and return the object.

        Raises:
            AnswerInvalid: a field is missing or at fault.
        """
        cls: Any = type(self)
        for name in _fields_of(cls):
            getattr(self, name)
        return self

    def __getattr__(self, name: str) -> Any:
        """Read a field that was not read yet."""
        cls: Any = type(self)
        if (field := _fields_of(cls).get(name)) is None:
            raise AttributeError(name)
        kind, hook, value = field
        answer = self._answer if type(self._answer) is dict else self.answered()
        if name in answer:
            try:
                value = hook(answer[name], kind)
            except Exception:  # it is read again, for the faults
                value = Lazy.read(kind, answer[name])
        if value is attrs.NOTHING:
            raise AnswerInvalid(f"the kernel's answer is not a {cls.__name__}: {name} is missing")
        object.__setattr__(self, name, value)
        return value


_keep = Lazy.__dict__["_answer"].__set__


@lru_cache
def _fields_of(cls: Any) -> dict[str, tuple[Any, Callable[[Any, Any], Any], Any]]:
    """Return for each field of a class its type, what reads it, and its default."""
    fields = attrs.fields(attrs.resolve_types(cls))
    return {field.name: (field.type, Lazy.hook_of(field.type), field.default) for field in fields}
