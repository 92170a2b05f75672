"""A project moves from one database to another, with kernels that serve both."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
from attrs import frozen

from cgworker.errors import ConflictError, KernelOverloaded, NotFoundError, UsageError
from cgworker.kernel.app import Kernel, open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store import project_file
from cgworker.kernel.store.moves import close_project, forget_project, open_project
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.project_copy import EXPORT_ROWS, Imported, export_project, import_project
from cgworker.kernel.store.project_file import TABLES
from tests.databases import a_database
from tests.kernel.parked import until, waiting
from tests.kernel.project import Agent, Project, client_of, end_lease


@pytest.fixture(scope="module")
def other_dsn(postgres: str, template: str) -> Iterator[str]:
    """Another database."""
    with a_database(postgres, template=template) as dsn:
        yield dsn


@pytest.fixture(scope="module")
async def there(other_dsn: str, config: KernelConfig) -> AsyncIterator[Kernel]:
    """A kernel on the other database."""
    async with Database.open(other_dsn) as database, open_kernel(config, database) as kernel:
        yield kernel


@frozen
class Move:
    """A project, and the database that it moves to."""

    project: Project
    there: Kernel

    async def export(self) -> io.BytesIO:
        file = io.BytesIO()
        await export_project(self.project.kernel.database, self.project.id, file)
        return file

    async def close(self) -> None:
        await close_project(self.project.kernel.database, self.project.id)

    async def take(self, file: io.BytesIO, **more: Any) -> Imported:
        return await import_project(self.there.database, file, **more)

    async def switched(self, *agents: Agent) -> list[Agent]:
        """The agents as they speak to the other kernel."""
        client = client_of(self.there)
        project = Project(self.there, client, self.project.id)
        return [Agent(project, agent.ref, agent.credential) for agent in agents]


@pytest.fixture
def move(project: Project, there: Kernel) -> Move:
    return Move(project, there)


async def rows_of(database: Database, project_id: str) -> dict[str, list[Any]]:
    """All that a database has of a project."""
    return {
        table: [tuple(row) for row in await database.fetch(statement, project_id)]
        for table, statement in EXPORT_ROWS.items()
    }


async def busy(project: Project) -> tuple[Agent, dict[str, Any]]:
    """A worker, and a claim that it holds; beside, the project has some of everything."""
    worker = await project.agent("worker", capacity=9)
    for outcome in ("succeeded", "failed"):
        await worker.dispatch(worker, input={"text": 'tab\tnew\nline \\ "quoted" \u2028 \\N', "n": 1.50})
        await worker.finish(await worker.claim(), outcome, final_payload=[10**400, 0.1, None, ""])
    await worker.dispatch(worker, serial_key="s", fairness_key="f", priority=3)
    await worker.suspend(await worker.claim(), resume_after_seconds=3600)
    await worker.dispatch(worker, delay_seconds=7200)
    held = await worker.dispatch(worker)
    claim = await worker.claim({"Idempotency-Key": "claim"})
    assert claim["turn_id"] == held
    await worker.append(claim, {"half": "done"}, {"Idempotency-Key": "append"})
    await worker.tell(held, "hurry", key="m1")
    return worker, claim


async def test_everything_arrives_as_it_was(move: Move) -> None:
    """Rows, numbers of turns and events, digits and characters; and the credential works."""
    worker, _ = await busy(move.project)
    await move.close()
    before = await rows_of(move.project.kernel.database, move.project.id)
    imported = await move.take(await move.export())
    after = await rows_of(move.there.database, move.project.id)
    assert {name for name, rows in before.items() if rows} >= {"cg_turns", "cg_ledger", "cg_idempotency_keys"}
    assert after == before
    assert imported.end.rows == {name: len(rows) for name, rows in before.items()}
    [there] = await move.switched(worker)
    assert await there.get("projection/feed") == await worker.get("projection/feed")


async def test_a_held_turn_is_finished_where_it_has_moved(move: Move) -> None:
    """The claim's token is good there, its repeat is answered, and numbers go on without a gap."""
    worker, claim = await busy(move.project)
    await move.close()
    await move.take(await move.export())
    [there] = await move.switched(worker)
    assert (await there.renew(claim)).status_code == 200
    for _ in range(2):
        assert (await there.finish(claim, final_payload="done")).json() == {"ok": True}
    last = int(claim["turn_id"].removeprefix("T-"))
    assert await there.dispatch(there) == f"T-{last + 1}"
    events = (await there.get("projection/feed", limit=500))["items"]
    assert [event["ledger_seq"] for event in events] == [*range(1, len(events) + 1)]


