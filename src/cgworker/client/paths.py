"""Paths of the protocol; ids are percent-encoded here and nowhere else."""

from __future__ import annotations

from urllib.parse import quote

from cgworker.wire.refs import AgentRef, TurnRef


def segment(text: str) -> str:
    """One segment of a path; dots alone are encoded as well, since they would lead elsewhere."""
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


def project_path(project_id: str, rest: str) -> str:
    """`/v3r1/projects/{project_id}` + rest."""
    return f"/v3r1/projects/{segment(project_id)}{rest}"


def agent_path(agent: AgentRef, rest: str = "", *, under: str = "") -> str:
    """The agent's path; `under` is `/management` for what is managed."""
    return project_path(agent.project_id, f"{under}/agents/{segment(agent.agent_id)}{rest}")


def turn_path(turn: TurnRef, rest: str = "", *, under: str = "") -> str:
    """The turn's path; `under` is `/management` for what is managed."""
    return project_path(turn.project_id, f"{under}/turns/{segment(turn.turn_id)}{rest}")
