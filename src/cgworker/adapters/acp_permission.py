"""Requests for permission, by which an agent asks before it does something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen


@frozen(kw_only=True)
class Permission:
    """What an agent asks permission for.

    Attributes:
        title: what it is about to do, in its own words.
        kind: what sort of thing that is: "read", "edit", "delete", "move", "search", "execute", "fetch" ...
        input: what its tool is called with.
        locations: the files concerned, `{"path": ..., "line": ...}` each.
        content: what will come of it, such as a diff; in the protocol's own form.
        options: what may be answered, `{"id", "name", "kind"}` each; a kind is one of "allow_once",
            "allow_always", "reject_once" and "reject_always".
    """

    title: str
    kind: str
    input: Any
    locations: Sequence[Any]
    content: Sequence[Any]
    options: Sequence[dict[str, str]]

    def option(self, *kinds: str) -> str | None:
        """The id of the first option of one of these kinds, in the order of the kinds; None without one."""
        found = {option["kind"]: option["id"] for option in reversed(self.options)}
        return next((found[kind] for kind in kinds if kind in found), None)

    def is_lasting(self, option_id: str) -> bool:
        """Whether an option is meant for all further calls like this one."""
        return any(
            option["id"] == option_id and option["kind"].endswith("_always") for option in self.options
        )


def ask_people(permission: Permission) -> None:
    """Leave every permission to whoever answers the turn's questions."""