async def test_nothing_is_written_to_a_closed_project(move: Move) -> None:
    """Each write is answered with a 503 that says to come again; reads go on; opening it takes that back."""
    worker, claim = await busy(move.project)
    await move.close()
    before = await rows_of(move.project.kernel.database, move.project.id)
    refused = [
        await worker.ask("POST", "turns:dispatch", worker.dispatching(worker)),
        await worker.renew(claim),
        await worker.append(claim, "more"),
        await worker.finish(claim),
        await worker.suspend(claim),
        await worker.tell(claim["turn_id"], "more"),
    ]
    assert [(each.status_code, each.headers["retry-after"]) for each in refused] == [(503, "1")] * 6
    assert "being moved" in refused[0].json()["message"]
    assert (await worker.get(f"turns/{claim['turn_id']}"))["state"] == "running"
    assert len((await worker.get("projection/feed"))["items"]) > 3
    assert await rows_of(move.project.kernel.database, move.project.id) == before
    await open_project(move.project.kernel.database, move.project.id)
    assert (await worker.finish(claim)).status_code == 200


async def test_chores_leave_a_closed_project_alone(move: Move, kernel: Kernel) -> None:
    """They do their work for others meanwhile, and for it when it is open again."""
    worker, claim = await busy(move.project)
    other = await Project(kernel, move.project.client).agent("other")
    turn = await other.dispatch(other)
    await other.claim()
    await end_lease(move.project, claim["turn_id"])
    await end_lease(other.project, turn)
    database = kernel.database
    for project_id in (move.project.id, other.project.id):
        await database.execute(
            "update cg_turns set due_at = now() where project_id = $1 and due_at > now()", project_id
        )
    await move.close()
    await kernel.maintenance.reap()
    await kernel.maintenance.tidy()
    await kernel.timers.do_what_is_due()
    assert (await other.get(f"turns/{turn}"))["state"] == "queued"
    assert (await worker.get(f"turns/{claim['turn_id']}"))["state"] == "running"
    await open_project(database, move.project.id)
    await kernel.maintenance.reap()
    await kernel.timers.do_what_is_due()
    assert (await worker.get(f"turns/{claim['turn_id']}"))["state"] == "queued"


async def test_what_was_under_way_is_in_the_file(move: Move) -> None:
    """To close a project waits for the transactions that have written to it, and they are exported."""
    worker = await move.project.agent("worker", capacity=9)
    database = move.project.kernel.database
    dispatched: list[str] = []

    async def dispatch() -> None:
        while True:
            answer = await worker.ask("POST", "turns:dispatch", worker.dispatching(worker))
            if answer.status_code == 503:
                return
            dispatched.append(answer.json()["turn_id"])

    writers = [asyncio.ensure_future(dispatch()) for _ in range(8)]
    await until(lambda: len(dispatched) > 20)
    await move.close()
    await asyncio.gather(*writers)
    imported = await move.take(await move.export())
    assert imported.end.rows["cg_turns"] == len(dispatched)
    assert len(await rows_of(database, move.project.id)) == len(TABLES)


async def test_the_same_file_again_changes_nothing(move: Move) -> None:
    """Neither at once nor after the project has gone on; two at a time are as one."""
    worker, claim = await busy(move.project)
    await move.close()
    file = await move.export()
    both = await asyncio.gather(
        move.take(io.BytesIO(file.getvalue())), move.take(io.BytesIO(file.getvalue()))
    )
    assert sorted(each.is_new for each in both) == [False, True]
    [there] = await move.switched(worker)
    assert (await there.finish(claim)).status_code == 200
    before = await rows_of(move.there.database, move.project.id)
    assert not (await move.take(file)).is_new
    assert await rows_of(move.there.database, move.project.id) == before


async def test_another_project_is_never_overwritten(move: Move) -> None:
    """One of the same name is left as it is."""
    await busy(move.project)
    await move.close()
    file = await move.export()
    same = Project(move.there, client_of(move.there), move.project.id)
    await same.agent("else")
    with pytest.raises(ConflictError, match="another project"):
        await move.take(file)
    assert len((await rows_of(move.there.database, move.project.id))["cg_agents"]) == 1


async def test_a_project_that_was_open_is_taken_only_as_a_copy(move: Move) -> None:
    """What happened since is not in the file."""
    await busy(move.project)
    file = await move.export()
    with pytest.raises(UsageError, match="--close"):
        await move.take(file)
    assert (await move.take(file, takes_open=True)).is_new


async def test_a_forgotten_project_is_asked_for_again(move: Move, kernel: Kernel) -> None:
    """Its rows are gone. Who still comes gets a 503, and who waits is answered at once."""
    worker, _ = await busy(move.project)
    with pytest.raises(ConflictError, match="not closed"):
        await forget_project(kernel.database, move.project.id)
    await move.close()
    await move.take(await move.export())
    waiter = await waiting(worker)
    counts = await forget_project(kernel.database, move.project.id)
    assert counts["cg_turns"] == 5
    assert not any((await rows_of(kernel.database, move.project.id)).values())
    answer = await waiter.task
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (await worker.ask("POST", "turns:dispatch", worker.dispatching(worker))).status_code == 503
    with pytest.raises(ConflictError, match="moved from this database"):
        await open_project(kernel.database, move.project.id)
    assert sum((await forget_project(kernel.database, move.project.id)).values()) == 0


