"""`cg agent`: join as an agent, look at agents, and manage them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cgworker.cli.command import command, group
from cgworker.cli.commands.agent import credential, publish_offers, register
from cgworker.cli.commands.profile import check_can_keep, keep_credential
from cgworker.cli.connect import admin_url, as_actor, as_reader, authorities, kernel_url
from cgworker.cli.envelope import tell_cut
from cgworker.cli.options import (
    AdminBaseUrl,
    AfterLedgerSeq,
    AgentId,
    BaseUrl,
    CaFile,
    CallerFlags,
    ConfigPath,
    FollowSeconds,
    MaybeRequestedBy,
    PageLimit,
    ProjectId,
    ServerFlags,
)
from cgworker.cli.problems import reset_code
from cgworker.cli.results import AgentResult, DrainedAgent, JoinedAgent, ResumedAgent
from cgworker.client import AdmissionClient
from cgworker.errors import KernelRefused, UsageError
from cgworker.profiles import ConfigFile, non_blank
from cgworker.wire.converter import Absent
from cgworker.wire.ledger import FeedPage
from cgworker.wire.refs import AgentRef

app: typer.Typer = group("Join as an agent, look at agents, and manage them.")
app.add_typer(credential.app, name="credential")
app.add_typer(register.app)
app.add_typer(publish_offers.app)


@command(app, "join")
async def join(
    server_url: Annotated[
        str | None, typer.Argument(metavar="[SERVER_URL]", help="Where kernel and admission service are.")
    ] = None,
    join_code: Annotated[
        str | None, typer.Argument(metavar="[JOIN_CODE]", help="The invite's code (cgjoin_...).")
    ] = None,
    join_code_flag: Annotated[
        str | None, typer.Option("--join-code", metavar="CODE", help="The same.")
    ] = None,
    base_url: BaseUrl = None,
    admin_base_url: AdminBaseUrl = None,
    ca_file: CaFile = None,
    config: ConfigPath = None,
) -> JoinedAgent:
    """Become an agent by an invite: its token and a profile are kept on this machine, and so is --ca-file."""
    code = _one_code(join_code, join_code_flag)
    config_file = ConfigFile.locate(config)
    check_can_keep(config_file)
    kernel_address = non_blank(server_url) or kernel_url(base_url, config)
    admin_address = non_blank(server_url) or admin_url(admin_base_url, base_url, config_file.read())
    trusted = authorities(ca_file, config_file.read())
    async with AdmissionClient(admin_address, ca_file=trusted) as admission:
        try:
            joined = await admission.redeem(code)
        except KernelRefused as refused:
            raise reset_code(refused, "join_failed") from refused
    if not isinstance(joined.kernel_base_url, Absent):
        kernel_address = non_blank(base_url) or joined.kernel_base_url
    profile = keep_credential(config_file, joined, joined.invite.display_name)
    found = {"base_url": kernel_address, "admin_base_url": admin_address}
    if trusted is not None:
        found["ca_file"] = str(_absolute(trusted))
    config_file.update(lambda content: content.update(found))
    return JoinedAgent(
        profile=profile.name,
        project_id=profile.project_id,
        agent_id=profile.agent_id,
        base_url=kernel_address,
        admin_base_url=admin_address,
        credential_id=joined.profile.credential_id,
    )


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()


def _one_code(positional: str | None, flag: str | None) -> str:
    positional, flag = non_blank(positional), non_blank(flag)
    if positional and flag and positional != flag:
        raise UsageError("join code positional value conflicts with --join-code")
    code = positional or flag
    if code is None:
        raise UsageError("cg agent join requires a join code")
    return code


@command(app, "get")
async def get(
    server: ServerFlags, caller: CallerFlags, project_id: ProjectId, agent_id: AgentId
) -> AgentResult:
    """Show an agent as it stands."""
    async with as_reader(server, caller) as kernel:
        snapshot = await kernel.agents.get(AgentRef(project_id=project_id, agent_id=agent_id))
    return AgentResult(
        project_id=project_id,
        agent_id=agent_id,
        role=snapshot.role,
        description=snapshot.description,
        enabled=snapshot.enabled,
        accepts_work=snapshot.accepts_work,
        snapshot=snapshot,
    )


@command(app, "drain")
async def drain(
    server: ServerFlags, project_id: ProjectId, agent_id: AgentId, requested_by: MaybeRequestedBy = None
) -> DrainedAgent:
    """Let an agent accept no more work; turns already queued wait."""
    agent, actor = _refs(project_id, agent_id, requested_by)
    async with as_actor(server, actor) as kernel:
        await kernel.agents.drain(agent, requested_by=actor)
        snapshot = await kernel.agents.get(agent)
    return DrainedAgent(
        project_id=project_id,
        agent_id=agent_id,
        accepts_work=snapshot.accepts_work,
        requested_by=actor.agent_id,
        snapshot=snapshot,
    )


@command(app, "resume")
async def resume(
    server: ServerFlags, project_id: ProjectId, agent_id: AgentId, requested_by: MaybeRequestedBy = None
) -> ResumedAgent:
    """Let an agent accept work again."""
    agent, actor = _refs(project_id, agent_id, requested_by)
    async with as_actor(server, actor) as kernel:
        await kernel.agents.resume(agent, requested_by=actor)
        snapshot = await kernel.agents.get(agent)
    return ResumedAgent(
        project_id=project_id,
        agent_id=agent_id,
        accepts_work=snapshot.accepts_work,
        requested_by=actor.agent_id,
        snapshot=snapshot,
    )


@command(app, "feed")
async def feed(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProjectId,
    agent_id: AgentId,
    after_ledger_seq: AfterLedgerSeq = 0,
    limit: PageLimit = 100,
    wait_seconds: FollowSeconds = 0,
) -> FeedPage:
    """Show what happened to an agent and to the turns given to it."""
    agent = AgentRef(project_id=project_id, agent_id=agent_id)
    async with as_reader(server, caller) as kernel:
        page, has_more = await kernel.agents.feed_page(
            agent, after_ledger_seq=after_ledger_seq, limit=limit, wait_seconds=wait_seconds
        )
    after = page.next_after_ledger_seq
    tell_cut(len(page.items), limit, has_more, flag="--after-ledger-seq", after=after)
    return page


def _refs(project_id: str, agent_id: str, requested_by: str | None) -> tuple[AgentRef, AgentRef]:
    """The agent, and who asks: the agent itself if nobody else is named."""
    return (
        AgentRef(project_id=project_id, agent_id=agent_id),
        AgentRef(project_id=project_id, agent_id=non_blank(requested_by) or agent_id),
    )
