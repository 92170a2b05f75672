"""A remote agent of A2A, which outlives the workers; it runs beside the soak itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cgworker.adapters.a2a import A2AAgent
from tests.adapters.a2a_agent import COMPLETED, Agent, Delivers, Says, Takes, agent
from tests.soak.harnesses import Run


def adapter_for(run: Run) -> A2AAgent:
    """The adapter of the remote agent."""
    asked = {"square": run.square, "seconds": 3 * run.calls.seconds}
    return A2AAgent(os.environ["SOAK_A2A"], message=lambda _: asked, poll_seconds=0.2, send_again=True)


@contextmanager
def remote_agent() -> Iterator[Agent]:
    """The remote agent, until the block ends."""

    def work(said: str) -> list[Any]:
        [asked] = json.loads(said)
        return [
            Says("Hm."),
            Takes(asked["seconds"]),
            Delivers({"text": str(int(asked["square"]))}),
            COMPLETED,
        ]

    with agent(work=work) as remote:
        yield remote
