"""Credentials: issued once, revoked for good, on every kernel at once (wire 6.2, difference 12)."""

from __future__ import annotations

from typing import Any

import pytest

from cgworker.kernel.app import Kernel, open_kernel
from tests.kernel.project import Agent, Project, client_of

ISSUE, REVOKE = "agent.credential.issue.any", "agent.credential.revoke.any"


@pytest.fixture
async def admin(project: Project) -> Agent:
    """An agent that may issue and revoke the credentials of others."""
    return await project.agent("admin-service", grants=(ISSUE, REVOKE))


async def issue(admin: Agent, agent: Agent, **fields: Any) -> dict[str, Any]:
    issued: dict[str, Any] = await admin.post(f"agents/{agent.ref.agent_id}/credentials:issue", fields)
    return issued


async def revoke(actor: Agent, owner: Agent, credential_id: str) -> Any:
    return await actor.ask("POST", f"agents/{owner.ref.agent_id}/credentials/{credential_id}:revoke")


def with_token(agent: Agent, token: str) -> Agent:
    return Agent(agent.project, agent.ref, token)


async def test_a_new_credential_works_beside_the_old_one(admin: Agent, project: Project) -> None:
    """Issuing takes nothing away."""
    worker = await project.agent("worker")
    issued = await issue(admin, worker)
    assert issued["token"].startswith(f"cgac_{issued['credential']['credential_id']}.")
    for agent in (worker, with_token(worker, issued["token"])):
        assert (await agent.ask("GET", "agents/worker")).status_code == 200


async def test_only_the_hash_of_a_secret_is_kept(admin: Agent, project: Project, kernel: Kernel) -> None:
    """Who reads the database cannot act as an agent."""
    worker = await project.agent("worker")
    secret = (await issue(admin, worker))["token"].partition(".")[2]
    rows = await kernel.database.fetch("select c::text as row from cg_credentials c")
    assert rows
    assert not any(secret in row["row"] for row in rows)


async def test_a_revoked_credential_is_refused_on_every_kernel_at_once(
    admin: Agent, project: Project, kernel: Kernel
) -> None:
    """No kernel remembers who was let in before."""
    worker = await project.agent("worker")
    issued = await issue(admin, worker)
    agent = with_token(worker, issued["token"])
    async with open_kernel(kernel.config, kernel.database) as other, client_of(other) as elsewhere:
        path = f"/v3r1/projects/{project.id}/agents/worker"
        assert (await elsewhere.get(path, headers=agent.headers)).status_code == 200
        assert (await revoke(admin, worker, issued["credential"]["credential_id"])).status_code == 200
        refused = await elsewhere.get(path, headers=agent.headers)
    assert refused.status_code == 403
    assert refused.json()["message"] == "agent credential status is not active: revoked"


async def test_revoking_again_keeps_the_first_instant(admin: Agent, project: Project) -> None:
    """revoked_at stays, updated_at moves."""
    worker = await project.agent("worker")
    credential_id = (await issue(admin, worker))["credential"]["credential_id"]
    first = (await revoke(admin, worker, credential_id)).json()["credential"]
    again = (await revoke(admin, worker, credential_id)).json()["credential"]
    assert first["status"] == again["status"] == "revoked"
    assert first["revoked_at"] == again["revoked_at"]
    assert first["updated_at"] < again["updated_at"]


async def test_an_agent_may_revoke_its_own_without_a_grant(project: Project) -> None:
    """And nobody else's; what does not exist is told before what is not allowed."""
    worker, other = await project.agent("worker"), await project.agent("other")
    mine = (await worker.get("agents/worker/credentials"))["credentials"][0]["credential_id"]
    refused = await revoke(other, worker, mine)
    assert (refused.status_code, refused.json()["message"]) == (409, f"caller missing grant: {REVOKE}")
    assert (await revoke(other, worker, "nope")).json()["message"] == "agent credential not found: nope"
    moved = await revoke(other, other, mine)
    assert (moved.status_code, moved.json()["message"]) == (409, "credential does not belong to path agent")
    assert (await revoke(worker, worker, mine)).status_code == 200


async def test_issuing_needs_the_grant_even_for_oneself(project: Project) -> None:
    """An unknown agent is told first."""
    worker = await project.agent("worker")
    refused = await worker.ask("POST", "agents/worker/credentials:issue", {})
    assert refused.json()["message"] == f"caller missing grant: {ISSUE}"
    unknown = await worker.ask("POST", "agents/ghost/credentials:issue", {})
    assert unknown.json()["message"] == "agent not found: ghost"


async def test_a_disabled_agent_gets_no_credential(admin: Agent, project: Project, kernel: Kernel) -> None:
    """It could not use one."""
    await project.agent("worker")
    disable = "update cg_agents set enabled = false where project_id = $1 and agent_id = 'worker'"
    await kernel.database.execute(disable, project.id)
    refused = await admin.ask("POST", "agents/worker/credentials:issue", {})
    assert (refused.status_code, refused.json()["message"]) == (409, "agent disabled: worker")


@pytest.mark.parametrize(
    "expires_at", ["2099-01-01T00:00:00", "2099-01-01t02:00:00+02:00", 4070908800, "4070908800000"]
)
async def test_an_end_may_be_spelled_in_several_ways(
    admin: Agent, project: Project, expires_at: str | int
) -> None:
    """ISO 8601, without an offset as UTC, or seconds or milliseconds since 1970."""
    worker = await project.agent("worker")
    issued = await issue(admin, worker, expires_at=expires_at)
    assert issued["credential"]["expires_at"] == "2099-01-01T00:00:00+00:00"


@pytest.mark.parametrize("expires_at", ["soon", True, {}, 1e300, 10**400, "9999-12-31T23:59:59-14:00"])
async def test_an_end_that_is_none_is_a_422(admin: Agent, project: Project, expires_at: Any) -> None:
    """The place is named."""
    await project.agent("worker")
    refused = await admin.ask("POST", "agents/worker/credentials:issue", {"expires_at": expires_at})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "expires_at"]


async def test_an_expired_credential_is_refused(admin: Agent, project: Project) -> None:
    """One may be issued expired, as the reference does; it opens nothing."""
    worker = await project.agent("worker")
    issued = await issue(admin, worker, expires_at="2001-01-01T00:00:00Z")
    refused = await with_token(worker, issued["token"]).ask("GET", "agents/worker")
    assert (refused.status_code, refused.json()["message"]) == (401, "agent credential expired")


async def test_the_list_holds_all_of_an_agent_in_order_of_birth(admin: Agent, project: Project) -> None:
    """Revoked ones too, for itself and for holders of a grant."""
    worker, other = await project.agent("worker"), await project.agent("other")
    ids = [(await issue(admin, worker))["credential"]["credential_id"] for _ in range(3)]
    await revoke(admin, worker, ids[1])
    for reader in (admin, worker):
        listed = (await reader.get("agents/worker/credentials"))["credentials"]
        assert [credential["credential_id"] for credential in listed][1:] == ids
    refused = await other.ask("GET", "agents/worker/credentials")
    assert refused.json()["message"] == f"caller missing grant: {ISSUE} or {REVOKE}"
