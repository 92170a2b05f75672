"""A parent that gives work to three others, holds no slot meanwhile, and comes back with their results.

The children are turns of another kind here; they may as well be turns of other agents.

python examples/fan_out.py
"""

from typing import Any

from cgworker import Turn, Worker, fail, run

desk = Worker.from_profile("cg-demo/worker-1")

VIEWS = ("risk", "cost", "value")


@desk.turn("turn.conversation.v1")
async def decide(turn: Turn, plan: dict[str, str]) -> Any:
    """Begins again from the top when the children are closed; `children` then returns at once."""
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
    """What a child does: one view of the plan."""
    return f"{asked['view']} of {asked['plan']!r}: fine"


if __name__ == "__main__":
    run(desk)
