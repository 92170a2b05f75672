"""A NanoBot as a handler, on asyncio: `cgworker[nanobot]`.

The bot answers a turn in rounds. What it gives to other agents in a round becomes child turns; the parent is
suspended until they are closed, and their results are what the bot is told in the next round. Each round's
reply is kept as a step (`turn.once`), so that nothing is asked twice after a crash or a suspension.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sniffio
from attrs import define, field, frozen

from cgworker.adapters.extras import require
from cgworker.adapters.tools import ChildTool
from cgworker.durable.children import Child, ChildResult
from cgworker.errors import CommonGroundError, UsageError
from cgworker.handlers.adapter import Adapter, Output
from cgworker.outcome import fail
from cgworker.turn import Turn
from cgworker.wire.converter import dumps
from cgworker.worker.redaction import redact

if TYPE_CHECKING:
    from nanobot import Nanobot

_TOLD = {"tool.started": "started", "tool.completed": "completed", "tool.failed": "failed"}


def message_of(turn: Turn) -> str:
    """What the bot is asked: the input's text, else the input as JSON."""
    asked = turn.input
    if isinstance(asked, Mapping) and isinstance(asked.get("text"), str):
        return str(asked["text"])
    return asked if isinstance(asked, str) else dumps(asked).decode()


@define
class Bot:
    """A bot made ready for one turn.

    Attributes:
        bot: the bot.
        secrets: the keys of its model's endpoints.
        given: by name, what it gave to others in this round: which tool, with which arguments.
    """

    bot: Nanobot
    secrets: tuple[str, ...]
    given: dict[str, dict[str, Any]] = field(factory=dict)


@frozen(kw_only=True)
class NanobotAdapter(Adapter[Bot]):
    """Answers turns with a NanoBot: `AdapterHandler(NanobotAdapter(config_path=...))`.

    The reply's text is streamed into records of role "progress", the use of tools too; the deliverable is
    `{"text": ...}`.

    Args:
        config_path: its `config.json`; by default where NanoBot keeps it.
        workspace: by default the config's. Its sessions and memory are kept there, and stay private.
        model: in place of the config's.
        children: agents it may give work to, as tools.
        message: what it is asked; by default `message_of`.
        most_rounds: how often it may be asked in one turn before the turn fails with `too_many_rounds`.
    """

    config_path: Path | None = None
    workspace: Path | None = None
    model: str | None = None
    children: Sequence[ChildTool] = ()
    message: Callable[[Turn], str] = message_of
    most_rounds: int = 16

    def check(self) -> None:
        """Refuse to start without the package or the config.

        Raises:
            UsageError: one is missing.
        """
        require("nanobot", "nanobot")
        if self.config_path is not None and not self.config_path.expanduser().exists():
            raise UsageError(f"there is no NanoBot config at {self.config_path}")

    @asynccontextmanager
    async def prepare(self, turn: Turn) -> AsyncIterator[Bot]:  # noqa: ARG002
        """A bot of the turn's own, with a tool for each agent it may give work to."""
        if sniffio.current_async_library() != "asyncio":
            raise UsageError("NanoBot runs on asyncio alone: run this worker there, anyio's default")
        config = self._config()
        made = Bot(_make_bot(config, tools := _registry()), tuple(_keys_in(config)))
        for child in self.children:
            tools.register(_tool_for(child, made))
        async with made.bot:
            yield made

    async def drive(self, turn: Turn, prepared: Bot) -> AsyncGenerator[Any, None]:
        """Ask the bot, wait for those it gave work to, and tell it what came of that, until it is done."""
        said = self.message(turn)
        for number in range(self.most_rounds):
            reply = await turn.once(f"nanobot:{number}", _Round(turn, prepared, number, said).ask)
            if (error := reply.get("error")) is not None:
                yield Output(fail({"error": "nanobot_failed", "message": error}))
                return
            if not reply["given"]:
                yield Output({"text": reply["text"]})
                return
            results = await turn.children(self._children_of(reply["given"]))
            said = _results_as_told(self.message(turn), reply["given"], results)
        yield Output(fail({"error": "too_many_rounds", "rounds": self.most_rounds}))

    def _children_of(self, given: Mapping[str, Mapping[str, Any]]) -> dict[str, Child]:
        found = {tool.name: tool for tool in self.children}
        return {name: found[call["tool"]].child(call["arguments"]) for name, call in given.items()}

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
class _Round:
    """One question to the bot."""

    turn: Turn
    made: Bot
    number: int
    said: str

    async def ask(self) -> dict[str, Any]:
        """Its reply, and what it gave to others; or the error it ended with."""
        self.made.given.clear()
        try:
            text = await self._run()
        except CommonGroundError:  # a lost lease, or a kernel that refuses: not the bot's doing
            raise
        except Exception as failed:
            secrets = (*self.turn.secrets, *self.made.secrets)
            return {"error": redact(f"{type(failed).__name__}: {failed}", secrets)}
        given = {f"{self.number}:{name}": call for name, call in self.made.given.items()}
        return {"text": text, "given": given}

    async def _run(self) -> str:
        text = ""
        # The session is the turn's own: what the bot remembers of it survives a restart on this machine.
        key = f"commonground:{self.turn.fingerprint}"
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


def _make_bot(config: Any, tools: Any) -> Nanobot:
    """As `Nanobot.from_config` does it, with a tool registry of ours."""
    from nanobot import Nanobot
    from nanobot.agent.loop import AgentLoop
    from nanobot.agent.tools.mcp import MCPProvider

    loop = AgentLoop.from_config(config, tool_registry=tools)
    return Nanobot(loop, config=config, mcp_provider=MCPProvider.from_config(config, tools))


def _registry() -> Any:
    from nanobot.agent.tools.registry import ToolRegistry

    return ToolRegistry()


def _keys_in(config: Any) -> Iterator[str]:
    for provider in config.providers.model_dump().values():
        if isinstance(provider, dict) and provider.get("api_key"):
            yield provider["api_key"]


def _tool_for(child: ChildTool, made: Bot) -> Any:
    """A tool by which the bot gives work away; the results come in the next round."""
    from nanobot.agent.tools.base import Tool

    class Delegate(Tool):  # type: ignore[misc]  # the package tells no types
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
            made.given[f"{child.name}:{len(made.given)}"] = {"tool": child.name, "arguments": arguments}
            return f"{child.agent_id} has it. End your reply now; the result will be told to you."

    return Delegate()


def _results_as_told(
    asked: str, given: Mapping[str, Mapping[str, Any]], results: Mapping[str, ChildResult]
) -> str:
    """What the bot is told in the next round; whole in itself, for a machine that has no session of it."""
    told = [
        {**given[name], "outcome": result.outcome, "result": result.payload}
        for name, result in results.items()
    ]
    return (
        f"You were asked: {asked}\n\nYou gave work to others, and this is what came of it:\n"
        f"{dumps(told).decode()}\n\nGo on with that, and answer."
    )
