"""Every statement of the kernel stays in one project, so that projects can live in different databases."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import asyncpg
import pytest

import cgworker.kernel
from cgworker.kernel.store.postgres.migrate import known_migrations
from tests.kernel.one_project import faults_of, faults_of_function, functions_in, parse

# The statements that go across projects, each with its reason. A database is asked about its own projects, so
# none of them needs to know which other databases there are.
ACROSS = {
    # What a caller presents is looked up, and its project compared afterwards, for a refusal that says
    # what is wrong. Ids and codes are random, so they mean the same in every database.
    "store.callers.FIND_CALLERS": "a credential, by its id",
    "store.callers.TOUCH_CREDENTIALS": "a credential, by its id",
    "store.credentials.FIND_CREDENTIAL": "a credential, by its id",
    "store.invites.FIND_INVITE": "an invite, by its code",
    "store.invites.USE_INVITE": "an invite, by its id, in the transaction that has found it",
    # What the chores do next: lists, each by one index of all projects, so that an idle database is asked
    # a few questions instead of a few for each project. What is done then is done project by project.
    "store.due.FIND_NEXT_DUE": "list for the timer: when to look again",
    "store.due.LIST_DUE_TURNS": "list for the timer",
    "store.ticks.LIST_DUE_SCHEDULES": "list for the timer",
    "store.claims.reconcile.LIST_PROJECTS_WITH_ENDED_LEASES": "list for the reaper",
    "store.keys.LIST_OLD_KEYS": "list for the forgetting of keys",
    "store.ledger.LIST_UNNUMBERED_PROJECTS": "list for the numbering of ledgers",
    "store.retention.FIND_NEXT_PROJECT": "list for retention: the next project",
    "store.seed.HAS_PROJECTS": "whether there is any project, for a hint at the start",
    # What /metrics shows of this database.
    "store.due.COUNT_DUE": "metrics",
    "store.backlog.COUNT_OPEN_TURNS": "metrics",
    "store.backlog.COUNT_TURNS_OF_AGENTS": "metrics",
}

# What is sent but is no constant, by module and source: it reads and writes no row of a project.
SENT = {
    ("store.postgres.database", "statement"): "what the store's functions give to Database",
    (
        "store.postgres.database",
        "f'{PLAN_ONCE}; {_LIMIT_TIME}; {_COMPRESS_QUICKLY}'",
    ): "settings of a connection",
    ("store.postgres.migrate", "migration.sql"): "a migration; see below",
    ("store.postgres.migrate", "statement"): "a migration; see below",
    ("store.postgres.migrate", "f'drop index concurrently {index[1]}'"): "an index that was not finished",
    ("store.project_copy", "section.table"): "the name of a table; the rows are checked as they are read",
    ("store.postgres.statistics", "statement"): "one of ANALYZE: the statistics of a whole table",
}

SENDING = frozenset(
    f.__name__
    for f in vars(asyncpg.Connection).values()
    if inspect.isfunction(f) and f.__name__.startswith(("fetch", "execute", "cursor", "prepare", "copy_"))
) | {"fetch_planned", "fetch_retrying_duplicates"}

FUNCTIONS = functions_in(migration.sql for migration in known_migrations())


def modules() -> dict[str, ModuleType]:
    """The modules of the kernel by their names in it."""
    found = pkgutil.walk_packages(cgworker.kernel.__path__, "cgworker.kernel.")
    return {m.name.removeprefix("cgworker.kernel."): importlib.import_module(m.name) for m in found}


def constants() -> dict[str, str]:
    """The texts that the modules themselves hold, alone or in mappings, by module and name."""
    found = {}
    for module, value in modules().items():
        for name, held in vars(value).items():
            texts = (
                {f"{name}.{key}": text for key, text in held.items()}
                if isinstance(held, dict)
                else {name: held}
            )
            found.update({f"{module}.{key}": text for key, text in texts.items() if isinstance(text, str)})
    return found


def sent() -> Iterator[tuple[str, ast.expr | None]]:
    """The statement of each call that sends one; None where a sending method is not called at once."""
    for name, module in modules().items():
        tree = ast.parse(inspect.getsource(module))
        called = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _is_sending(node.func):
                called.add(node.func)
                yield name, node.args[0]
        for node in ast.walk(tree):
            if _is_sending(node) and node not in called:
                yield name, None


def _is_sending(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in SENDING


def statements() -> dict[str, str]:
    """Every statement that the kernel sends, by module and name."""
    texts, found = constants(), {}
    for module, node in sent():
        source = None if node is None else ast.unparse(node)
        if isinstance(node, ast.Constant):
            found[f"{module}: {source}"] = str(node.value)
        elif isinstance(node, ast.Subscript):  # one of a mapping
            start = f"{module}.{ast.unparse(node.value)}."
            found.update(some := {name: text for name, text in texts.items() if name.startswith(start)})
            assert some, start
        elif f"{module}.{source}" in texts:
            found[f"{module}.{source}"] = texts[f"{module}.{source}"]
        else:
            assert (module, source) in SENT, f"{module} sends a statement that no test can read: {source}"
    return found


def test_every_statement_stays_in_one_project() -> None:
    """Each table that it reads or writes is bound to the project that a parameter names."""
    found = {name: faults for name, sql in statements().items() if (faults := faults_of(sql, FUNCTIONS))}
    assert {name: faults for name, faults in found.items() if name not in ACROSS} == {}
    assert ACROSS.keys() == found.keys(), "these are bound now, or gone"


def test_every_function_of_the_schema_stays_in_one_project() -> None:
    """Each takes the project that it is called for."""
    assert {"cg_callers", "cg_place", "cg_free_key"} <= FUNCTIONS.keys()
    assert {
        name: faults for name, f in FUNCTIONS.items() if (faults := faults_of_function(f, FUNCTIONS))
    } == {}


async def test_every_table_has_a_project(dsn: str) -> None:
    """And begins its key with it, but for what is looked up by a random id. The reader thus knows all."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(TABLES_WITH_THEIR_KEYS)
    await connection.close()
    tables = {row["table_name"]: row["first_of_key"] for row in rows}
    assert {name for name, column in tables.items() if column is None} == {"cg_migrations", "cg_ledger"}
    odd = {name for name, column in tables.items() if column not in (None, "project_id")}
    assert odd == {"cg_credentials", "cg_invites"}


