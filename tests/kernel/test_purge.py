"""Purging: what is long over goes, with all it left; what is open or young stays (difference 14)."""

from __future__ import annotations

import asyncio
import io
import re

import pytest
from attrs import evolve

from cgworker.errors import KernelOverloaded
from cgworker.kernel.maintenance import Maintenance
from cgworker.kernel.store.credentials import revoke_credential
from cgworker.kernel.store.moves import close_project
from cgworker.kernel.store.project_copy import export_project
from cgworker.kernel.store.purge import Purged, count_purgeable, purge
from cgworker.kernel.store.retention import Position
from tests.kernel.project import Agent, Project

_DAY_SECONDS = 86400.0

AGE_TURN = """
update cg_turns set closed_at = now() - interval '2 days'
where project_id = $1 and turn_number = $2 and state = 'closed'
"""

AGE_CREDENTIALS = """
update cg_credentials set revoked_at = now() - interval '2 days'
where project_id = $1 and status = 'revoked'
"""

COUNT_LEFT = """
select
    (select count(*) from cg_records where project_id = $1 and turn_number = $2)
    + (select count(*) from cg_ledger where project_id = $1 and turn_number = $2)
    + (select count(*) from cg_spawns s join cg_turns using (project_id, spawn_key)
       where project_id = $1 and turn_number = $2)
"""


async def purged(project: Project) -> Purged:
    return await purge(project.kernel.database, project.id, _DAY_SECONDS)


async def left_of(project: Project, turn_id: str) -> int:
    number = int(turn_id.removeprefix("T-"))
    left: int = await project.kernel.database.fetchval(COUNT_LEFT, project.id, number)
    return left


async def closed_turn(project: Project, requester: Agent, worker: Agent, key: str, *, old: bool) -> str:
    turn_id = await requester.dispatch(worker, key)
    await worker.finish(await worker.claim(), final_payload={"n": 1})
    if old:
        number = int(turn_id.removeprefix("T-"))
        await project.kernel.database.execute(AGE_TURN, project.id, number)
    return turn_id


async def test_old_closed_turns_go_with_all_they_left(project: Project) -> None:
    """The turn, its records, its events and its key are gone; its dispatch key makes a new turn."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    old = await closed_turn(project, requester, worker, "k", old=True)
    foretold = await count_purgeable(project.kernel.database, project.id, _DAY_SECONDS)
    counted = await purged(project)
    assert foretold == counted
    assert (counted.turn_count, counted.record_count, counted.event_count) == (1, 2, 5)
    assert (await requester.ask("GET", f"turns/{old}")).status_code == 404
    assert await left_of(project, old) == 0
    assert await requester.dispatch(worker, "k") != old


async def test_young_and_open_turns_stay(project: Project) -> None:
    """Neither age nor an end alone is enough, whatever stands before them."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    await closed_turn(project, requester, worker, "old", old=True)
    young = await closed_turn(project, requester, worker, "young", old=False)
    queued = await requester.dispatch(worker, "queued")
    assert (await purged(project)).turn_count == 1
    for turn_id in (young, queued):
        assert (await requester.get(f"turns/{turn_id}"))["turn"]["turn_id"] == turn_id
    assert await left_of(project, young) > 0


async def test_a_feed_goes_on_after_the_gap(project: Project) -> None:
    """Who reads on from where he was misses nothing; who begins anew begins after the gap."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    await closed_turn(project, requester, worker, "old", old=True)
    read_to = (await requester.get("projection/feed"))["next_after_ledger_seq"]
    await purged(project)
    young = await requester.dispatch(worker, "young")
    events = (await requester.get("projection/feed", after_ledger_seq=read_to))["items"]
    assert {event["subject_id"] for event in events} == {young}
    from_the_start = (await requester.get("projection/feed"))["items"]
    assert [event["ledger_seq"] for event in from_the_start if event["subject_kind"] == "turn"] == [
        event["ledger_seq"] for event in events
    ]


async def test_revoked_credentials_of_that_age_go_and_others_stay(project: Project) -> None:
    """A credential that works is never removed."""
    agent = await project.agent("agent")
    other = await project.agent("other")
    database = project.kernel.database
    credential_id = other.credential.removeprefix("cgac_").split(".")[0]
    await revoke_credential(database, other.ref, credential_id)
    assert (await purged(project)).credential_count == 0
    await database.execute(AGE_CREDENTIALS, project.id)
    assert (await purged(project)).credential_count == 1
    assert (await agent.get("agents/agent"))["agent"]["agent_id"] == "agent"


async def test_another_project_is_not_touched(project: Project) -> None:
    """A purge is of one project."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    turn_id = await closed_turn(project, requester, worker, "k", old=True)
    elsewhere = Project(project.kernel, project.client)
    assert (await purged(elsewhere)).turn_count == 0
    assert (await requester.ask("GET", f"turns/{turn_id}")).status_code == 200


