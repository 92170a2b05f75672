"""A turn asks a person, waits without a slot, and goes on with the answer, even days or a restart later.

python examples/approval.py
cg turn questions --profile cg-demo/worker-1
cg turn answer T-1 --json '{"granted": true, "limit": 500}' --profile cg-demo/worker-1
"""

from typing import Any

from attrs import frozen

from cgworker import Turn, Worker, fail, run

desk = Worker.from_profile("cg-demo/worker-1")


@frozen
class Approval:
    """The answer. Its JSON Schema is published with the question."""

    granted: bool
    limit: int = 100


@desk.turn("turn.conversation.v1")
async def buy(turn: Turn, order: dict[str, str]) -> Any:
    """Buy something after a person has agreed."""
    approval = await turn.ask(Approval, f"May I spend money on {order['task']!r}?", key="approval")
    if not approval.granted:
        return fail({"error": "not_approved"})
    return {"bought": order["task"], "limit": approval.limit}


if __name__ == "__main__":
    run(desk)
