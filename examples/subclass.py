"""A worker as a class of your own: state, hooks, and a method for each kind of turn.

python examples/subclass.py
"""

from typing import Any

from cgworker import Outcome, Turn, TurnReport, Worker, handles, run, suspend


class Desk(Worker):
    """Answers conversations, and counts settled turns."""

    settled_count = 0

    @handles("turn.conversation.v1")
    async def answer(self, turn: Turn, question: dict[str, Any]) -> dict[str, Any] | Outcome:
        """Answer a question; suspend what needs a person."""
        if question.get("needs_approval"):
            return suspend("waiting_for_approval", note="somebody has to look at this first")
        return {"text": f"You asked: {question.get('task')}", "attempt": turn.attempt}

    async def on_settled(self, report: TurnReport) -> None:
        """Count the attempt. The worker calls this after each one, whatever its outcome."""
        self.settled_count += 1
        print(f"{report.turn} is settled: {report.settled}; {self.settled_count} so far")


if __name__ == "__main__":
    run(Desk.from_profile("cg-demo/worker-1"))
