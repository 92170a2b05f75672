"""What a worker takes as its handler, and as its kernel."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from cgworker import AgentRef, KernelClient, Turn, UsageError, Worker

KERNEL = KernelClient("http://127.0.0.1:1", agent=AgentRef(project_id="p", agent_id="desk"))


class Desk(Worker):
    async def handle(self, turn: Turn) -> Any:
        return turn.input


@pytest.mark.parametrize("handler", [5, "answer", {}, Desk, Desk(KERNEL), dict], ids=repr)
def test_what_cannot_handle_a_turn_is_refused_when_it_is_given(handler: Any) -> None:
    """With a sentence, and not on the first turn."""
    with pytest.raises(UsageError, match=r"is no handler.*\(turn\) or \(turn, input\)"):
        Worker(KERNEL, handler)
    with pytest.raises(UsageError, match="is no handler"):
        Worker(KERNEL).add("kind", handler)


@pytest.mark.parametrize("kernel", ["http://127.0.0.1:1", None, KernelClient("http://127.0.0.1:1")], ids=repr)
def test_a_kernel_that_is_none_or_has_no_agent_is_refused(kernel: Any) -> None:
    """The sentence shows how it is made."""
    with pytest.raises(UsageError, match=r"KernelClient\(url, agent=\.\.\., token=\.\.\.\)"):
        Worker(kernel)


def test_functions_partials_and_objects_handle_turns() -> None:
    """As before."""

    async def answer(turn: Turn) -> Any:
        return turn.input

    class Answers:
        async def __call__(self, turn: Turn) -> Any:
            return await answer(turn)

    for handler in (answer, partial(answer), Answers(), Desk(KERNEL).handle):
        Worker(KERNEL, handler)
