"""`cg provision spawn`: ask a provisioner for an agent."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.anchors import anchors
from cgworker.cli.connect import as_actor
from cgworker.cli.options import DispatchKey, Flag, ProjectId, RequestedBy, RequestId, ServerFlags
from cgworker.cli.results import SpawnTurn
from cgworker.wire.refs import AgentRef
from cgworker.wire.turns import Dispatch, RootRequest

_SPAWN_KIND = "turn.provision.agent.spawn.v1"


async def spawn(
    server: ServerFlags,
    project_id: ProjectId,
    requested_by: RequestedBy,
    provisioner_agent: Annotated[
        str, Flag("--provisioner-agent", metavar="AGENT", help="The agent that provides agents.")
    ],
    role: Annotated[str, Flag("--role", metavar="ROLE", help="What the new agent is for.")],
    request_id: RequestId = None,
    dispatch_key: DispatchKey = None,
) -> SpawnTurn:
    """Dispatch a turn that asks for an agent with a role."""
    request_id, dispatch_key = anchors("cg provision spawn", request_id, dispatch_key)
    actor = AgentRef(project_id=project_id, agent_id=requested_by)
    work = Dispatch(
        requested_by=actor,
        target_agent=AgentRef(project_id=project_id, agent_id=provisioner_agent),
        input={"task": "provision", "agent": {"role": role}},
        turn_kind=_SPAWN_KIND,
        dispatch_key=dispatch_key,
        authority=RootRequest(request_id=request_id),
    )
    async with as_actor(server, actor) as kernel:
        turn = await kernel.turns.dispatch(work)
    return SpawnTurn(
        project_id=turn.project_id,
        turn_id=turn.turn_id,
        agent_id=provisioner_agent,
        request_id=request_id,
        dispatch_key=dispatch_key,
        turn_kind=_SPAWN_KIND,
        requested_role=role,
    )
