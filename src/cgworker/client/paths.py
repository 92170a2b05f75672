"""Paths of the protocol; ids are percent-encoded here and nowhere else."""

from __future__ import annotations

from urllib.parse import quote

from cgworker.wire.refs import AgentRef, TurnRef


def project_path(project_id: str, rest: str) -> str:
    """`/v3r1/projects/{project_id}` + rest."""
    return f"/v3r1/projects/{quote(project_id, safe='')}{rest}"


def agent_path(agent: AgentRef, rest: str = "", *, under: str = "") -> str:
    """The agent's path; `under` is `/management` for what is managed."""
    return project_path(agent.project_id, f"{under}/agents/{quote(agent.agent_id, safe='')}{rest}")


def turn_path(turn: TurnRef, rest: str = "", *, under: str = "") -> str:
    """The turn's path; `under` is `/management` for what is managed."""
    return project_path(turn.project_id, f"{under}/turns/{quote(turn.turn_id, safe='')}{rest}")
