"""The clock of a kernel under test, which can be moved forward.

All statements of a kernel ask two functions for the time (migration 0005); these are replaced here.
"""

from __future__ import annotations

from cgworker.kernel.store.postgres.database import Connection, Database

CLOCK_OFFSET = "select round(extract(epoch from cg_clock() - clock_timestamp()), 3)::float8"

# Replacing a function makes PostgreSQL plan anew what it was inlined into, on all connections.
_MOVE_CLOCK = """
create or replace function cg_now() returns timestamptz
language sql stable parallel safe
as 'select now() + interval ''{seconds:.3f} seconds''';

create or replace function cg_clock() returns timestamptz
language sql volatile parallel safe
as 'select clock_timestamp() + interval ''{seconds:.3f} seconds''';
"""


async def move_clock(database: Database, seconds: float) -> None:
    """Move the clock of all kernels on a database forward, from where it stands.

    Args:
        database: a database that no one else uses; whoever may create functions in it may do this.
        seconds: how far; a thousandth of a second is the smallest step.
    """

    async def move(connection: Connection) -> None:
        offset = await connection.fetchval(CLOCK_OFFSET)
        await connection.execute(_MOVE_CLOCK.format(seconds=offset + seconds))

    await database.transact(move)
