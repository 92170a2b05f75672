"""Read the fields of an answer only when they are looked at.

A turn may have a thousand records, of which a handler looks at a few: reading them all costs more than all
the rest of the turn. An object that was read lazily equals, prints and is written as any other of its class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, TypeVar, cast

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

    def __getattr__(self, name: str) -> Any:
        """Read a field that was not read yet."""
        kinds = _kinds_of(cast("Any", type(self)))
        if name not in kinds:
            raise AttributeError(name)
        kind, value = kinds[name]
        answer = self.answered()
        if name in answer:
            value = Lazy.read(kind, answer[name])
        if value is attrs.NOTHING:
            raise AnswerInvalid(f"the kernel's answer is not a {type(self).__name__}: {name} is missing")
        object.__setattr__(self, name, value)
        return value


_keep = Lazy.__dict__["_answer"].__set__


@lru_cache
def _kinds_of(cls: Any) -> dict[str, tuple[Any, Any]]:
    """Return the type and the default of each field of a class."""
    return {field.name: (field.type, field.default) for field in attrs.fields(attrs.resolve_types(cls))}
