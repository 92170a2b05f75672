"""Faults of a value, each with its path, as an answer of status 422 lists them (wire 2.1)."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from attrs import define, field
from cattrs import AttributeValidationNote, ClassValidationError, IterableValidationError
from cattrs.errors import ForbiddenExtraKeysError

from cgworker.errors import InvalidRequest
from cgworker.wire.values import Fault, ItemFaults

MAX_FAULTS: Final = 50
"""The most faults that are listed; the others are only counted."""

_MAX_CHARACTERS = 300  # of a name or a message, which may quote the value that was sent

Loc = tuple[str | int, ...]


def faults_of(broken: BaseException, at: str) -> list[dict[str, Any]]:
    """Return the first `MAX_FAULTS` faults in an exception of cattrs, and the number of the others.

    Args:
        broken: the exception.
        at: the first element of each fault's path.
    """
    found = _Found()
    _collect(broken, (at,), found)
    return found.to_list(at)


def require_count(cls: type, value: Any, at: str) -> None:
    """Check the number of `items` in a request.

    Args:
        cls: the request's wire type, with the limit in `max_items`; without one nothing is checked.
        value: the JSON value of the request.
        at: the first element of the fault's path.

    Raises:
        InvalidRequest: the sender's fault: there are more items than `max_items`.
    """
    max_items = getattr(cls, "max_items", None)
    if max_items is None or not isinstance(value, dict) or not isinstance(items := value.get("items"), list):
        return
    if len(items) > max_items:
        msg = f"Value error, at most {max_items} at once"
        raise InvalidRequest([{"type": "too_long", "loc": [at, "items"], "msg": msg}])


@define
class _Found:
    named: list[dict[str, Any]] = field(factory=list)
    more_count: int = 0
    unseen_count: int = 0

    def add(self, type: str, loc: Loc, msg: str) -> None:
        """Keep a fault, or only count it.

        Args:
            type: the machine-readable word of wire 2.1.
            loc: the path to the value.
            msg: the text for people.
        """
        if len(self.named) < MAX_FAULTS:
            self.named.append({"type": type, "loc": list(map(_cut, loc)), "msg": _cut(msg)})
        else:
            self.more_count += 1

    def to_list(self, at: str) -> list[dict[str, Any]]:
        """Return the faults that were kept, and a last one with the number of the others.

        Args:
            at: the path of that last fault.
        """
        if not self.more_count and not self.unseen_count:
            return self.named
        msg = f"{self.more_count} more faults are not named here"
        if self.unseen_count:
            msg += f", and {self.unseen_count} more items were not looked at"
        return [*self.named, {"type": "too_many_faults", "loc": [at], "msg": msg}]


def _cut(text: Any) -> Any:
    is_long = isinstance(text, str) and len(text) > _MAX_CHARACTERS
    return f"{text[:_MAX_CHARACTERS]}…" if is_long else text


def _collect(broken: BaseException, loc: Loc, found: _Found) -> None:
    """Collect all faults. Missing fields of an object come before its others, as in the reference."""
    if isinstance(broken, ItemFaults):
        for place, error in broken.by_place:
            _collect(error, (*loc, place), found)
        found.unseen_count += broken.unseen_count
    elif isinstance(broken, ClassValidationError | IterableValidationError):
        _collect_group(broken, loc, found)
    elif isinstance(broken, ForbiddenExtraKeysError):
        left = max(0, MAX_FAULTS - len(found.named))
        for name in islice(broken.extra_fields, left):
            found.add("extra_forbidden", (*loc, name), "Extra inputs are not permitted")
        found.more_count += max(0, len(broken.extra_fields) - left)
    elif isinstance(broken, KeyError):
        found.add("missing", loc, "Field required")
    elif isinstance(broken, Fault):
        msg = broken.msg.replace("{field}", str(loc[-1]))
        found.add(broken.type, loc, f"Value error, {msg}" if broken.type == "value_error" else msg)
    else:
        found.add("value_error", loc, f"Value error, {broken}")


def _collect_group(broken: ClassValidationError | IterableValidationError, loc: Loc, found: _Found) -> None:
    located, bare = broken.group_exceptions()
    missing = [(e, n) for e, n in located if isinstance(e, KeyError)]
    others = [(e, n) for e, n in located if not isinstance(e, KeyError)]
    for error, note in missing + others:
        step = note.name if isinstance(note, AttributeValidationNote) else note.index
        _collect(error, (*loc, step), found)
    for error in bare:
        _collect(error, loc, found)
