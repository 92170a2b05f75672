"""What the commands answer that say something to a turn: answer, decline, tell and redo."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from cgworker.durable.answers import OpenQuestion


@frozen(kw_only=True)
class Answered:
    """An answer that was delivered."""

    project_id: str
    turn_id: str
    key: str
    value: Any


@frozen(kw_only=True)
class DeclinedQuestion:
    """A question that was declined."""

    project_id: str
    turn_id: str
    key: str
    reason: str | None


@frozen(kw_only=True)
class ToldTurn:
    """A message that a turn was told."""

    project_id: str
    turn_id: str
    key: str | None
    message: Any


@frozen(kw_only=True)
class RedoneTurn:
    """A closed turn, and the turn that does it again; or why there is none."""

    turn_id: str
    redone_as: str | None = None
    error: str | None = None


@frozen(kw_only=True)
class RedoneTurns:
    """The turns that were done again; with `dry_run`, those that would be."""

    project_id: str
    dry_run: bool
    items: tuple[RedoneTurn, ...]


@frozen(kw_only=True)
class OpenQuestions:
    """OpenQuestions without an answer."""

    project_id: str
    items: tuple[OpenQuestion, ...]
