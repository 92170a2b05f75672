"""Talk with a turn on the terminal: show its records as they come, and put its questions to the person."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import anyio.to_thread
from attrs import field, frozen

from cgworker.cli.envelope import say
from cgworker.cli.forms import Declined, ask_person, command_that_answers
from cgworker.cli.progress import SILENT_SECONDS, announced, progress
from cgworker.client import KernelClient
from cgworker.durable.answers import OpenQuestion, answer_question, decline_question, questions_of
from cgworker.durable.questions import QUESTION_ROLE
from cgworker.errors import InvalidRequest, UsageError
from cgworker.wire.records import SemanticItem
from cgworker.wire.refs import AgentRef, TurnRef

_PAUSE_SECONDS = 0.2

# Records that the command shows otherwise, or that only a handler reads.
_NOT_SHOWN = frozenset(
    {
        "bootstrap",
        "deliverable",
        "question",
        "answer",
        "answer_refused",
        "step",
        "sleep",
        "children",
        "message",
    }
)


async def input_of_text(kernel: KernelClient, agent: AgentRef, turn_kind: str, text: str) -> Any:
    """Make an agent's input of a text: the one field that its offer requires, or else `task`.

    Args:
        kernel: the kernel.
        agent: the agent.
        turn_kind: the kind of turn.
        text: the text.

    Raises:
        UsageError: the agent's offer requires several fields.
    """
    offers = await kernel.projections.turn_offers(
        agent.project_id, turn_kind=turn_kind, agent_id=agent.agent_id, limit=1
    )
    contract = offers.items[0].input_contract if offers.items else {}
    if (contract.get("json_schema") or {}).get("type") == "string":
        return text
    required = contract.get("required_fields") or ["task"]
    if len(required) > 1:
        names = ", ".join(required)
        raise UsageError(f"{agent.agent_id} needs the fields {names}: give them by --payload-json")
    return {required[0]: text}


@frozen(kw_only=True)
class _Place:
    """Where a conversation is shown."""

    is_shown: bool
    can_type: bool = field(factory=lambda: sys.stdin.isatty())


class TurnFollower:
    """One turn, followed to its end.

    Args:
        kernel: the kernel, as the agent that asks.
        turn: the turn.
        agent_id: the agent that works it.
        is_shown: whether records are shown and questions are asked, on a terminal.
    """

    def __init__(self, kernel: KernelClient, turn: TurnRef, agent_id: str, *, is_shown: bool) -> None:
        self._kernel = kernel
        self._turn = turn
        self._agent_id = agent_id
        self._place = _Place(is_shown=is_shown)

    async def follow(self) -> None:
        """Show the turn's records until it is closed."""
        records = self._kernel.turns.follow(self._turn)
        async for item in announced(records, f"{self._agent_id} works {self._turn.turn_id}"):
            if item.record.record_role == QUESTION_ROLE:
                await self._ask()
            elif self._place.is_shown and item.record.record_role not in _NOT_SHOWN:
                _show(item)

    async def _ask(self) -> None:
        """Put the open questions to the person, or say which command answers them."""
        with progress("waiting for the question", after_seconds=SILENT_SECONDS):
            questions = await self._open_questions()
        for question in questions:
            if self._place.is_shown and self._place.can_type:
                await self._answer(question)
            else:
                say(f"{self._turn.turn_id} asks: {question.question}")
                say(f"hint: {command_that_answers(question)}")

    async def _open_questions(self) -> Sequence[OpenQuestion]:
        """Return the open questions; none if they were answered by another, or the turn is closed."""
        while not (questions := await questions_of(self._kernel, self._turn)):
            if (await self._kernel.turns.get(self._turn)).state != "running":
                return ()
            await anyio.sleep(_PAUSE_SECONDS)  # it is about to be suspended
        return questions

    async def _answer(self, question: OpenQuestion) -> None:
        while True:
            said = await anyio.to_thread.run_sync(ask_person, question, abandon_on_cancel=True)
            if isinstance(said, Declined):
                await decline_question(self._kernel, self._turn, said.reason, key=question.key)
                return
            try:
                await answer_question(self._kernel, self._turn, said, key=question.key)
            except InvalidRequest as refused:
                say("; ".join(f"{_path(fault)}{fault['msg']}" for fault in refused.faults))
            else:
                return


def _path(fault: Mapping[str, Any]) -> str:
    path = ".".join(map(str, fault["loc"][1:]))
    return f"{path}: " if path else ""


def _show(item: SemanticItem) -> None:
    from cgworker.cli.rendering import plain_text, screen

    screen().print(plain_text(_words_of(item), style="dim"))


def _words_of(item: SemanticItem) -> str:
    """Return a record in a line: its only text, or else its JSON."""
    from cgworker.wire.converter import dumps

    payload = item.payload
    texts = (
        [value for value in payload.values() if isinstance(value, str)]
        if isinstance(payload, Mapping)
        else []
    )
    text = payload if isinstance(payload, str) else texts[0] if len(texts) == 1 else dumps(payload).decode()
    return f"· {text}"
