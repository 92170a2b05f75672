"""Run a coding agent that speaks the Agent Client Protocol as a handler, on asyncio: `cgworker[acp]`.

The agent runs as a child process of the worker, one for each turn, and ends with the turn's lease. Its
requests for permission are answered by a rule or by people. An interrupted turn continues in its own
session, if the agent can load sessions.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from attrs import field, frozen

from cgworker.adapters.acp_permission import Permission, ask_people
from cgworker.adapters.extras import load, require, require_asyncio
from cgworker.adapters.harness import Harness
from cgworker.errors import CommandNotFound, UsageError
from cgworker.handlers.adapter import Adapter, Output
from cgworker.handlers.base_command import write_to_stderr
from cgworker.handlers.child import ProcessLimitReached, start_child
from cgworker.handlers.environment import ChildEnvironment, mask_for
from cgworker.handlers.files import make_private_folder
from cgworker.lease import Interruption, Reason
from cgworker.outcome import Suspending, retry
from cgworker.paths import state_folder
from cgworker.turn import Turn
from cgworker.wire.converter import dumps

if TYPE_CHECKING:
    from cgworker.adapters.acp_session import Session

_NO_ROOM_SECONDS = 5.0

GO_ON = (
    "You were interrupted while you worked on the task below. Go on from where you are, "
    "and do nothing twice that is done already. The task was:"
)
"""The text that precedes the prompt when an agent continues its earlier session."""


def prompt_of(turn: Turn) -> str:
    """Return the default prompt: the input's text if it has one, else the input as JSON.

    Args:
        turn: the turn.
    """
    asked = turn.input
    if isinstance(asked, dict) and isinstance(asked.get("text"), str):
        asked = asked["text"]
    return asked if isinstance(asked, str) else dumps(asked).decode()


def facts_of(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is public of a tool call by default: all but its input, its output and its content.

    Args:
        call: the call.
    """
    return {key: call[key] for key in call if key not in ("input", "output", "content")}


def _words(argv: Iterable[str]) -> tuple[str, ...]:
    return tuple(argv)


