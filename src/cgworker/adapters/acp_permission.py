"""Requests for permission, which an agent makes before it does something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen


@frozen(kw_only=True)
class Permission:
    """An action that an agent asks permission for.

    Attributes:
        title: what the agent is about to do, in its own words.
        kind: the kind of action: "read", "edit", "delete", "move", "search", "execute", "fetch" ...
        input: the arguments of the tool call.
        locations: the files concerned, `{"path": ..., "line": ...}` each.
        content: the result to expect, such as a diff, in the protocol's form.
        options: the possible answers, `{"id", "name", "kind"}` each; a kind is one of "allow_once",
            "allow_always", "reject_once" and "reject_always".
    """

    title: str
    kind: str
    input: Any
    locations: Sequence[Any]
    content: Sequence[Any]
    options: Sequence[dict[str, str]]

    def option(self, *kinds: str) -> str | None:
        """Return the id of the first option of one of these kinds; None if there is none.

        Args:
            *kinds: kinds of options, in the order of preference.
        """
        found = {option["kind"]: option["id"] for option in reversed(self.options)}
        return next((found[kind] for kind in kinds if kind in found), None)

    def is_lasting(self, option_id: str) -> bool:
        """Return True if an option also covers all further calls like this one.

        Args:
            option_id: the option.
        """
        return any(
            option["id"] == option_id and option["kind"].endswith("_always") for option in self.options
        )


def ask_people(permission: Permission) -> None:
    """Leave every permission to the people who answer the turn's questions.

    Args:
        permission: the request.
    """
