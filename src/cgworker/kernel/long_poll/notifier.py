"""Notify waiting requests of changes, in this process and in every other kernel on the database.

A change wakes the waiting requests of this process at once. The other kernels, if there are any
(other_kernels.py), get a NOTIFY, sent after the commit on a connection of its own: inside the transaction it
would serialise all commits. If a NOTIFY is lost, its requests notice the change late, at their next re-check.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial

import asyncpg

from cgworker.kernel.long_poll.long_poll import RECHECK_SECONDS, until_woken
from cgworker.kernel.long_poll.other_kernels import APPLICATION_NAME, OtherKernels
from cgworker.kernel.store.postgres.hosts import Hosts
from cgworker.wire.refs import AgentRef, TurnRef

logger: logging.Logger = logging.getLogger("cgworker.kernel")

_CHANNEL = "cg_wakeups"
_MAX_TOPICS_PER_NOTIFY = 200
_GREETING = "*"  # instead of topics: another kernel has begun, or is back
_SETTINGS = {"application_name": APPLICATION_NAME}
# A NOTIFY writes nothing that a crash could lose, so its commit need not wait for the disk. It is no startup
# setting of the connection, because PgBouncer refuses it there.
_ASYNCHRONOUS_COMMIT = "set synchronous_commit = off"
_NOTIFY = "select pg_notify($1, $2)"
_CONNECTION_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)
_COMMAND_SECONDS = 10.0  # a server that stalls is noticed, and another host can take its place
_RECONNECT_SECONDS = 1.0
_POLL_SECONDS = 2.0
_LOOK_SECONDS = 10.0  # how often a kernel checks whether it is alone
_GREET_SECONDS = 0.1  # how often it greets those that do not know of it yet
_NOTIFY_PAUSE_SECONDS = 0.005  # between two NOTIFYs; changes meanwhile share the second one


def work_topic(agent: AgentRef) -> str:
    """The topic of new work for an agent."""
    return _topic("work", agent.project_id, agent.agent_id)


def turn_topic(turn: TurnRef) -> str:
    """The topic of a turn's events, and of the starts and ends of its children."""
    return _hash_of("turn", turn.project_id, turn.turn_id)


def agent_topic(agent: AgentRef) -> str:
    """The topic of an agent's events, and of those of the turns addressed to it."""
    return _topic("agent", agent.project_id, agent.agent_id)


def feed_topic(project_id: str) -> str:
    """The topic of all events in a project."""
    return _topic("feed", project_id)


def timer_topic() -> str:
    """The topic of instants that are earlier than those the kernels' timers are set for."""
    return _topic("timer")


def turn_topics(turn: TurnRef, agent: AgentRef, parent: TurnRef | None = None) -> tuple[str, ...]:
    """The topics of an event of a turn.

    Args:
        turn: the turn.
        agent: the agent that the turn is addressed to.
        parent: the parent turn, for the start or end of a child.
    """
    parents = () if parent is None else (turn_topic(parent),)
    return turn_topic(turn), *agent_topics(agent), *parents


def agent_topics(agent: AgentRef) -> tuple[str, ...]:
    """The topics of an event of an agent."""
    return agent_topic(agent), feed_topic(agent.project_id)


@lru_cache(maxsize=4096)
def _topic(*parts: str) -> str:
    """Return the topic of an agent or a project; it is kept, since each of their turns changes it."""
    return _hash_of(*parts)


def _hash_of(*parts: str) -> str:
    """Hash a topic to a short fixed length, since a NOTIFY carries at most 8,000 bytes."""
    return hashlib.blake2s("\0".join(parts).encode(), digest_size=12).hexdigest()


