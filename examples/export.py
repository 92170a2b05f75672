"""A long export that streams its progress. If it is stopped, it returns what it has so far.

python examples/export.py
cg turn follow T-1 --profile cg-demo/worker-1
cg turn stop --project-id cg-demo --turn-id T-1 --requested-by worker-1
"""

from typing import Any

import anyio

from cgworker import Turn, Worker, run

desk = Worker.from_profile("cg-demo/worker-1")


@desk.turn("turn.conversation.v1")
async def export(turn: Turn, order: dict[str, Any]) -> dict[str, int]:
    """Export rows. A stop cancels the handler at an `await`; what it then returns is the final record."""
    row_count = 0
    try:
        async with turn.stream() as out:
            for row in range(order["rows"]):
                await out.write(f"row {row}\n")
                await anyio.sleep(0.001)
                row_count += 1
    except anyio.get_cancelled_exc_class():
        if not turn.stop_requested:  # the lease is lost, or the worker shuts down: another attempt follows
            raise
    return {"rows": row_count}


if __name__ == "__main__":
    run(desk)
