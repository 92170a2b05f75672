"""Run a NanoBot as a handler, on asyncio: `cgworker[nanobot]`.

The bot answers a turn in rounds. Work that it delegates in a round becomes child turns; the parent is
suspended until they are closed, and their results are the bot's message of the next round. Each model
request, each tool call and each round, with the bot's session after it, is a private step of the turn.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import sniffio
from attrs import asdict, define, field, frozen

from cgworker.adapters.extras import load, require
from cgworker.adapters.harness import Harness, Usage
from cgworker.adapters.messages import RoundMessages
from cgworker.adapters.tools import ChildTool
from cgworker.deprecation import use_old_names, warn_renamed
from cgworker.durable.children import Child, ChildResult
from cgworker.errors import CommonGroundError, UsageError
from cgworker.handlers.adapter import Adapter, Output
from cgworker.outcome import fail
from cgworker.turn import Turn
from cgworker.wire.converter import dumps
from cgworker.worker.redaction import redact

if TYPE_CHECKING:
    from nanobot import Nanobot

    from cgworker.adapters.nanobot_steps import BotSteps

_TOLD = {"tool.started": "started", "tool.completed": "completed", "tool.failed": "failed"}


def message_of(turn: Turn) -> str:
    """Return the default message: the input's text, or else the input as JSON.

    Args:
        turn: the turn.
    """
    asked = turn.input
    if isinstance(asked, Mapping) and isinstance(asked.get("text"), str):
        return str(asked["text"])
    return asked if isinstance(asked, str) else dumps(asked).decode()


def chat_of(turn: Turn) -> str:
    """Return the name of a turn's chat, from an input that `NanobotCompanion` made.

    Args:
        turn: the turn.
    """
    asked = turn.input
    return str(asked["chat"]) if isinstance(asked, Mapping) and "chat" in asked else turn.fingerprint


@define
class Bot:
    """A bot for one turn.

    Attributes:
        bot: the bot.
        secrets: the keys of its model's endpoints.
        harness: the turn.
        steps: the bot's model requests and tool calls.
        sessions: NanoBot's sessions.
        session_key: NanoBot's name of the session.
        session: the session, as it was after the last round.
        delegated: by name, the work delegated in this round: the tool and its arguments.
    """

    bot: Nanobot
    secrets: tuple[str, ...]
    harness: Harness
    steps: BotSteps
    sessions: Any
    session_key: str
    session: Mapping[str, Any] = field(factory=dict)
    delegated: dict[str, dict[str, Any]] = field(factory=dict)

    def earlier_session(self) -> Mapping[str, Any]:
        """Return the session as earlier turns left it in the workspace."""
        from cgworker.adapters.nanobot_steps import session_json

        return session_json(self.sessions, self.session_key)


@frozen(kw_only=True)
class NanobotAdapter(Adapter[Bot]):
    """Answers turns with a NanoBot: `AdapterHandler(NanobotAdapter(config_path=...))`.

    The reply's text, and a note of each tool call, are streamed into records of role "progress"; the
    deliverable is `{"text": ...}`. What the turn is told meanwhile is the bot's next message.

    Args:
        config_path: NanoBot's `config.json`; by default where NanoBot keeps it.
        workspace: NanoBot's workspace; by default the config's. Its sessions and memory stay there, in
            private.
        model: the model; by default the config's.
        children: agents that the bot may delegate work to, as tools.
        message: returns the message to the bot; by default `message_of`.
        session: returns the name of the session that a turn goes on with, such as `chat_of`; by default each
            turn begins its own. Turns of one session must run one after the other.
        max_rounds: the most rounds of one turn; after them it fails with `too_many_rounds`.
    """

    config_path: Path | None = None
    workspace: Path | None = None
    model: str | None = None
    children: Sequence[ChildTool] = ()
    message: Callable[[Turn], str] = message_of
    session: Callable[[Turn], str] | None = None
    max_rounds: int = 16

    _old_max_rounds: int | None = field(default=None, alias="most_rounds", kw_only=True, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        use_old_names(self)

    @property
    def most_rounds(self) -> int:
        """The old name of `max_rounds`; deprecated."""
        warn_renamed("NanobotAdapter.most_rounds", "max_rounds")
        return self.max_rounds

    def check(self) -> None:
        """Check that the package and the config are there, before the worker starts.

        Raises:
            UsageError: one is missing.
        """
        require("nanobot", "nanobot")
        if self.config_path is not None and not self.config_path.expanduser().exists():
            raise UsageError(f"there is no NanoBot config at {self.config_path}")

    @asynccontextmanager
    async def prepare(self, turn: Turn) -> AsyncIterator[Bot]:
        """Make a bot for the turn, with a tool for each agent that it may delegate to.

        Args:
            turn: the turn.

        Yields:
            The bot.

        Raises:
            UsageError: this worker runs on trio.
        """
        if sniffio.current_async_library() != "asyncio":
            raise UsageError("NanoBot runs on asyncio alone: run this worker there, anyio's default")
        await load("cgworker.adapters.nanobot_steps", "nanobot.config.loader")
        from cgworker.adapters.nanobot_steps import BotSteps, StepRegistry

        config = self._config()
        harness = Harness(turn, agent="nanobot")
        tools = StepRegistry(steps := BotSteps(harness))
        # In a thread: it loads all tools, which takes seconds the first time.
        bot, sessions = await anyio.to_thread.run_sync(_make_bot, config, tools, steps)
        key = f"commonground:{self.session(turn) if self.session else turn.fingerprint}"
        made = Bot(bot, tuple(_keys_in(config)), harness, steps, sessions, key)
        for child in self.children:
            tools.register_delegate(_tool_for(child, made))
        async with made.bot:
            yield made

    async def drive(self, turn: Turn, prepared: Bot) -> AsyncGenerator[Any, None]:
        """Ask the bot, wait for the work that it delegated, and tell it the results, until it is done.

        Args:
            turn: the turn.
            prepared: the bot.
        """
        async with prepared.harness.running():
            result = await self._talk(turn, prepared)
        yield Output(result)

    async def _talk(self, turn: Turn, made: Bot) -> Any:
        if self.session is not None:
            made.session = await turn.once("nanobot:session", made.earlier_session, private=True)
        told = RoundMessages(turn, "nanobot")
        said = "\n\n".join([self.message(turn), *await told.before(0)])
        for number in range(self.max_rounds):
            ask = _Exchange(turn, made, number, said).ask
            reply = await turn.once(f"nanobot:{number}", ask, private=True)
            if (error := reply.get("error")) is not None:
                return fail({"error": "nanobot_failed", "message": error})
            made.session = reply.get("session", {})
            made.harness.usage = Usage(**reply.get("usage", {}))  # of a round that was kept as well
            results = await turn.children(self._children_of(reply["given"])) if reply["given"] else {}
            news = [] if number + 1 == self.max_rounds else await told.before(number + 1)
            if not reply["given"] and not news:
                return {"text": reply["text"]}
            said = _next_message(self.message(turn), reply["given"], results, news)
        return fail({"error": "too_many_rounds", "rounds": self.max_rounds})

    def _children_of(self, calls: Mapping[str, Mapping[str, Any]]) -> dict[str, Child]:
        found = {tool.name: tool for tool in self.children}
        return {name: found[call["tool"]].child(call["arguments"]) for name, call in calls.items()}

    def _config(self) -> Any:
        from nanobot.config.loader import load_config, resolve_config_env_vars

        path = self.config_path.expanduser().resolve() if self.config_path else None
        config = resolve_config_env_vars(load_config(path), config_path=path)
        if self.workspace is not None:
            config.agents.defaults.workspace = str(self.workspace.expanduser().resolve())
        if self.model is not None:
            config.agents.defaults.model_preset = None
            config.agents.defaults.model = self.model
        return config


@frozen
class _Exchange:
    """One message to the bot."""

    turn: Turn
    made: Bot
    number: int
    said: str

    async def ask(self) -> dict[str, Any]:
        """Return the bot's reply and what it delegated, or the error that it ended with."""
        from cgworker.adapters.nanobot_steps import restore_session, session_json

        # What a round that was cut off left in the session would come twice.
        key = self.made.session_key
        restore_session(self.made.sessions, key, self.made.session)
        self.made.delegated.clear()
        try:
            text = await self._run(key)
        except CommonGroundError:  # a lost lease or a refusal of the kernel is no fault of the bot
            raise
        except Exception as failed:
            self._raise_failure()
            secrets = (*self.turn.secrets, *self.made.secrets)
            return {"error": redact(f"{type(failed).__name__}: {failed}", secrets)}
        self._raise_failure()
        given = {f"{self.number}:{name}": call for name, call in self.made.delegated.items()}
        session, usage = session_json(self.made.sessions, key), asdict(self.made.harness.usage)
        return {"text": text, "given": given, "session": session, "usage": usage}

    def _raise_failure(self) -> None:
        if self.made.steps.failure is not None:
            raise self.made.steps.failure

    async def _run(self, key: str) -> str:
        text = ""
        async with self.turn.stream() as out:
            async for event in self.made.bot.stream(self.said, session_key=key):
                if event.type == "text.delta":
                    await out.write(event.delta)
                elif event.type in _TOLD:
                    await out.flush()
                    await self.turn.record({"tool": event.name, "state": _TOLD[event.type]})
                elif event.type == "run.completed":
                    text = event.content
                    if event.result is not None and event.result.error:
                        raise RuntimeError(event.result.error)
        return text


