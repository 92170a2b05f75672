"""Seeding: a project, its admin-service, and the secrets of its operator (admission 9)."""

from __future__ import annotations

import asyncio

import pytest

from cgworker.errors import ConflictError, InvalidRequest, NotFoundError
from cgworker.kernel.app import Kernel
from cgworker.kernel.store.seed import (
    is_admin_credential,
    issue_admin_credential,
    project_status,
    revoke_admin_credential,
    seed_project,
)
from cgworker.wire.refs import AgentRef
from tests.kernel.project import Agent, Project


async def test_a_seeded_project_has_an_admin_service_as_written(kernel: Kernel, project: Project) -> None:
    """Eight fields, and no event in the ledger."""
    status = await seed_project(kernel.database, project.id)
    agent = status.admin_service
    assert (status.seeded, status.matches_bootstrap_spec, status.mismatch_fields) == (True, True, ())
    assert agent is not None
    assert (agent.role, agent.accepts_work, agent.capacity) == ("service.admin.v1", False, 1)
    assert agent.grants == (
        "agent.credential.issue.any",
        "agent.credential.revoke.any",
        "agent.registration.birth",
    )
    events = "select count(*) from cg_ledger where project_id = $1"
    assert await kernel.database.fetchval(events, project.id) == 0


async def test_seeding_at_once_and_again_changes_nothing(kernel: Kernel, project: Project) -> None:
    """Two kernels that start together both seed."""
    seeded = await asyncio.gather(*(seed_project(kernel.database, project.id) for _ in range(8)))
    assert len({status.admin_service.created_at for status in seeded if status.admin_service}) == 1


async def test_a_project_without_a_seed_says_so(kernel: Kernel, project: Project) -> None:
    """Its status can be read; being ready is refused with a code of its own."""
    status = await project_status(kernel.database, project.id)
    assert (status.seeded, status.matches_bootstrap_spec) == (False, False)
    with pytest.raises(NotFoundError) as refused:
        status.require_ready()
    assert refused.value.code == "project_not_seeded"


async def test_another_admin_service_is_not_taken_over(kernel: Kernel, project: Project) -> None:
    """The fields that differ are named, in their order."""
    await project.agent("admin-service", description="mine", public_metadata={"a": 1})
    with pytest.raises(ConflictError) as refused:
        await seed_project(kernel.database, project.id)
    fields = "role, description, accepts_work, capabilities, grants, public_metadata"
    assert refused.value.code == "project_bootstrap_conflict"
    assert refused.value.message == f"project admin-service bootstrap conflict: {fields}"


@pytest.mark.parametrize("project_id", ["a/b", ".", "..", "x" * 201, "a\nb", "世界", "a "])
async def test_a_project_that_no_path_or_header_carries_is_not_made(kernel: Kernel, project_id: str) -> None:
    """Differences 11 and 38."""
    with pytest.raises(InvalidRequest):
        await seed_project(kernel.database, project_id)


async def test_the_credential_of_admin_service_can_be_told_from_any_other(
    kernel: Kernel, project: Project
) -> None:
    """It works until it is revoked; nothing else counts as it."""
    await seed_project(kernel.database, project.id)
    token = await issue_admin_credential(kernel.database, project.id)
    admin = Agent(project, AgentRef(project_id=project.id, agent_id="admin-service"), token)
    assert (await admin.ask("GET", "agents/admin-service")).status_code == 200
    assert await is_admin_credential(kernel.database, project.id, token)
    other = await project.agent("other")
    for wrong in (other.credential, token + "x", "cgac_x", "", "cgac_a.b", "\0"):
        assert not await is_admin_credential(kernel.database, project.id, wrong)
    await revoke_admin_credential(kernel.database, project.id, other.credential)
    assert (await other.ask("GET", "agents/other")).status_code == 200
    await revoke_admin_credential(kernel.database, project.id, token)
    assert not await is_admin_credential(kernel.database, project.id, token)
