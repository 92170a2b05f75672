"""Whether there are other kernels on the database. A kernel that is alone there sends no NOTIFY.

Each kernel's listening connection holds an advisory lock of the database, shared. A kernel may be silent
only while it holds the lock exclusively too, which PostgreSQL grants while no other kernel holds it. A
kernel that begins first listens, then greets the others by a NOTIFY, and then asks for the lock until it
gets it; its waiting requests then read again. A kernel that is greeted is silent no longer, gives up the
exclusive lock, and lets its own requests read again.

So no request waits past a change:

- A silent kernel commits a change and decides to be silent while it holds the lock exclusively. A new
  kernel gets the lock after that, and its requests read after that: they find the change.
- A kernel that is not silent sends a NOTIFY, which the new kernel hears, since it listened before.
- The locks of a kernel that ends or is killed end with its connection; the other finds itself alone at its
  next look. A paused kernel commits nothing. If it has the lock exclusively, the new one goes on to greet
  it, and serves meanwhile: it is not silent itself, and hears of all others.
- A silent kernel may lose its connection and not know yet. What it commits until then is missed by others
  only until it is back: it greets them, and they read again.

Kernels of earlier versions listen without a lock; they are found by the name of their connections.
"""

from __future__ import annotations

import asyncpg

APPLICATION_NAME = "cgworker notifier"
"""The name of each kernel's listening connection."""

_NAMES = (APPLICATION_NAME, "cgworker wakeups")  # the second one is that of kernels of 0.2 and before

_LOCK = int.from_bytes(b"cgnotify", "big")

_TAKE = "select pg_try_advisory_lock_shared($1)"

_TAKE_ALONE = """
select case
    when (
        select count(*)
        from pg_stat_activity
        where datname = current_database() and application_name = any ($2)
    ) > 1 then false
    else pg_try_advisory_lock($1)
end
"""

_COUNT_OTHERS = """
select count(*) - 1
from pg_stat_activity
where datname = current_database() and application_name = any ($1)
"""

_GIVE_UP_ALONE = "select pg_advisory_unlock($1)"


class OtherKernels:
    """What one listening connection knows of other kernels.

    Args:
        connection: the connection; it listens already.

    Attributes:
        all_speak: whether all other kernels send their NOTIFYs by now.
        is_silent: whether this kernel is alone, and need send none.
    """

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection
        self._is_alone = False
        self.all_speak: bool = False
        self.is_silent: bool = False

    def greeted(self) -> None:
        """Note that another kernel has begun; `look` then gives up the lock for it."""
        self.is_silent = False

    async def look(self) -> bool:
        """Take the lock, give up the exclusive one for a kernel that has begun, or see whether it is free.

        A greeting that comes while the exclusive lock is being taken is lost, and repeated by its kernel.

        Returns:
            Whether all other kernels speak since now, so that all requests must read again.
        """
        if self._is_alone:
            if self.is_silent and await self._connection.fetchval(_COUNT_OTHERS, _NAMES) > 0:
                self.is_silent = False  # one of an earlier version is back, and greets nobody
            if not self.is_silent:
                await self._connection.execute(_GIVE_UP_ALONE, _LOCK)
                self._is_alone = False
            return False
        is_news = False
        if not self.all_speak:
            self.all_speak = is_news = await self._connection.fetchval(_TAKE, _LOCK)
        if self.all_speak:
            self._is_alone = await self._connection.fetchval(_TAKE_ALONE, _LOCK, _NAMES)
            self.is_silent = self._is_alone
        return is_news
