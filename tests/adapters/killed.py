"""A worker that kills itself at a point of an agent's run, and what its model and tools were asked.

python -m tests.adapters.killed AGENT URL PROJECT TOKEN FOLDER POINT
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from pathlib import Path

from cgworker import (
    AdapterHandler,
    AgentRef,
    KernelClient,
    ObjectStore,
    Worker,
    WorkerOptions,
    key_from_file,
    run,
)

STAGES = ("before", "asked", "answered")


class Script:
    """Notes each stage of each call in a file, and kills this process once at one of them.

    Args:
        folder: has the file; all workers of a turn share it.
        kill_at: a call and its stage, as in "model1 asked"; empty is never.

    Attributes:
        folder: the same.
        kill_at: the same.
    """

    def __init__(self, folder: Path, kill_at: str = "") -> None:
        self.folder = folder
        self._calls = folder / "calls"
        self.kill_at = kill_at

    def point(self, call: str, stage: str) -> None:
        """Note that a call has come to a stage."""
        with self._calls.open("a") as calls:
            calls.write(f"{call} {stage}\n")
        if f"{call} {stage}" == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def came(self, call: str) -> None:
        """Note all that comes before the answer of a call."""
        self.point(call, "before")
        self.point(call, "asked")

    @property
    def counts(self) -> dict[str, int]:
        """How often each call came to each stage."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return {line: lines.count(line) for line in lines}


def worker_for(kernel: KernelClient, agent: str, folder: Path, kill_at: str = "") -> Worker:
    """A worker of the scripted agent in a module of this folder, with the store that all workers share."""
    adapter = import_module(f"tests.adapters.{agent}").scripted(Script(folder, kill_at))
    store = ObjectStore((folder / "objects").as_uri(), key=key_from_file(folder / "key"))
    options = WorkerOptions(wait_seconds=5, concurrency=1, private_store=store)
    return Worker(kernel, AdapterHandler(adapter), options=options)


if __name__ == "__main__":
    agent, url, project, token, folder, kill_at = sys.argv[1:]
    desk = KernelClient(url, agent=AgentRef(project_id=project, agent_id="desk"), token=token)
    run(worker_for(desk, agent, Path(folder), kill_at))
