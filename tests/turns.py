"""A turn for handlers under test; nobody is behind its kernel."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio

from cgworker.client import KernelClient
from cgworker.lease import Lease, monotonic
from cgworker.turn import Turn
from cgworker.wire.converter import structure_answer
from cgworker.wire.records import TurnContext
from cgworker.wire.refs import AgentRef, ClaimToken

AGENT = AgentRef(project_id="cg-demo", agent_id="worker-1")
CLAIM_TOKEN = "claim-token-0123456789"
CREDENTIAL = "cgac_cred_x.credential-secret-0123456789"


def context_of(input: Any, *, turn_id: str = "T-1", **turn: Any) -> TurnContext:
    """A context as a kernel gives it, with the input as its only record."""
    ref = {"project_id": AGENT.project_id, "turn_id": turn_id}
    now = "2026-01-01T00:00:00+00:00"
    box = {"project_id": AGENT.project_id, "cardbox_id": "box-1"}
    content = {"text": input} if isinstance(input, str) else {"data": input}
    return structure_answer(
        TurnContext,
        {
            "turn": {
                "turn": ref,
                "target_agent": {"project_id": AGENT.project_id, "agent_id": AGENT.agent_id},
                "cause": {"kind": "external_request", "id": "r"},
                "state": "running",
                "stop_requested": False,
                "spawn_key": "k",
                "created_at": now,
                "updated_at": now,
                **turn,
            },
            "semantic_items": [
                {
                    "record": {
                        "ref": {"project_id": AGENT.project_id, "record_id": "record_1"},
                        "turn": ref,
                        "turn_seq": 1,
                        "record_role": "bootstrap",
                        "cardbox_ref": box,
                        "created_at": now,
                    },
                    "content": {
                        "ref": box,
                        "box": {"card_ids": ["card-1"], "box_id": "box-1"},
                        "cards": [{"content": content, "metadata": {}, "card_id": "card-1"}],
                    },
                }
            ],
        },
    )


async def renewed_late(turn: Turn) -> None:
    """Stand still until the guard has signalled the turn's command, then renew the lease after all."""
    await anyio.sleep(0.3)  # the command has started
    lease = turn.lease
    time.sleep(max(0.0, lease.ends_at - lease.margin_seconds / 4 - monotonic()))  # noqa: ASYNC251  # as a blocked loop
    now = datetime(2026, 1, 1, tzinfo=UTC)
    lease.extend(monotonic(), server_time=now, expires_at=now + timedelta(seconds=30))


def make_turn(input: Any = None, *, seconds: float = 30.0, **turn: Any) -> Turn:
    """A turn whose lease lasts so many seconds."""
    context = context_of(input, **turn)
    claim = ClaimToken(
        project_id=AGENT.project_id,
        turn_id=context.turn.turn.turn_id,
        agent_id=AGENT.agent_id,
        token=CLAIM_TOKEN,
        expires_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return Turn(
        kernel=KernelClient("http://127.0.0.1:9", agent=AGENT, token=CREDENTIAL),
        lease=Lease(claim, monotonic(), seconds),
        context=context,
    )
