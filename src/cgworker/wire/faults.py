"""What is wrong with a value, fault by fault with its path, as a 422 tells it (wire 2.1)."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from attrs import define, field
from cattrs import AttributeValidationNote, ClassValidationError, IterableValidationError
from cattrs.errors import ForbiddenExtraKeysError

from cgworker.errors import InvalidRequest
from cgworker.wire.values import Fault, ItemFaults

MOST: Final = 50
"""How many faults are named; of the others only their number is told."""

_LONGEST = 300  # characters of a name or a message: both can hold what was sent

Loc = tuple[str | int, ...]


def faults_of(broken: BaseException, at: str) -> list[dict[str, Any]]:
    """The first `MOST` faults that an exception of cattrs stands for, and how many more there are.

    Args:
        at: the first element of each fault's path.
    """
    found = _Found()
    _collect(broken, (at,), found)
    return found.told(at)


def require_count(cls: type, value: Any, at: str) -> None:
    """Raise InvalidRequest if a request has more items than its class takes."""
    most = getattr(cls, "most_items", None)
    if most is None or not isinstance(value, dict) or not isinstance(items := value.get("items"), list):
        return
    if len(items) > most:
        msg = f"Value error, at most {most} at once"
        raise InvalidRequest([{"type": "too_long", "loc": [at, "items"], "msg": msg}])


@define
class _Found:
    named: list[dict[str, Any]] = field(factory=list)
    more_count: int = 0
    unseen_count: int = 0

    def add(self, type: str, loc: Loc, msg: str) -> None:
        if len(self.named) < MOST:
            self.named.append({"type": type, "loc": list(map(_cut, loc)), "msg": _cut(msg)})
        else:
            self.more_count += 1

    def told(self, at: str) -> list[dict[str, Any]]:
        if not self.more_count and not self.unseen_count:
            return self.named
        msg = f"{self.more_count} more faults are not named here"
        if self.unseen_count:
            msg += f", and {self.unseen_count} more items were not looked at"
        return [*self.named, {"type": "too_many_faults", "loc": [at], "msg": msg}]


def _cut(text: Any) -> Any:
    is_long = isinstance(text, str) and len(text) > _LONGEST
    return f"{text[:_LONGEST]}…" if is_long else text


def _collect(broken: BaseException, loc: Loc, found: _Found) -> None:
    """All faults, the missing fields of an object before its others (as the reference orders them)."""
    if isinstance(broken, ItemFaults):
        for place, error in broken.by_place:
            _collect(error, (*loc, place), found)
        found.unseen_count += broken.unseen_count
    elif isinstance(broken, ClassValidationError | IterableValidationError):
        _collect_group(broken, loc, found)
    elif isinstance(broken, ForbiddenExtraKeysError):
        left = max(0, MOST - len(found.named))
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
