"""A worker whose function runs on a Ray cluster: here one that Ray starts on this machine.

python examples/ray_cluster.py
"""

from typing import TypedDict

from cgworker import Worker, run
from cgworker.adapters.ray import RayHandler


class Work(TypedDict):
    """The input of a turn."""

    task: str


def count_words(work: Work) -> dict[str, int]:
    """Runs on the cluster. What it returns is the result of the turn."""
    return {"words": len(work["task"].split())}


desk = Worker.from_profile("cg-demo/worker-1")
desk.add("turn.conversation.v1", RayHandler(count_words, num_cpus=1))

if __name__ == "__main__":
    run(desk)
