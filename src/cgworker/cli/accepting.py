"""`cg agent drain` and `cg agent resume`: set whether an agent accepts work, and show it as it is then."""

from __future__ import annotations

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import project_of
from cgworker.cli.options import ServerFlags
from cgworker.profiles import non_blank
from cgworker.wire.agents import AgentSnapshot
from cgworker.wire.refs import AgentRef


async def set_accepts_work(
    server: ServerFlags,
    agent_id: str,
    project_id: str | None,
    requested_by: str | None,
    *,
    accepts_work: bool,
) -> tuple[AgentRef, AgentSnapshot]:
    """Set whether an agent accepts work; return who asked, and the agent as it is then.

    Args:
        server: the flags.
        agent_id: the agent.
        project_id: its project; None is the profile's.
        requested_by: the agent that asks; None is the agent itself.
        accepts_work: whether it accepts work from now on.
    """
    agent = AgentRef(project_id=project_of(server, project_id), agent_id=agent_id)
    actor = AgentRef(project_id=agent.project_id, agent_id=non_blank(requested_by) or agent.agent_id)
    async with as_actor(server, actor) as kernel:
        if accepts_work:
            await kernel.agents.resume(agent, requested_by=actor)
        else:
            await kernel.agents.drain(agent, requested_by=actor)
        return actor, await kernel.agents.get(agent)
