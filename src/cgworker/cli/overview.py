"""Read what goes on in a project: its agents, its turns by state, its newest turns and open questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from attrs import frozen

from cgworker.client import KernelClient
from cgworker.lifecycle import TurnState
from cgworker.wire.projections import AgentEntry, TurnEntry

_MAX_TURNS = 500  # the largest page of a projection
_NEWEST = 100


@frozen(kw_only=True)
class Overview:
    """A project at a moment.

    Attributes:
        project_id: the project.
        open_turns: how many turns are in each state but closed, at most 500 each, by agent.
        agents: the agents that take work.
        newest: the newest turns.
    """

    project_id: str
    open_turns: Mapping[str, Mapping[str, int]]
    agents: tuple[AgentEntry, ...]
    newest: tuple[TurnEntry, ...]


async def read_overview(kernel: KernelClient, project_id: str) -> Overview:
    """Read a project.

    Args:
        kernel: makes the calls under any agent of the project.
        project_id: the project.

    Raises:
        KernelRefused, KernelTrouble: the kernel did not answer a call.
    """
    open_turns = {}
    for state in (TurnState.QUEUED, TurnState.RUNNING, TurnState.SUSPENDED):
        page = await kernel.projections.turns(project_id, state=state.value, limit=_MAX_TURNS)
        open_turns[state.value] = dict(Counter(turn.target_agent_id for turn in page.items))
    agents = await kernel.projections.agents(project_id, accepts_work_only=True)
    newest = await kernel.projections.turns(project_id, limit=_NEWEST)
    return Overview(
        project_id=project_id,
        open_turns=open_turns,
        agents=tuple(agents.items),
        newest=tuple(newest.items),
    )
