"""`cg agent feed`: the ledger's events about an agent and its turns."""

from __future__ import annotations

from cgworker.cli.connect import as_reader
from cgworker.cli.envelope import hint_cut
from cgworker.cli.identity import project_of
from cgworker.cli.options import (
    AfterLedgerSeq,
    CallerFlags,
    FollowSeconds,
    PageLimit,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.cli.progress import SILENT_SECONDS, progress
from cgworker.cli.subject_flags import AgentFlags
from cgworker.wire.ledger import FeedPage
from cgworker.wire.refs import AgentRef


async def feed(
    server: ServerFlags,
    caller: CallerFlags,
    which: AgentFlags,
    project_id: ProfilesProjectId = None,
    after_ledger_seq: AfterLedgerSeq = 0,
    limit: PageLimit = 100,
    wait_seconds: FollowSeconds = 0,
) -> FeedPage:
    """Show the events of an agent and of its turns."""
    agent = AgentRef(project_id=project_of(server, project_id, caller), agent_id=which.id)
    about = progress(f"waiting for events of {agent.agent_id}", after_seconds=SILENT_SECONDS)
    async with as_reader(server, caller, agent.project_id) as kernel:
        with about:
            page, has_more = await kernel.agents.feed_page(
                agent, after_ledger_seq=after_ledger_seq, limit=limit, wait_seconds=wait_seconds
            )
    after = page.next_after_ledger_seq
    hint_cut(len(page.items), limit, has_more, flag="--after-ledger-seq", after=after)
    return page
