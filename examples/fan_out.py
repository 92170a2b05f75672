"""A parent gives work to three children, waits without a slot, and returns their results.

Here the children are turns of another kind. They may also be turns of other agents.

python examples/fan_out.py
"""

from typing import Any

from cgworker import Turn, Worker, fail, run

desk = Worker.from_profile("cg-demo/worker-1")

VIEWS = ("risk", "cost", "value")


@desk.turn("turn.conversation.v1")
async def decide(turn: Turn, plan: dict[str, str]) -> Any:
    """Ask for three reviews. The handler runs again when they are done; `children` then returns at once."""
    wanted = {
        view: turn.child("worker-1", {"plan": plan["task"], "view": view}, kind="turn.review.v1")
        for view in VIEWS
    }
    found = await turn.children(wanted)
    if not all(review.succeeded for review in found.values()):
        return fail({"error": "a_review_failed"})
    return {view: found[view].payload for view in VIEWS}


@desk.turn("turn.review.v1")
async def review(_: Turn, asked: dict[str, str]) -> str:
    """Review the plan from one point of view. This is what a child does."""
    return f"{asked['view']} of {asked['plan']!r}: fine"


if __name__ == "__main__":
    run(desk)