# ---------------------------------------------------------------- by itself


def keeping(project: Project, seconds: float | None) -> Maintenance:
    """The maintenance of a kernel that keeps what is younger."""
    kernel = project.kernel
    config = evolve(kernel.config, retention_seconds=seconds)
    return Maintenance(config, kernel.database, kernel.notifier, kernel.metrics)


async def test_a_kernel_removes_by_itself_what_is_older_than_it_keeps(project: Project) -> None:
    """All that a purge would remove, of all projects, and nothing that is young or open (difference 36)."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    old = [await closed_turn(project, requester, worker, f"k{n}", old=True) for n in range(3)]
    young = await closed_turn(project, requester, worker, "young", old=False)
    waiting = await requester.dispatch(worker)
    maintenance = keeping(project, _DAY_SECONDS)
    await maintenance.tidy()
    await maintenance.remove_old()
    for turn_id in old:
        assert (await requester.ask("GET", f"turns/{turn_id}")).status_code == 404
        assert await left_of(project, turn_id) == 0
    for turn_id in (young, waiting):
        assert (await requester.ask("GET", f"turns/{turn_id}")).status_code == 200
        assert await left_of(project, turn_id) > 2
    assert await purged(project) == Purged()


async def test_a_kernel_removes_nothing_unless_it_is_told_to(project: Project) -> None:
    """Retention is off by default."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    old = await closed_turn(project, requester, worker, "k", old=True)
    assert project.kernel.config.retention_seconds is None
    await keeping(project, None).remove_old()
    assert (await requester.ask("GET", f"turns/{old}")).status_code == 200


async def test_the_walk_over_all_turns_begins_anew_at_its_end(project: Project) -> None:
    """What grows old later is found by a later walk, in whatever small steps."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    maintenance = keeping(project, _DAY_SECONDS)
    turns = [await closed_turn(project, requester, worker, f"k{n}", old=False) for n in range(3)]
    for turn_id in reversed(turns):
        await project.kernel.database.execute(AGE_TURN, project.id, int(turn_id.removeprefix("T-")))
        for _ in range(20):
            await maintenance.remove_old()
        assert (await requester.ask("GET", f"turns/{turn_id}")).status_code == 404


async def test_a_project_that_is_closed_during_the_walk_keeps_no_other_waiting(project: Project) -> None:
    """The walk goes on behind it, also if it was in its midst; what is closed stays as it is."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    turns = [await closed_turn(project, requester, worker, f"k{n}", old=True) for n in range(2)]
    behind = Project(project.kernel, project.client, f"q-{project.id}")
    elsewhere = await behind.agent("requester"), await behind.agent("worker")
    old = await closed_turn(behind, *elsewhere, "k", old=True)
    maintenance = keeping(project, _DAY_SECONDS)
    await maintenance.tidy()
    maintenance._kept_from = Position(project.id, 1)  # noqa: SLF001  # the walk has come so far
    await close_project(project.kernel.database, project.id)
    with pytest.raises(KernelOverloaded):
        await maintenance.remove_old()
    await maintenance.remove_old()
    assert (await elsewhere[0].ask("GET", f"turns/{old}")).status_code == 404
    assert (await requester.ask("GET", f"turns/{turns[1]}")).status_code == 200


async def test_readers_of_a_feed_and_an_export_meet_a_purge(project: Project) -> None:
    """A reader gets what is left, each event once and in order; an export holds all that stays."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    for n in range(30):
        await closed_turn(project, requester, worker, f"k{n}", old=n % 3 > 0)
    young = {f"T-{n + 1}" for n in range(0, 30, 3)}

    async def read() -> list[int]:
        seen, page = [0], None
        while page is None or page["items"]:
            page = await requester.get("projection/feed", after_ledger_seq=seen[-1], limit=7)
            seen += [event["ledger_seq"] for event in page["items"]]
        return seen

    async def export() -> set[str]:
        file = io.BytesIO()
        await export_project(project.kernel.database, project.id, file)
        return set(re.findall(r"\bT-\d+", file.getvalue().decode()))

    read_before, _, exported = await asyncio.gather(read(), purged(project), export())
    assert read_before == sorted(set(read_before))
    assert exported >= young
    assert await export() == young
