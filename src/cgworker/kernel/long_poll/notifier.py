"""Waking requests that wait for news, in this process and in every other kernel on the database.

Who changes something wakes the local waiters at once and tells the other kernels with a NOTIFY, sent after
the commit on a connection of its own: inside the transaction it would serialise all commits. A lost NOTIFY
costs a slow re-check, never a hang.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import asyncpg

from cgworker.wire.refs import AgentRef, TurnRef

logger: logging.Logger = logging.getLogger("cgworker.kernel")

_CHANNEL = "cg_wakeups"
_MAX_TOPICS_PER_NOTIFY = 200
_SETTINGS = {"application_name": "cgworker notifier"}
# A NOTIFY leaves nothing on disk that could be lost, so its commit need not wait for the disk. Not among the
# settings that a connection begins with: PgBouncer refuses it there.
_ASYNCHRONOUS_COMMIT = "set synchronous_commit = off"
_CONNECTION_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)
_RECONNECT_SECONDS = 1.0
_NOTIFY_PAUSE_SECONDS = 0.005  # between two NOTIFYs: what comes in between goes with the second


def work_topic(agent: AgentRef) -> str:
    """News for an agent that waits for work."""
    return _topic("work", agent.project_id, agent.agent_id)


def turn_topic(turn: TurnRef) -> str:
    """News of a turn, and of its children's births and ends."""
    return _topic("turn", turn.project_id, turn.turn_id)


def agent_topic(agent: AgentRef) -> str:
    """News of an agent and of the turns addressed to it."""
    return _topic("agent", agent.project_id, agent.agent_id)


def feed_topic(project_id: str) -> str:
    """News of anything in a project."""
    return _topic("feed", project_id)


def turn_topics(turn: TurnRef, agent: AgentRef, parent: TurnRef | None = None) -> tuple[str, ...]:
    """Whom an event of a turn concerns; `agent` is the one it is addressed to."""
    parents = () if parent is None else (turn_topic(parent),)
    return turn_topic(turn), *agent_topics(agent), *parents


def agent_topics(agent: AgentRef) -> tuple[str, ...]:
    """Whom an event of an agent concerns."""
    return agent_topic(agent), feed_topic(agent.project_id)


def _topic(*parts: str) -> str:
    """Short and of fixed length, since a NOTIFY carries 8,000 bytes at most."""
    return hashlib.blake2s("\0".join(parts).encode(), digest_size=12).hexdigest()


class Notifier:
    """Who waits for what. Started and stopped with its kernel."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        # As sets, but in the order in which they came: who asked again with a key is to have the last word.
        self._waiting: dict[str, dict[asyncio.Event, None]] = defaultdict(dict)
        self._unsent: dict[str, None] = {}
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_loss_logged = False
        self.waiting_count: int = 0
        self.is_closing: bool = False

    def start(self) -> None:
        """Begin to listen to other kernels and to tell them."""
        self._tasks = [asyncio.create_task(self._keep_connected())]

    def close(self) -> None:
        """The kernel shuts down: wake everybody, and let nobody wait any more."""
        self.is_closing = True
        self._wake_all()

    async def stop(self) -> None:
        """Listen and tell no more; nobody is woken by it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextmanager
    def waiting(self, topics: Iterable[str]) -> Iterator[asyncio.Event]:
        """An event that is set by news of any of the topics; begin before looking, or news is missed."""
        event, listed = asyncio.Event(), tuple(topics)
        for topic in listed:
            self._waiting[topic][event] = None
        self.waiting_count += 1
        try:
            yield event
        finally:
            self.waiting_count -= 1
            for topic in listed:
                del self._waiting[topic][event]
                if not self._waiting[topic]:
                    del self._waiting[topic]

    def wake(self, *topics: str) -> None:
        """Something happened and is committed: tell everybody who waits for it."""
        self._wake_here(topics)
        self._unsent.update(dict.fromkeys(topics))
        self._news.set()

    def _wake_here(self, topics: Iterable[str]) -> None:
        for topic in topics:
            for event in self._waiting.get(topic, ()):
                event.set()

    def _wake_all(self) -> None:
        self._wake_here(list(self._waiting))

    async def _keep_connected(self) -> None:
        """One connection to listen and to tell; when it breaks, another, and everybody looks again."""
        while True:
            try:
                connection = await asyncpg.connect(self._dsn, timeout=10, server_settings=_SETTINGS)
                try:
                    await self._serve(connection)
                finally:
                    connection.terminate()
            except _CONNECTION_ERRORS as refused:
                self._log_once(refused)
            self._wake_all()
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _log_once(self, refused: BaseException) -> None:
        """Log it, until it was connected again: what waits is woken by this kernel's own news alone."""
        if self._is_loss_logged:
            return
        self._is_loss_logged = True
        logger.warning(
            "no connection for LISTEN and NOTIFY (%s): waiting requests hear late of other kernels; "
            "trying again every %g s",
            " ".join(str(refused).split()) or type(refused).__name__,
            _RECONNECT_SECONDS,
        )

    async def _serve(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        connection.add_termination_listener(lambda _: self._news.set())
        await connection.execute(_ASYNCHRONOUS_COMMIT)
        await connection.add_listener(_CHANNEL, partial(self._on_notify, connection.get_server_pid()))
        self._is_loss_logged = False
        self._wake_all()
        while not connection.is_closed():
            await self._news.wait()
            topics = list(self._unsent)[:_MAX_TOPICS_PER_NOTIFY]
            for topic in topics:
                del self._unsent[topic]
            if not self._unsent:
                self._news.clear()
            if topics:
                await connection.execute("select pg_notify($1, $2)", _CHANNEL, " ".join(topics))
                await asyncio.sleep(_NOTIFY_PAUSE_SECONDS)

    def _on_notify(self, own_pid: int, _connection: object, pid: int, _channel: str, payload: object) -> None:
        """Asks the connection nothing: a NOTIFY is handed over after it was read, maybe once it is gone."""
        if pid != own_pid:  # our own have been woken before
            self._wake_here(str(payload).split())
