"""A handler with a private step: its value is in a store of the workers, and CommonGround has only a digest.

Without a URL the store is a folder of this user. With one, workers on several machines share it.

openssl rand -base64 32 > private.key && chmod 600 private.key
python examples/private_steps.py [s3://bucket/prefix private.key]
"""

import sys
from typing import Any

from cgworker import FolderStore, ObjectStore, PrivateStore, Turn, Worker, WorkerOptions, key_from_file, run


def private_store() -> PrivateStore:
    """Return the store that the command line names."""
    if not sys.argv[1:]:
        return FolderStore()
    url, key_file = sys.argv[1:]
    return ObjectStore(url, key=key_from_file(key_file))


desk = Worker.from_profile("cg-demo/worker-1", options=WorkerOptions(private_store=private_store()))


@desk.turn("turn.conversation.v1")
async def answer(turn: Turn, order: dict[str, str]) -> Any:
    """Look something up that must not be public, and publish what may be said of it."""

    def look_up() -> dict[str, str]:
        return {"customer": "Ada", "told us": f"please hurry with {order['task']}"}

    letter = await turn.once("letter", look_up, private=True)
    return {"task": order["task"], "is_urgent": "hurry" in letter["told us"]}


if __name__ == "__main__":
    run(desk)
