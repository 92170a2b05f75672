"""A connection to one host, and the proof that its server is a primary that commits.

After a failover the old primary may still be there: silent, cut off from its standbys, or started again. A
commit finds it out. If it has to wait for a synchronous standby that answers no more, it commits nothing;
else its timeline is behind that of the server that was promoted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

from cgworker.kernel.store.postgres.arrays import set_array_codecs

if TYPE_CHECKING:
    BaseConnection = asyncpg.Connection[asyncpg.Record]
else:
    BaseConnection = asyncpg.Connection

# A transaction that commits a message which nobody reads. When it ends, synchronous standbys have it, and so
# all that was committed before: what a new connection sees cannot be lost with this server. The name of a WAL
# file begins with the timeline, which each promotion raises.
_COMMIT = """
select pg_logical_emit_message(true, 'cgworker', ''), left(pg_walfile_name(pg_current_wal_lsn()), 8)
"""

# Databases that speak PostgreSQL's protocol need not have a WAL to write to.
_NO_WAL = (
    asyncpg.FeatureNotSupportedError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InsufficientPrivilegeError,
)


class HostConnection(BaseConnection):
    """A connection whose statements are given up by ending it: the server is not asked to cancel them.

    A cancel request would make a commit visible that waits for a synchronous standby, though the standby does
    not have it. A repeat of the request would then be answered as done, and be lost with the server.

    Attributes:
        dsn: the address of its host.
        timeline: the timeline of its server; 0 if that was not asked for.
    """

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.dsn: str = ""
        self.timeline: int = 0
        self._has_committed = False
        set_array_codecs(self)

    async def try_to_commit(self) -> None:
        """Commit something, which lasts until a standby has it where commits wait for one.

        Raises:
            ConnectionError: the server is a standby.
            asyncpg.PostgresError: the server takes no writes.
        """
        if getattr(self.get_settings(), "in_hot_standby", "off") == "on":
            raise ConnectionError("the server is a standby, which takes no writes")
        try:
            row = await self.fetchrow(_COMMIT)
        except _NO_WAL:
            pass
        else:
            assert row is not None
            self.timeline = int(row[1], 16)
        self._has_committed = True

    def leave(self) -> None:
        """End the connection now, as if the network had."""
        self._transport.abort()  # type: ignore[attr-defined]  # asyncpg's own

    def _cancel_current_command(self, *waiters: Any) -> None:
        if self._has_committed:
            self.leave()
        else:  # nobody misses the message, and no process stays behind
            super()._cancel_current_command(*waiters)  # type: ignore[misc]  # asyncpg's own