class Notifier:
    """The waiting requests of a kernel, by topic. It is started and stopped with its kernel.

    Args:
        hosts: the hosts of the database that the kernels share, without a pooler in transaction mode; None if
            there is no way without one. Waiting requests then look often by themselves.

    Attributes:
        recheck_seconds: how often a waiting request looks by itself.
        waiting_count: the number of waiting requests.
        is_closing: whether the kernel is shutting down, so that no request may wait.
    """

    def __init__(self, hosts: Hosts | None) -> None:
        self._hosts = hosts
        self.recheck_seconds: float = _POLL_SECONDS if hosts is None else RECHECK_SECONDS
        # Ordered sets: events are set in the order of arrival, so that the last repeat of a claim wins.
        self._waiting: dict[str, dict[asyncio.Event, None]] = defaultdict(dict)
        self._unsent: dict[str, None] = {}
        self._news = asyncio.Event()
        self._others: OtherKernels | None = None  # None without a connection
        self._look_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._is_loss_logged = False
        self.waiting_count: int = 0
        self.is_closing: bool = False

    def start(self) -> None:
        """Start to listen to the other kernels and to notify them."""
        if self._hosts is None:
            logger.warning(
                "PG_DSN is the address of a pooler in transaction mode, where LISTEN does not work: waiting "
                "requests hear of other kernels within %g s; set PG_LISTEN_DSN to a direct address",
                _POLL_SECONDS,
            )
            return
        self._tasks = [asyncio.create_task(self._keep_connected(self._hosts))]

    def close(self) -> None:
        """Wake all waiting requests, and let no request wait any more: the kernel shuts down."""
        self.is_closing = True
        self.wake_all()

    async def stop(self) -> None:
        """Stop to listen and to notify; this wakes no request."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextmanager
    def waiting(self, topics: Iterable[str]) -> Iterator[asyncio.Event]:
        """Subscribe a waiting request to the topics within the block, and count it."""
        self.waiting_count += 1
        try:
            with self.listening(topics) as event:
                yield event
        finally:
            self.waiting_count -= 1

    @contextmanager
    def listening(self, topics: Iterable[str]) -> Iterator[asyncio.Event]:
        """Subscribe to the topics within the block; the event is set by a change of any of them.

        Subscribe before the first read, or a change between the two is missed.
        """
        event, listed = asyncio.Event(), tuple(topics)
        for topic in listed:
            self._waiting[topic][event] = None
        try:
            yield event
        finally:
            for topic in listed:
                del self._waiting[topic][event]
                if not self._waiting[topic]:
                    del self._waiting[topic]

    @property
    def is_silent(self) -> bool:
        """Whether this kernel is alone on the database or cannot listen, so that it sends no NOTIFY."""
        return self._hosts is None or (self._others is not None and self._others.is_silent)

    @property
    def is_heard(self) -> bool:
        """Whether a request waits here or another kernel may listen; if not, a turn's topics wake nobody.

        The kernel's own timer always listens, but only to its own topic.
        """
        return self.waiting_count > 0 or not self.is_silent

    def wake(self, *topics: str) -> None:
        """Wake the requests that wait for a topic, in all kernels. Commit the change before."""
        self._wake_here(topics)
        self.wake_elsewhere(*topics)

    def wake_elsewhere(self, *topics: str) -> None:
        """Wake the requests that wait for a topic in the other kernels. Commit the change before."""
        if not self.is_silent:
            self._unsent.update(dict.fromkeys(topics))
            self._news.set()

    def _wake_here(self, topics: Iterable[str]) -> None:
        for topic in topics:
            for event in self._waiting.get(topic, ()):
                event.set()

    def wake_all(self) -> None:
        """Wake all waiting requests of this kernel."""
        self._wake_here(list(self._waiting))

    async def _keep_connected(self, hosts: Hosts) -> None:
        """Keep a connection to listen and notify; after each break, let all requests read again."""
        while True:
            try:
                connection = await hosts.connect(server_settings=_SETTINGS, command_timeout=_COMMAND_SECONDS)
                try:
                    await self._serve(connection)
                finally:
                    self._others = None
                    connection.terminate()
            except _CONNECTION_ERRORS as refused:
                self._log_once(refused)
            self.wake_all()
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _log_once(self, refused: BaseException) -> None:
        """Log the loss of the connection, once until it is back."""
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
        self.wake_all()
        self._others, self._look_at = OtherKernels(connection), 0.0
        while not connection.is_closed():
            await self._look(connection, self._others)
            topics = list(self._unsent)[:_MAX_TOPICS_PER_NOTIFY]
            for topic in topics:
                del self._unsent[topic]
            if not self._unsent:
                self._news.clear()
            if topics:
                await connection.execute(_NOTIFY, _CHANNEL, " ".join(topics))
                await asyncio.sleep(_NOTIFY_PAUSE_SECONDS)
            await until_woken(self._news, self._look_at - _time())

    async def _look(self, connection: asyncpg.Connection[asyncpg.Record], others: OtherKernels) -> None:
        if _time() < self._look_at:
            return
        if not others.all_speak:
            await connection.execute(_NOTIFY, _CHANNEL, _GREETING)
        if await others.look():
            self.wake_all()
        self._look_at = _time() + (_LOOK_SECONDS if others.all_speak else _GREET_SECONDS)

    def _on_notify(self, own_pid: int, _connection: object, pid: int, _channel: str, payload: object) -> None:
        """Wake the requests of a NOTIFY. The connection may be closed by now, so do not use it here."""
        if pid == own_pid:
            return  # `wake` has woken this kernel's own requests
        if payload != _GREETING:
            self._wake_here(str(payload).split())
            return
        if self._others is not None and self._others.is_silent:
            self._others.greeted()
            self._look_at = 0.0
            self._news.set()
        self.wake_all()  # that kernel may have been silent until now


def _time() -> float:
    return asyncio.get_running_loop().time()
