"""An agent that forwards its turns to an A2A agent, whose address is in a file."""

from __future__ import annotations

import os

from cgworker.adapters.a2a import A2AAgent
from tests.adapters.killed import Script


def scripted(script: Script) -> A2AAgent:
    """The agent; the remote one finds this process by a file."""
    (script.folder / "pid").write_text(str(os.getpid()))
    url = (script.folder / "url").read_text()
    return A2AAgent(url, poll_seconds=0.05, send_again=(script.folder / "send again").exists())
