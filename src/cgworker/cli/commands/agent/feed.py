"""`cg agent feed`: the ledger's events about an agent and its turns."""

from __future__ import annotations

from cgworker.cli.feeds import read_feed
from cgworker.cli.identity import project_of
from cgworker.cli.options import (
    AfterLedgerSeq,
    CallerFlags,
    FollowSeconds,
    PageLimit,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.cli.subject_flags import AgentFlags
from cgworker.wire.ledger import FeedPage
from cgworker.wire.refs import AgentRef


async def feed(
    server: ServerFlags,
    caller: CallerFlags,
    agent_flags: AgentFlags,
    project_id: ProfilesProjectId = None,
    after_ledger_seq: AfterLedgerSeq = 0,
    limit: PageLimit = 100,
    wait_seconds: FollowSeconds = 0,
) -> FeedPage:
    """Show the events of an agent and of its turns."""
    agent = AgentRef(project_id=project_of(server, project_id, caller), agent_id=agent_flags.id)
    return await read_feed(
        server,
        caller,
        agent,
        limit,
        lambda kernel: kernel.agents.feed_page(
            agent, after_ledger_seq=after_ledger_seq, limit=limit, wait_seconds=wait_seconds
        ),
    )
