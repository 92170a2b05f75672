"""Keep a coding agent's tool calls in its turn: public records, private steps, and a summary for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from acp.schema import ToolCallProgress, ToolCallStart
from attrs import define, field
from pydantic import BaseModel

from cgworker.adapters.harness import Harness
from cgworker.wire.converter import dumps, loads

CALL_ROLE = "tool_call"

DONE = "So far these tool calls have ended, in this order. Do not repeat one only because you miss its end:"
"""The text that precedes the ended calls when an agent goes on with the task."""

_STEP = "acp:call"
_MAX_CHARACTERS = 4_000  # of one call; an agent can read the file or run the query again
_MAX_CHARACTERS_OF_ALL = 60_000  # older calls are summarised by their title


@define
class ToolCalls:
    """The tool calls of one turn's agent. A call that has ended is a private step, `acp:call#1` and so on.

    Args:
        harness: the attempt at the turn.
        shown: returns what is public of a call, or None.
        mask: masks secrets in a text.
    """

    _harness: Harness
    _shown: Callable[[Mapping[str, Any]], Any]
    _mask: Callable[[str], str]
    _calls: dict[str, dict[str, Any]] = field(factory=dict, init=False)
    _began_ns: dict[str, int] = field(factory=dict, init=False)
    _earlier: list[Mapping[str, Any]] = field(factory=list, init=False)

    async def read(self) -> None:
        """Read the calls that ended in earlier attempts; to be called once, before the agent works.

        Raises:
            PrivateStepMissing: the worker's private store does not have them.
            Suspending: the same, and another worker may have them.
        """
        self._earlier = await self._harness.kept(_STEP)

    def summary(self, *, is_known: bool) -> str | None:
        """Return a text for the agent about the calls of earlier attempts; None if there are none.

        Args:
            is_known: whether the agent goes on in its session, so that titles are enough. It may have missed
                the last calls, if it was killed before it wrote its session.
        """
        if not self._earlier:
            return None
        told: list[str] = []
        left = 0 if is_known else _MAX_CHARACTERS_OF_ALL
        for call in reversed(self._earlier):  # the last calls matter most
            text = dumps(call).decode()[:_MAX_CHARACTERS]
            left -= len(text)
            told.append(text if left >= 0 else _brief(call))
        return "\n".join([DONE, *reversed(told)])

    def of(self, update: BaseModel) -> dict[str, Any]:
        """Return what is known of a call, including what an update or a request for permission says.

        Args:
            update: names the call.
        """
        said = update.model_dump(mode="json", exclude_none=True)
        known = self._calls.get(said["tool_call_id"], {"id": said["tool_call_id"]})
        return known | {ours: said[theirs] for theirs, ours in _NAMES.items() if theirs in said}

    async def note(self, update: ToolCallStart | ToolCallProgress) -> tuple[bool, bool]:
        """Keep and record a call's beginning and end; updates in between would be too many for a ledger.

        Args:
            update: what the agent says of it.

        Returns:
            Whether the call has begun or ended with this, and whether it has ended.
        """
        before = self._calls.get(update.tool_call_id, {})
        self._calls[update.tool_call_id] = call = self.of(update)
        has_ended = call.get("status") in _ENDED and call["status"] != before.get("status")
        if not has_ended and not isinstance(update, ToolCallStart):
            return False, False
        call = loads(self._mask(dumps(call).decode()))
        if not before:
            self._began_ns[update.tool_call_id] = time.time_ns()
        if has_ended:
            kind, has_failed = str(call.get("kind") or "other"), call["status"] == "failed"
            began_ns = self._began_ns.pop(update.tool_call_id, time.time_ns())
            self._harness.note_tool(kind, update.tool_call_id, began_ns=began_ns, has_failed=has_failed)
            await self._harness.keep(_STEP, lambda: {key: call[key] for key in call if key != "id"})
        if (public := self._shown(call)) is not None:
            await self._harness.turn.record(public, CALL_ROLE)
        return True, has_ended


_ENDED = ("completed", "failed")
_NAMES = {"title": "title", "kind": "kind", "status": "status", "locations": "locations"}
_NAMES |= {"content": "content", "raw_input": "input", "raw_output": "output"}


def _brief(call: Mapping[str, Any]) -> str:
    return f"{call.get('title', 'a call')} ({call['status']})"