@frozen
class ACPAgent(Adapter["Session"]):
    """Runs a coding agent on each turn: `AdapterHandler(ACPAgent(["my-agent", "--acp"], cwd=checkout))`.

    The agent's text is streamed into records of role "progress", its tool calls and plans become records of
    role "tool_call" and "plan", and its last message is the deliverable `{"text": ...}`. What the turn is
    told while the agent works is the agent's next prompt, in the same session.

    Args:
        argv: the agent's command and its arguments; not run through a shell.
        cwd: the folder that the agent works in, or a function that returns a turn's own; by default each
            turn has a private one, which is removed when the turn is closed.
        prompt: returns the prompt, a text or a list of the protocol's content blocks; by default
            `prompt_of`.
        permit: answers a request for permission with the id of an option, or with None to ask people; by
            default people are asked every time.
        environment: how the agent's environment is made; it never contains secrets of CommonGround.
        auth_method: the id of the authentication method to use; by default none is needed.
        mode: the id of the session mode to set; None keeps the agent's default.
        mcp_servers: MCP servers for the agent, objects of the classes in `acp.schema`.
        shown: returns what is public of a tool call, or None; by default `facts_of`.
        thoughts: True makes the agent's thoughts public too, as records of role "thought".
        go_on: the text that precedes the prompt if the agent continues an earlier session.
        start_seconds: how long the agent may take to start and to open a session.
        on_line: gets each line that the agent writes to stderr; by default they go to the worker's.
    """

    argv: tuple[str, ...] = field(converter=_words)
    cwd: Path | Callable[[Turn], Path] | None = field(default=None, kw_only=True)
    prompt: Callable[[Turn], Any] = field(default=prompt_of, kw_only=True)
    permit: Callable[[Permission], str | None] = field(default=ask_people, kw_only=True)
    environment: ChildEnvironment = field(factory=ChildEnvironment, kw_only=True)
    auth_method: str | None = field(default=None, kw_only=True)
    mode: str | None = field(default=None, kw_only=True)
    mcp_servers: Sequence[Any] = field(default=(), kw_only=True)
    shown: Callable[[Mapping[str, Any]], Any] = field(default=facts_of, kw_only=True)
    thoughts: bool = field(default=False, kw_only=True)
    go_on: str = field(default=GO_ON, kw_only=True)
    start_seconds: float = field(default=60.0, kw_only=True)
    on_line: Callable[[str], None] = field(default=write_to_stderr, kw_only=True)
    _sessions: dict[str, Session] = field(factory=dict, init=False, repr=False, eq=False)

    def check(self) -> None:
        """Check that the package, the command and its folder are there, before the worker starts.

        Raises:
            CommandNotFound: the command does not exist or is not executable.
            UsageError: the package or the folder is missing.
        """
        require("acp", "acp")
        if isinstance(self.cwd, Path) and not self.cwd.is_dir():
            raise UsageError(f"there is no folder {self.cwd} for the agent")
        search_path = {**os.environ, **self.environment.added}.get("PATH")
        if not self.argv or shutil.which(self.argv[0], path=search_path) is None:
            raise CommandNotFound(
                f"cannot run {self.argv[0] if self.argv else ''!r}: there is no such command"
            )

    @asynccontextmanager
    async def prepare(self, turn: Turn) -> AsyncIterator[Session]:
        """Start the agent's process; it ends with the block.

        Args:
            turn: the turn.

        Yields:
            The session with the agent.
        """
        require("acp", "acp")
        require_asyncio("the Agent Client Protocol's package")
        await load("cgworker.adapters.acp_session")
        from cgworker.adapters.acp_session import Session

        harness = Harness(turn, agent=Path(self.argv[0]).name)
        folder, mask = self._folder(turn), mask_for(turn.secrets)
        env = self.environment.variables(os.environ, turn.secrets, {})
        child_of = start_child(
            self.argv,
            env=env,
            cwd=folder,
            lease=turn.lease,
            on_line=self.on_line,
            mask=mask,
            pipes_stdio=True,
        )
        try:
            async with child_of as child:
                self._sessions[turn.fingerprint] = session = Session(self, harness, child, folder, mask)
                try:
                    yield session
                finally:
                    del self._sessions[turn.fingerprint]
                    with anyio.CancelScope(shield=True):
                        await session.close()
        except ProcessLimitReached as no_room:  # a full process table is no fault of the turn
            raise Suspending(retry(_NO_ROOM_SECONDS)) from no_room

    async def drive(self, turn: Turn, prepared: Session) -> AsyncGenerator[Any, None]:
        """Send the prompt to the agent, and record what it does until it ends.

        Args:
            turn: the turn.
            prepared: the session.
        """
        async with prepared.harness.running():
            result = await prepared.run(self.prompt(turn))
        yield Output(result)

    async def interrupt(self, turn: Turn, interruption: Interruption) -> bool:
        """Tell the agent to stop; if the turn is still ours, its message so far is kept.

        Args:
            turn: the turn.
            interruption: why the handler is being ended.
        """
        session = self._sessions.get(turn.fingerprint)
        if session is None or interruption.reason in (Reason.LEASE_LOST, Reason.SHUTDOWN):
            return False  # the session is closed by `prepare`
        return await session.cancel()

    def forget(self, turn: Turn) -> None:
        """Remove the turn's own folder.

        Args:
            turn: the turn.
        """
        if self.cwd is None:
            shutil.rmtree(_private_folder(turn), ignore_errors=True)

    def _folder(self, turn: Turn) -> Path:
        if self.cwd is None:
            return make_private_folder(_private_folder(turn)).resolve()
        return (self.cwd if isinstance(self.cwd, Path) else self.cwd(turn)).resolve()


def _private_folder(turn: Turn) -> Path:
    return state_folder("acp") / turn.fingerprint
