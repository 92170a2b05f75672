"""Two agents in one process; together they run as many handlers at once as it can bear.

python examples/many_agents.py
"""

from attrs import frozen

from cgworker import Outcome, Turn, Worker, fail, run

writer = Worker.from_profile("cg-demo/worker-1")
reviewer = Worker.from_profile("cg-demo/worker-2")


@frozen
class Order:
    """What is to be written about."""

    task: str


@frozen
class Draft:
    """What is to be reviewed."""

    text: str


@writer.turn("turn.conversation.v1")
async def write(turn: Turn, order: Order) -> dict[str, str] | Outcome:
    """Has it reviewed by the other agent; its turn holds no slot meanwhile, so one is enough for both."""
    text = f"On {order.task}"
    reviews = await turn.children({"review": turn.child("worker-2", Draft(text))})
    if not reviews["review"].succeeded:
        return fail({"error": "not_reviewed"})
    return {"text": text, "verdict": reviews["review"].payload["verdict"]}


@reviewer.turn("turn.conversation.v1")
async def review(turn: Turn, draft: Draft) -> dict[str, str]:
    """Under an identity of its own: with another credential, other grants and another capacity."""
    return {"verdict": f"{turn.agent.agent_id} finds nothing wrong with {draft.text!r}"}


if __name__ == "__main__":
    run(writer, reviewer, concurrency=1)
