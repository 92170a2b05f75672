"""Turns on behalf of an MCP caller: dispatch them, find them again, answer their questions and stop them."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from cgworker.adapters.mcp_mapping import translated_errors, value_in
from cgworker.adapters.mcp_tools import OfferedTool, offered_tools
from cgworker.adapters.turn_watch import TurnNews, answer_each, read_news, until_answered
from cgworker.client import KernelClient
from cgworker.client.turns import require_agent
from cgworker.durable.answers import OpenQuestion, answer_question, decline_question
from cgworker.errors import ConflictError, InvalidRequest, NotFoundError
from cgworker.wire.converter import dumps
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.turns import Dispatch, RootRequest

_MAX_ID = 200  # of a turn; a longer one would not fit into an address


class CallerTurns:
    """The turns of one caller. While the kernel is away, every call waits for it.

    Args:
        kernel: makes the calls, under the agent that the caller acts as.
    """

    def __init__(self, kernel: KernelClient) -> None:
        self.kernel: KernelClient = kernel
        self._agent = require_agent(kernel)
        facts = dumps([self._agent.project_id, self._agent.agent_id])
        self._prefix = f"mcp:{hashlib.sha256(facts).hexdigest()[:16]}:"

    async def tools(self) -> dict[str, OfferedTool]:
        """Return the tools that the caller may use, by name.

        Raises:
            MCPError: the kernel refused the call.
        """
        with translated_errors():
            return await until_answered(lambda: offered_tools(self.kernel, self._agent.project_id))

    async def dispatch(self, tool: OfferedTool, arguments: Mapping[str, Any], key: str | None) -> TurnRef:
        """Dispatch a turn for a call.

        Args:
            tool: the tool that is called.
            arguments: the arguments of the call, without faults.
            key: the caller's own name of the call, which returns the same turn for the same call; None makes
                a new turn.

        Raises:
            InvalidRequest: the kernel does not take the input.
            MCPError: the kernel refused the call, or the key belongs to another call.
        """
        name = uuid.uuid4().hex if key is None else hashlib.sha256(dumps([tool.tool.name, key])).hexdigest()
        dispatch_key = self._prefix + name
        dispatch = Dispatch(
            requested_by=self._agent,
            target_agent=AgentRef(project_id=self._agent.project_id, agent_id=tool.agent_id),
            input=tool.input_of(arguments),
            turn_kind=tool.turn_kind,
            dispatch_key=dispatch_key,
            authority=RootRequest(request_id=dispatch_key),
        )
        with translated_errors():
            return await until_answered(lambda: self.kernel.turns.dispatch(dispatch))

    async def find(self, turn_id: str) -> TurnNews:
        """Return the current state of a turn of this caller, with its open questions.

        Args:
            turn_id: the turn's id, as the caller was told it.

        Raises:
            MCPError: the caller has no such turn, or the kernel refused the call.
        """
        if len(turn_id) > _MAX_ID:
            raise _no_task(turn_id)
        turn = TurnRef(project_id=self._agent.project_id, turn_id=turn_id)
        with translated_errors():
            try:
                news = await until_answered(lambda: read_news(self.kernel, turn, with_items=False))
            except (NotFoundError, InvalidRequest):
                raise _no_task(turn_id) from None
        if not news.snapshot.spawn_key.startswith(self._prefix):
            raise _no_task(turn_id)
        return news

    async def answer_all(self, turn: TurnRef, responses: Mapping[str, Mapping[str, Any]]) -> None:
        """Answer those questions that have a response; a dismissed one stays open.

        Args:
            turn: a turn of this caller.
            responses: the client's responses by the question's key, each with `action` and `content`.

        Raises:
            InvalidRequest: an answer does not match its question's schema; earlier ones were sent.
            MCPError: the kernel refused the call.
        """
        given = {key: each for key, each in responses.items() if each.get("action") != "cancel"}
        with translated_errors():
            await answer_each(
                self.kernel, turn, given.keys(), lambda question: self.answer(question, given[question.key])
            )

    async def answer(self, question: OpenQuestion, response: Mapping[str, Any]) -> None:
        """Answer one question, or decline it; a dismissed or answered one is left alone.

        Args:
            question: the question.
            response: the client's response, with `action` and `content`.

        Raises:
            InvalidRequest: the answer does not match the question's schema.
            MCPError: the kernel refused the call.
        """
        turn, key = question.turn, question.key
        facts = dumps([key, question.asked_at.isoformat(), response.get("action"), response.get("content")])
        answer_id = f"mcp:{hashlib.sha256(facts).hexdigest()}"
        with translated_errors():
            try:
                if response.get("action") == "accept":
                    value = value_in(response.get("content") or {}, question)
                    await until_answered(
                        lambda: answer_question(self.kernel, turn, value, key=key, answer_id=answer_id)
                    )
                elif response.get("action") == "decline":
                    await until_answered(
                        lambda: decline_question(self.kernel, turn, key=key, answer_id=answer_id)
                    )
            except ConflictError:
                pass  # somebody else was quicker

    async def stop(self, turn: TurnRef) -> None:
        """Request that a turn be stopped; a closed one stays as it is.

        Args:
            turn: the turn.

        Raises:
            MCPError: the caller's agent may not stop it.
        """
        with translated_errors():
            await until_answered(lambda: self.kernel.turns.stop(turn, requested_by=self._agent))


def _no_task(turn_id: str) -> MCPError:
    return MCPError(INVALID_PARAMS, f"Task {turn_id[:100]} not found")
