"""What PostgreSQL knows of the size of its tables, on which its plans depend.

Autovacuum looks after that, but once a minute at best: until then a new database is planned for as an empty
one, and its busy statements cost twice as much, and more with each turn. So the kernel looks as well.
"""

from __future__ import annotations

from cgworker.kernel.store.postgres.database import Database

# In pages since the last analysis: of a small table a few matter, of a large one a multiple.
LIST_GROWN = r"""
select relname
from pg_class
where relkind = 'r' and relnamespace = current_schema()::regnamespace and relname like 'cg\_%'
    and pg_relation_size(oid) / current_setting('block_size')::int > 8 + 4 * relpages
order by relname
"""

# A table that somebody else analyzes or changes the schema of just now is passed over.
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
    )
}


async def analyze_grown(database: Database) -> None:
    """Let the tables that have grown since they were analyzed last be analyzed again."""
    for row in await database.fetch(LIST_GROWN):
        if statement := ANALYZE.get(row["relname"]):
            await database.execute(statement)
