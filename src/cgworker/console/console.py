"""`Console`: what all pages of a console share."""

from __future__ import annotations

from collections import OrderedDict

from attrs import field, frozen
from starlette.requests import Request

from cgworker.client import KernelClient
from cgworker.console.feed import FeedReader
from cgworker.console.history import History
from cgworker.console.reads import SharedReads
from cgworker.console.turn_reader import TurnReader
from cgworker.errors import UsageError
from cgworker.wire.refs import AgentRef, TurnRef

_MAX_READERS = 32


@frozen(kw_only=True)
class Console:
    """A project, the client that reads it and acts in it, and what its tabs share.

    Attributes:
        kernel: the client; its agent's rights are the console's.
        agent: the agent of the client.
        feed: the reader of the project's feed.
        reads: what has been read already.
        history: the last 24 hours, for the plots.
        readers: the readers of single turns.
    """

    kernel: KernelClient
    agent: AgentRef
    feed: FeedReader
    reads: SharedReads = field()
    history: History = field()
    readers: OrderedDict[str, TurnReader] = field(factory=OrderedDict)

    @reads.default
    def _shared_reads(self) -> SharedReads:
        return SharedReads(self.feed)

    @history.default
    def _history(self) -> History:
        return History(self.kernel, self.feed, self.agent.project_id)

    def __attrs_post_init__(self) -> None:
        """Forget turns whose ids may be given out again."""
        self.feed.when_restored(self.readers.clear)

    @property
    def project_id(self) -> str:
        """The project that the console shows."""
        return self.agent.project_id

    @classmethod
    def of(cls, kernel: KernelClient) -> Console:
        """Make a console for the project of the client's agent.

        Args:
            kernel: the client.

        Raises:
            UsageError: the caller's fault: the client has no agent.
        """
        if kernel.agent is None:
            raise UsageError(
                "a console needs a client with an agent: KernelClient(url, agent=..., token=...)"
            )
        feed = FeedReader(kernel.with_own_connections(), kernel.agent.project_id)
        return cls(kernel=kernel, agent=kernel.agent, feed=feed)

    def start(self) -> None:
        """Start to follow the feed, unless it does already."""
        self.feed.start()
        self.history.start()

    async def stop(self) -> None:
        """Stop following the feed."""
        await self.history.stop()
        await self.feed.stop()

    def reader_of(self, turn_id: str) -> TurnReader:
        """Return the reader of a turn, which all its tabs share; the last thirty-two are kept."""
        reader = self.readers.setdefault(turn_id, TurnReader(self.kernel, self.turn(turn_id)))
        self.readers.move_to_end(turn_id)
        if len(self.readers) > _MAX_READERS:
            self.readers.popitem(last=False)
        return reader

    def turn(self, turn_id: str) -> TurnRef:
        """Return the reference of a turn of the project."""
        return TurnRef(project_id=self.project_id, turn_id=turn_id)


def console_of(request: Request) -> Console:
    """Return the console that serves the request."""
    console: Console = request.app.state.console
    return console
