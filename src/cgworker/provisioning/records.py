"""What a provisioner keeps of each agent that it provides, so that another process can go on with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from attrs import asdict, field, frozen

from cgworker.errors import UsageError
from cgworker.private import make_private_folder, read_secret, replace_private


@frozen(kw_only=True)
class AgentRecord:
    """An agent that is provided.

    Attributes:
        agent_id: the agent.
        role: what it is for.
        join_code: the code of its invite. A provisioner that was killed between joining and keeping the
            token joins with it again, which gives the same agent another credential.
        profile: the name of its profile; None until it has joined.
        has_ended: whether it was ended on request, and gets no worker any more.
    """

    agent_id: str
    role: str
    join_code: str = field(repr=False)
    profile: str | None = None
    has_ended: bool = False


class AgentRecords:
    """The records of one provisioner, a private file for each agent.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, agent_id: str) -> AgentRecord | None:
        """Return the record of an agent, or None if there is none.

        Args:
            agent_id: the agent.

        Raises:
            ProfileError: other users may read or write the file.
        """
        text = read_secret(self._folder / f"{agent_id}.json")
        return None if text is None else AgentRecord(**json.loads(text))

    def all(self) -> tuple[AgentRecord, ...]:
        """Return the records of all agents, by name."""
        found = (self.get(path.stem) for path in sorted(self._folder.glob("*.json")))
        return tuple(record for record in found if record is not None)

    def save(self, record: AgentRecord) -> None:
        """Write a record, in place of the agent's earlier one.

        Args:
            record: the record.
        """
        replace_private(self._folder / f"{record.agent_id}.json", json.dumps(asdict(record)) + "\n")

    def lock_path(self, agent_id: str) -> Path:
        """Return the path of the file that the agent's worker holds locked.

        Args:
            agent_id: the agent.
        """
        return self._folder / f"{agent_id}.lock"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder while the block runs, so that two provisioners do not start workers from it.

        Raises:
            UsageError: another process holds it.
        """
        make_private_folder(self._folder)
        with (self._folder / ".provisioner.lock").open("a") as lock:
            if not try_lock(lock):
                raise UsageError(f"another provisioner works with {self._folder}: end it first")
            yield


def try_lock(file: IO[str]) -> bool:
    """Lock a file until all processes that inherited it have closed it; return False if it is locked.

    Args:
        file: the file, open for writing.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
