"""A worker with a typed function. Its hints describe the input of a turn and the result.

python examples/function.py
"""

from attrs import frozen

from cgworker import Turn, Worker, run

desk = Worker.from_profile("cg-demo/worker-1")


@frozen
class Question:
    """The input of a turn."""

    task: str


@frozen
class Answer:
    """The result of a turn."""

    text: str
    words: int


@desk.turn("turn.conversation.v1")
async def answer(turn: Turn, question: Question) -> Answer:
    """Count the words. A plain return value is the result of a turn that succeeded."""
    await turn.record({"step": "counting"})
    return Answer(text=f"You asked: {question.task}", words=len(question.task.split()))


if __name__ == "__main__":
    run(desk)
