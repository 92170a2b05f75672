"""Move the clock of a kernel under test.

All statements of a kernel ask two functions for the time (migration 0005); this module replaces them.
"""

from __future__ import annotations

from cgworker.kernel.store.postgres.database import Connection, Database

CLOCK_OFFSET = "select round(extract(epoch from cg_clock() - clock_timestamp()), 3)::float8"

# After a function is replaced, PostgreSQL plans again every statement that it was inlined into.
_MOVE_CLOCK = """
create or replace function cg_now() returns timestamptz
language sql stable parallel safe
as 'select now() + interval ''{seconds:.3f} seconds''';

create or replace function cg_clock() returns timestamptz
language sql volatile parallel safe
as 'select clock_timestamp() + interval ''{seconds:.3f} seconds''';
"""


async def move_clock(database: Database, seconds: float) -> None:
    """Advance the clock of all kernels on a database.

    Args:
        database: a database that nothing else uses; its user must be allowed to create functions.
        seconds: how far; the smallest step is a thousandth of a second.
    """

    async def move(connection: Connection) -> None:
        offset = await connection.fetchval(CLOCK_OFFSET)
        await connection.execute(_MOVE_CLOCK.format(seconds=offset + seconds))

    await database.transact(move)
