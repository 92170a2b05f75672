"""A worker with a typed function. Its hints say what a turn's input must look like and what comes back.

python examples/function.py
"""

from attrs import frozen

from cgworker import Turn, Worker, run

desk = Worker.from_profile("cg-demo/worker-1")


@frozen
class Question:
    """What is asked."""

    task: str


@frozen
class Answer:
    """What is answered."""

    text: str
    words: int


@desk.turn("turn.conversation.v1")
async def answer(turn: Turn, question: Question) -> Answer:
    """Count the words. A plain value that is returned succeeds the turn with it."""
    await turn.record({"step": "counting"})
    return Answer(text=f"You asked: {question.task}", words=len(question.task.split()))


if __name__ == "__main__":
    run(desk)