def _make_bot(config: Any, tools: Any, steps: BotSteps) -> tuple[Nanobot, Any]:
    """Make a bot as `Nanobot.from_config` does, but with our tools and steps; return its sessions too."""
    from nanobot import Nanobot
    from nanobot.agent.loop import AgentLoop
    from nanobot.agent.tools.mcp import MCPProvider
    from nanobot.providers.factory import make_provider

    provider = steps.wrap_provider(make_provider(config), config.agents.defaults.model)
    loop = AgentLoop.from_config(config, tool_registry=tools, provider=provider)
    bot = Nanobot(loop, config=config, mcp_provider=MCPProvider.from_config(config, tools))
    return bot, loop.sessions


def _keys_in(config: Any) -> Iterator[str]:
    for provider in config.providers.model_dump().values():
        if isinstance(provider, dict) and provider.get("api_key"):
            yield provider["api_key"]


def _tool_for(child: ChildTool, made: Bot) -> Any:
    """Return a tool that delegates work; its results come in the next round."""
    from nanobot.agent.tools.base import Tool

    class Delegate(Tool):  # type: ignore[misc]  # the package has no types
        @property
        def name(self) -> str:
            return child.name

        @property
        def description(self) -> str:
            return child.description

        @property
        def parameters(self) -> dict[str, Any]:
            return dict(child.parameters)

        async def execute(self, **arguments: Any) -> str:
            name = f"{child.name}:{len(made.delegated)}"
            made.delegated[name] = {
                "tool": child.name,
                "arguments": arguments,
            }
            return f"{child.agent_id} has it. End your reply now; the result will be told to you."

    return Delegate()


def _next_message(
    question: str,
    calls: Mapping[str, Mapping[str, Any]],
    results: Mapping[str, ChildResult],
    news: Sequence[str],
) -> str:
    """Return the message of the next round. It repeats the question, for a machine without the session."""
    parts = [f"You were asked: {question}"]
    if calls:
        listed = [
            {**calls[name], "outcome": result.outcome, "result": result.payload}
            for name, result in results.items()
        ]
        parts += ["You gave work to others, and this is what came of it:\n" + dumps(listed).decode()]
    if news:
        parts += ["You have been told since:", *news]
    return "\n\n".join([*parts, "Go on with that, and answer."])
