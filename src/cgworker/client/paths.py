"""Paths of the protocol. Ids are percent-encoded here and nowhere else."""

from __future__ import annotations

from urllib.parse import quote

from cgworker.wire.refs import AgentRef, TurnRef


def segment(text: str) -> str:
    """Encode one segment of a path. A segment of only dots is encoded too, since it would lead elsewhere.

    Args:
        text: the segment, such as an id.
    """
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


def project_path(project_id: str, rest: str) -> str:
    """Return `/v3r1/projects/{project_id}` followed by `rest`.

    Args:
        project_id: the project.
        rest: the rest of the path, encoded already.
    """
    return f"/v3r1/projects/{segment(project_id)}{rest}"


def agent_path(agent: AgentRef, rest: str = "", *, under: str = "") -> str:
    """Return the path of an agent.

    Args:
        agent: the agent.
        rest: the rest of the path, encoded already.
        under: `/management` for the routes that manage agents.
    """
    return project_path(agent.project_id, f"{under}/agents/{segment(agent.agent_id)}{rest}")


def turn_path(turn: TurnRef, rest: str = "", *, under: str = "") -> str:
    """Return the path of a turn.

    Args:
        turn: the turn.
        rest: the rest of the path, encoded already.
        under: `/management` for the routes that manage turns.
    """
    return project_path(turn.project_id, f"{under}/turns/{segment(turn.turn_id)}{rest}")