# The first column of each table's primary key; null if no column is named project_id, or there is no key.
TABLES_WITH_THEIR_KEYS = """
select c.relname as table_name, (
        select k.attname from pg_attribute k where k.attrelid = c.oid and k.attnum = i.indkey[0] and exists (
            select from pg_attribute p where p.attrelid = c.oid and p.attname = 'project_id')
    ) as first_of_key
from pg_class c
left join pg_index i on i.indrelid = c.oid and i.indisprimary
where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'
"""


def test_migrations_change_no_rows() -> None:
    """They make and remove tables, columns, indexes and functions."""
    kinds = {type(each).__name__ for migration in known_migrations() for each in parse(migration.sql)}
    assert kinds & {"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "CopyStmt"} == set()


@pytest.mark.parametrize(
    "sql",
    [
        "select * from cg_turns where turn_number = $1",
        "select * from cg_turns where project_id = $1 or turn_number = $2",
        "select * from cg_turns where project_id = any ($1)",
        "select * from cg_turns where project_id > $1",
        "select * from cg_turns t where t.project_id = $1 and exists (select from cg_agents where enabled)",
        "select * from cg_turns t join cg_agents a using (agent_id) where t.project_id = $1",
        "select * from cg_turns t left join cg_agents a on a.project_id = t.project_id and t.project_id = $1",
        "with a as (select 1 from cg_turns) select * from cg_agents where project_id = $1",
        "with m as (select * from unnest($1::text[]) m (project_id)) "
        "select * from cg_turns t join m on m.project_id = t.project_id",
        "select * from cg_turns t, cg_agents a where t.project_id = $1 and a.project_id = $2",
        "update cg_turns t set state = 'queued' from cg_agents a where a.project_id = $1",
        "update cg_turns set project_id = $2 where project_id = $1",
        "delete from cg_turns using cg_agents a where a.project_id = $1",
        "insert into cg_spawns (project_id, spawn_key) select $1, $2 from cg_turns where project_id = $2",
        "insert into cg_spawns (spawn_key) values ($1)",
        "insert into cg_spawns (project_id, spawn_key) values ($1, 'a'), ('b', 'b')",
        "select cg_must_wait(agent_id, $1, $2, 1) from cg_agents where project_id = $1",
        "select * from cg_agents a, cg_callers(a.agent_id, $2, $3, $4) where a.project_id = $1",
        "select (select count(*) from cg_turns) from cg_agents where project_id = $1",
        "copy (select * from cg_turns) to stdout",
    ],
)
def test_a_statement_that_leaves_its_project_is_found(sql: str) -> None:
    """The reader of statements is not deceived."""
    assert faults_of(sql, FUNCTIONS) != []


@pytest.mark.parametrize(
    "sql",
    [
        "select * from cg_turns where project_id = $1",
        "select * from cg_turns t where $1::text = t.project_id and t.turn_number > 0",
        "select * from cg_turns join cg_agents using (project_id, agent_id) where cg_turns.project_id = $1",
        "with a as (select * from cg_turns where project_id = $1) delete from cg_records r using a "
        "where r.project_id = a.project_id and r.turn_number = a.turn_number returning *",
        "select * from cg_turns t, lateral (select from cg_agents where project_id = t.project_id) a "
        "where t.project_id = $1",
        "insert into cg_spawns (project_id) select t.project_id from cg_turns t where project_id = $1",
        "copy (select * from cg_turns where project_id = $1) to stdout",
    ],
)
def test_a_statement_that_stays_in_its_project_is_seen(sql: str) -> None:
    """A parameter binds a table, and a table another one."""
    assert faults_of(sql, FUNCTIONS) == []
