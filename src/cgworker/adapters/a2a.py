"""Run a remote A2A agent as a handler, on asyncio and trio: `cgworker[a2a]`.

The A2A task is stored as a step (`turn.once`), and so is the intent to send a message. A handler that
starts again after a crash, a restart or an answer continues the same task and sends nothing twice. These
steps have ids, digests and the agent's questions, which are public anyway, so they are public too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from attrs import field, frozen

from cgworker.adapters.extras import load, require
from cgworker.adapters.harness import Harness
from cgworker.adapters.secret import read_key
from cgworker.errors import UsageError
from cgworker.handlers.adapter import Adapter, Output
from cgworker.lease import Interruption, Reason
from cgworker.turn import Turn

if TYPE_CHECKING:
    from cgworker.adapters.a2a_conversation import Conversation


def input_of(turn: Turn) -> Any:
    """Return the turn's input, which is the default message to the agent.

    Args:
        turn: the turn.
    """
    return turn.input


@frozen
class A2AAgent(Adapter["Conversation"]):
    """Forwards turns to an A2A agent: `AdapterHandler(A2AAgent("https://agent.example"))`.

    Args:
        url: the address of the agent's card, without `/.well-known/agent-card.json`.
        message: returns what to send to the agent; a text or `{"text": ...}` goes as text, anything else as
            data.
        token_env: the variable with the agent's bearer token; None if the agent needs none.
        token_file: a file of this user alone (mode 0600) with the token; it takes precedence over the
            variable.
        token_origins: further origins that may get the token, such as `https://api.example`, if the card
            names them.
        timeout_seconds: how long the agent may be silent before its task is read again.
        retries: how often in a row a request is repeated after a failure that may be temporary.
        poll_seconds: how long to wait before a task is read again, if the agent does not stream.
        send_again: send a message again, with the same id, if it is unknown whether it arrived. Set this
            for agents that recognize repeats by the id; otherwise such a turn fails with
            `a2a_unknown_whether_sent`.
    """

    url: str
    message: Callable[[Turn], Any] = field(default=input_of, kw_only=True)
    token_env: str | None = field(default=None, kw_only=True)
    token_file: Path | None = field(default=None, kw_only=True)
    token_origins: tuple[str, ...] = field(default=(), kw_only=True)
    timeout_seconds: float = field(default=60.0, kw_only=True)
    retries: int = field(default=5, kw_only=True)
    poll_seconds: float = field(default=1.0, kw_only=True)
    send_again: bool = field(default=False, kw_only=True)
    _talks: dict[str, Conversation] = field(factory=dict, init=False, repr=False, eq=False)

    def check(self) -> None:
        """Check that the package and the token are there, before the worker starts.

        Raises:
            UsageError: one is missing, or other users may read the token's file.
        """
        require("a2a", "a2a")
        self._token()

    @asynccontextmanager
    async def prepare(self, turn: Turn) -> AsyncIterator[Conversation]:
        """Open connections to the agent for one turn.

        Args:
            turn: the turn.

        Yields:
            The conversation with the agent.
        """
        require("a2a", "a2a")
        await load("cgworker.adapters.a2a_conversation")
        from cgworker.adapters.a2a_conversation import Conversation

        token = self._token()
        auth = _Bearer(token, (self.url, *self.token_origins)) if token else None
        async with httpx.AsyncClient(auth=auth, timeout=self.timeout_seconds) as http:
            self._talks[turn.fingerprint] = talk = Conversation(
                turn,
                http,
                self.url,
                retries=self.retries,
                poll_seconds=self.poll_seconds,
                send_again=self.send_again,
                secrets=(token,) if token else (),
            )
            try:
                yield talk
            finally:
                del self._talks[turn.fingerprint]

    async def drive(self, turn: Turn, prepared: Conversation) -> AsyncGenerator[Any, None]:
        """Converse with the agent until its task has ended.

        Args:
            turn: the turn.
            prepared: the conversation.
        """
        async with Harness(turn, agent=httpx.URL(self.url).host).running():
            result = await prepared.run(self.message(turn))
        yield Output(result)

    async def interrupt(self, turn: Turn, interruption: Interruption) -> bool:
        """Cancel the agent's task, unless another attempt will continue it.

        Args:
            turn: the turn.
            interruption: why the handler is being ended.
        """
        talk = self._talks.get(turn.fingerprint)
        if talk is None or interruption.reason in (Reason.LEASE_LOST, Reason.SHUTDOWN):
            return False
        await talk.cancel()
        return True

    def _token(self) -> str | None:
        token = read_key(self.token_file, self.token_env)
        if token is None and self.token_env is not None:
            raise UsageError(f"there is no token for {self.url}: set {self.token_env}, or give token_file=")
        return token


class _Bearer(httpx.Auth):
    """Sends the token to its origins only: an agent's card may name any address."""

    def __init__(self, token: str, places: tuple[str, ...]) -> None:
        self._token = token
        self._origins = {_origin_of(httpx.URL(place)) for place in places}

    def auth_flow(self, request: httpx.Request) -> Any:
        """Add the token to the request; see httpx.

        Args:
            request: the request.
        """
        if _origin_of(request.url) not in self._origins:
            raise UsageError(
                f"the agent's card names {request.url.host}, which may not get the token: "
                "add its origin to token_origins= if you trust it"
            )
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def _origin_of(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
