"""`cg turn questions`: the questions that suspended turns wait for."""

from __future__ import annotations

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import ActingAgent, ProfilesProjectId, ServerFlags, TargetAgent
from cgworker.cli.turn_results import OpenQuestions
from cgworker.durable.answers import open_questions


async def questions(
    server: ServerFlags,
    project_id: ProfilesProjectId = None,
    agent_id: ActingAgent = None,
    target_agent: TargetAgent = None,
) -> OpenQuestions:
    """List the questions that suspended turns wait for."""
    actor = acting_agent(server, project_id, agent_id, command_name="cg turn questions")
    async with as_actor(server, actor) as kernel:
        found = await open_questions(kernel, actor.project_id, agent_id=target_agent)
    return OpenQuestions(project_id=actor.project_id, items=found)
