"""Two agents in one process. `concurrency` limits how many handlers run at once, of both together.

python examples/many_agents.py
"""

from attrs import frozen

from cgworker import Outcome, Turn, Worker, fail, run

writer = Worker.from_profile("cg-demo/worker-1")
reviewer = Worker.from_profile("cg-demo/worker-2")


@frozen
class Order:
    """The subject to write about."""

    task: str


@frozen
class Draft:
    """The text to review."""

    text: str


@writer.turn("turn.conversation.v1")
async def write(turn: Turn, order: Order) -> dict[str, str] | Outcome:
    """Write, and let the other agent review it. The turn waits without a slot, so one slot is enough."""
    text = f"On {order.task}"
    reviews = await turn.children({"review": turn.child("worker-2", Draft(text))})
    if not reviews["review"].succeeded:
        return fail({"error": "not_reviewed"})
    return {"text": text, "verdict": reviews["review"].payload["verdict"]}


@reviewer.turn("turn.conversation.v1")
async def review(turn: Turn, draft: Draft) -> dict[str, str]:
    """Review as another agent, with its own credential, grants and capacity."""
    return {"verdict": f"{turn.agent.agent_id} finds nothing wrong with {draft.text!r}"}


if __name__ == "__main__":
    run(writer, reviewer, concurrency=1)
