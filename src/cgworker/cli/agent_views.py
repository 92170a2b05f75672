"""How agents, offers, credentials and invites look on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType

from cgworker.cli.picture import picture
from cgworker.cli.rendering import (
    Unbroken,
    coloured,
    fields,
    local_time,
    panel,
    plain_text,
    table,
    with_diagnostics,
    words,
    yes_or_no,
)
from cgworker.cli.results import (
    AgentResult,
    DrainedAgent,
    InviteResult,
    JoinedAgent,
    ResumedAgent,
)
from cgworker.wire.admission import InviteList
from cgworker.wire.agents import AgentSnapshot
from cgworker.wire.credentials import Credentials
from cgworker.wire.projections import (
    AgentPage,
    OfferPage,
)


@picture.register
def _(page: AgentPage) -> RenderableType:
    agents = table(
        page.items,
        agent=lambda a: a.agent_id,
        role=lambda a: a.role or "",
        enabled=lambda a: yes_or_no(a.enabled),
        work=lambda a: yes_or_no(a.accepts_work),
        can=lambda a: "\n".join(a.capabilities),
        grants=lambda a: "\n".join(a.grants or ()),
        seen=lambda a: local_time(a.last_seen_at),
    )
    return with_diagnostics(page, agents)


@picture.register
def _(page: OfferPage) -> RenderableType:
    offers = table(
        page.items,
        agent=lambda o: o.agent_id,
        kind=lambda o: o.turn_kind,
        purpose=lambda o: o.purpose or "",
        enabled=lambda o: yes_or_no(o.enabled),
        work=lambda o: yes_or_no(o.accepts_work),
    )
    return with_diagnostics(page, offers)


@picture.register
def _(agent: AgentSnapshot) -> RenderableType:
    facts: list[tuple[str, Any]] = [
        ("role", agent.role),
        ("description", agent.description),
        ("enabled", yes_or_no(agent.enabled)),
        ("accepts work", yes_or_no(agent.accepts_work)),
        ("capacity", agent.capacity),
        ("can", ", ".join(agent.capabilities)),
        ("grants", ", ".join(agent.grants)),
        ("born", agent.created_at),
        ("last seen", agent.last_seen_at),
    ]
    return panel(fields((name, value) for name, value in facts if value not in (None, "")), str(agent.agent))


@picture.register(AgentResult | DrainedAgent | ResumedAgent)
def _(agent: AgentResult | DrainedAgent | ResumedAgent) -> RenderableType:
    return picture(agent.snapshot)


@picture.register
def _(credentials: Credentials) -> RenderableType:
    return table(
        credentials.credentials,
        credential=lambda c: c.credential_id,
        status=lambda c: coloured(c.status),
        issued=lambda c: local_time(c.created_at),
        by=lambda c: c.issued_by_agent_id or "",
        used=lambda c: local_time(c.last_used_at),
        expires=lambda c: local_time(c.expires_at),
        revoked=lambda c: local_time(c.revoked_at),
    )


@picture.register
def _(invites: InviteList) -> RenderableType:
    return table(
        invites.invites,
        invite=lambda i: i.invite_id,
        agent=lambda i: i.agent_id,
        uses=lambda i: f"{i.use_count} of {i.max_uses}",
        expires=lambda i: local_time(i.expires_at),
        works=lambda i: yes_or_no(not i.disabled and i.use_count < i.max_uses),
    )


@picture.register
def _(invite: InviteResult) -> RenderableType:
    invited = f"{invite.agent_id} may join {invite.project_id} until {local_time(invite.invite.expires_at)}."
    return Group(
        plain_text(invited),
        plain_text("Send this, once and in private:\n"),
        Unbroken(f"  {invite.join_command}"),
    )


@picture.register
def _(joined: JoinedAgent) -> RenderableType:
    return words(
        ("✓ ", "bold green"), "this machine is now ", (joined.profile, "bold"), f" at {joined.base_url}\n",
        ("→ ", "bold"), f"cg worker loop --profile {joined.profile} --command YOUR-COMMAND",
    )  # fmt: skip
