"""Keep PostgreSQL's table statistics up to date, because its plans depend on them.

Autovacuum analyzes tables too, but at most once a minute. Until then a new database is planned for as an
empty one: frequent statements cost twice as much, and more with each turn. So the kernel analyzes as well.
"""

from __future__ import annotations

from cgworker.kernel.store.postgres.database import Database

# Growth in pages since the last analysis: a few for a small table, a multiple for a large one.
LIST_GROWN = r"""
select relname
from pg_class
where relkind = 'r' and relnamespace = current_schema()::regnamespace and relname like 'cg\_%'
    and pg_relation_size(oid) / current_setting('block_size')::int > 8 + 4 * relpages
order by relname
"""

# Skips a table that another session is analyzing or altering.
ANALYZE = {
    table: f"analyze (skip_locked) {table}"
    for table in (
        "cg_turns",
        "cg_records",
        "cg_ledger",
        "cg_spawns",
        "cg_agents",
        "cg_credentials",
        "cg_idempotency_keys",
        "cg_schedules",
        "cg_admissions",
        "cg_invites",
    )
}


async def analyze_grown(database: Database) -> None:
    """Analyze the tables that have grown since they were last analyzed."""
    for row in await database.fetch(LIST_GROWN):
        if statement := ANALYZE.get(row["relname"]):
            await database.execute(statement)