async def test_a_project_can_come_back(move: Move, kernel: Kernel) -> None:
    """By the file of its last export, and by no older one."""
    worker, claim = await busy(move.project)
    await move.close()
    first = await move.export()
    await move.take(first)
    await forget_project(kernel.database, move.project.id)
    [there] = await move.switched(worker)
    await there.finish(claim)
    await close_project(move.there.database, move.project.id)
    second = io.BytesIO()
    await export_project(move.there.database, move.project.id, second)
    await forget_project(move.there.database, move.project.id)
    with pytest.raises(ConflictError, match="moved on"):
        await move.take(first)
    assert (await import_project(kernel.database, second)).is_new
    assert (await worker.get(f"turns/{claim['turn_id']}"))["state"] == "closed"
    assert await worker.dispatch(worker)


async def test_a_damaged_file_is_refused_and_nothing_is_written(
    move: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut anywhere, changed anywhere, of another version, of another kind: each is told with what to do."""
    await busy(move.project)
    await move.close()
    whole = (await move.export()).getvalue()
    lines = whole.splitlines(keepends=True)
    for cut in (
        0,
        10,
        len(lines[0]),
        len(whole) // 3,
        len(whole) // 2,
        len(whole) - len(lines[-1]),
        len(whole) - 1,
    ):
        with pytest.raises(UsageError, match=r"cut|no file of"):
            await move.take(io.BytesIO(whole[:cut]))
    for changed in (whole.replace(b"tab", b"TAB", 1), b"".join(lines[:5] + lines[6:]), whole + b"x"):
        with pytest.raises(UsageError, match="changed"):
            await move.take(io.BytesIO(changed))
    stranger = whole.replace(f"\n{move.project.id}\t".encode(), b"\nstranger\t", 1)
    with pytest.raises(UsageError, match="changed"):
        await move.take(io.BytesIO(stranger))
    with pytest.raises(UsageError, match="no file of"):
        await move.take(io.BytesIO(b'{"project_id": "p"}\n'))
    monkeypatch.setattr(project_file, "schema", lambda: "9999_later.sql")
    with pytest.raises(UsageError, match="same version"):
        await move.take(io.BytesIO(whole))
    assert not any((await rows_of(move.there.database, move.project.id)).values())


async def test_a_project_that_is_not_there_is_told(move: Move) -> None:
    """By its name."""
    with pytest.raises(NotFoundError, match=move.project.id):
        await move.export()
    with pytest.raises(NotFoundError, match=move.project.id):
        await move.close()


async def test_a_credential_that_exists_there_is_told(move: Move) -> None:
    """Nothing is written."""
    await busy(move.project)
    await move.close()
    file = await move.export()
    await move.there.database.execute(
        "insert into cg_credentials (credential_id, project_id, agent_id, secret_hash, status) "
        "select $1, 'someone-else', 'a', '', 'active'",
        (await rows_of(move.project.kernel.database, move.project.id))["cg_credentials"][0][0],
    )
    with pytest.raises(ConflictError, match="credential_id"):
        await move.take(file)
    assert not (await rows_of(move.there.database, move.project.id))["cg_projects"]


async def test_every_table_and_column_is_exported(dsn: str) -> None:
    """All but what is known of moves, and the ids that each database gives to its events."""
    connection = await asyncpg.connect(dsn)
    columns: dict[str, set[str]] = {}
    for row in await connection.fetch(
        "select table_name, column_name from information_schema.columns where table_name ~ '^cg_'"
    ):
        columns.setdefault(row["table_name"], set()).add(row["column_name"])
    exported = {
        table: {each.name for each in (await connection.prepare(statement)).get_attributes()}
        for table, statement in EXPORT_ROWS.items()
    }
    await connection.close()
    exported["cg_ledger"].add("event_id")
    assert columns.keys() - exported.keys() == {"cg_moves", "cg_migrations"}
    assert exported == {table: columns[table] for table in TABLES}


async def test_a_busy_table_is_waited_for(move: Move, dsn: str) -> None:
    """A transaction that has written is not overtaken, and closing goes on when it has ended."""
    worker = await move.project.agent("worker")
    connection = await asyncpg.connect(dsn)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("update cg_agents set description = 'x' where project_id = $1", move.project.id)
    closing = asyncio.ensure_future(move.close())
    done, _ = await asyncio.wait([closing], timeout=0.5)
    assert not done
    await transaction.commit()
    await connection.close()
    await closing
    with pytest.raises(KernelOverloaded):
        await worker.project.kernel.database.execute(
            "update cg_agents set description = 'y' where project_id = $1", move.project.id
        )
