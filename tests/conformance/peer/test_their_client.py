"""The reference's client library at our kernel, served by `cg local run` and `cg service run`."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from tests.conformance.peer.site import PROJECT, SHORT_LEASE_SECONDS, Site
from tests.conformance.peer.software import HERE, reference_python

Play = Callable[..., Awaitable[Any]]


@pytest.fixture
def play(our_site: Site) -> Play:
    """Plays a story of driver.py with two agents of its own, and returns what it saw."""

    async def play(story: str, *, url: str = our_site.url) -> Any:
        given = {
            "base_url": url,
            "project_id": PROJECT,
            "desk": await _agent(our_site, "desk"),
            "asker": await _agent(our_site, "asker"),
            "operator_token": our_site.operator_token,
            "lease_seconds": SHORT_LEASE_SECONDS,
        }
        done = await anyio.run_process(
            [reference_python(), str(HERE / "driver.py"), story],
            input=json.dumps(given).encode(),
            check=False,
            stderr=subprocess.PIPE,
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    return play


async def _agent(site: Site, name: str) -> dict[str, str]:
    agent_id = f"{name}-{secrets.token_hex(3)}"
    return {"agent_id": agent_id, "token": await site.register(agent_id)}


async def test_a_turn_goes_through_every_call_under_a_claim(play: Play) -> None:
    """Dispatch, claim with context, renew, append, a child, suspend, resume, finish; and their feed."""
    assert await play("one_turn") == {
        "same_turn": True,
        "context_turn": True,
        "interval": 15.0,
        "suspended": "suspended",
        "outcome": "succeeded",
        "payload": {"n": 2},
        "roles": ["bootstrap", "progress", "deliverable"],
        "appended": True,
        "children": True,
        "events": [
            "turn.spawned",
            "turn.bootstrap_recorded",
            "turn.claimed",
            "turn.progress_appended",
            "turn.spawned",
            "turn.suspended",
            "turn.resumed",
            "turn.claimed",
            "turn.progress_appended",
            "turn.finished",
        ],
        "nothing_left": True,
    }


async def test_agents_are_managed(play: Play) -> None:
    """Presence, metadata, drain, credentials, registration, stop and reports."""
    assert await play("management") == {
        "accepts_work": False,
        "metadata": {"ui": {"label": "Desk"}},
        "seen": True,
        "resumed": True,
        "unknown": None,
        "status": "revoked",
        "stop_requested": True,
        "reports": ["submitted", "already_submitted"],
        "same_report": True,
        "final": "done",
        "events": [
            "agent.registered",
            "agent.drained",
            "agent.resumed",
            "turn.spawned",
            "turn.bootstrap_recorded",
            "turn.stop_requested",
            "turn.spawned",
            "turn.progress_appended",
            "turn.progress_appended",
            "turn.finished",
        ],
    }


async def test_refusals_have_the_statuses_and_names_it_knows(play: Play) -> None:
    """Replays, states, rights, identities, fences."""
    assert await play("refusals") == {
        "other payload": "409 ConflictError",
        "resume running": "409 ConflictError",
        "stop of another's": "409 FencingError",
        "claim of another's": "403 ForbiddenError",
        "another's claim": "403 ForbiddenError",
        "renew closed": "409 FencingError",
    }


async def test_its_polling_worker_comes_to_each_of_its_results(play: Play) -> None:
    """Finished, suspended, retried, safely stopped, stopped, idle."""
    assert await play("polling_worker") == {
        "finish": ["finished", "closed"],
        "suspend": ["suspended", "suspended"],
        "retry": ["retry", "suspended"],
        "nothing": ["safe_stop", "suspended"],
        "raise": ["safe_stop", "suspended"],
        "stopped": ["stopped", "stopped"],
        "idle": ["idle"],
    }


async def test_its_renewer_holds_a_claim_and_notices_its_loss(play: Play, our_site: Site) -> None:
    """Beyond the lease's length; a refused renewal is final."""
    seen = await play("renewer", url=our_site.hasty_url)
    assert seen == {"state_after_its_lease": "running", "lost": "ClaimLeaseLostError"}


async def test_its_projection_client_reads_every_page(play: Play) -> None:
    """Agents, offers, turns, feed and lineage."""
    assert await play("projections") == {
        "agents": True,
        "offers": ["turn.conversation.v1"],
        "turns": True,
        "in_feed": True,
        "goes_on": True,
        "itself": True,
    }
