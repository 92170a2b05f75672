"""NanoBot's bus and its own WebSocket channel before an agent of a real kernel."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import nanobot.agent.tools.mcp  # noqa: F401  # takes seconds, which are no part of a test's turn
import pytest
from nanobot.bus.events import InboundMessage
from nanobot.bus.queue import MessageBus
from nanobot.channels.manager import ChannelManager
from nanobot.config.schema import Config
from websockets.asyncio.client import ClientConnection, connect

from cgworker import AdapterHandler, KernelClient, Turn, TurnRef, Worker, WorkerOptions, answer_question
from cgworker.adapters.nanobot import NanobotAdapter, chat_of
from cgworker.adapters.nanobot_companion import NanobotCompanion
from cgworker.adapters.tools import ChildTool
from cgworker.testing import LocalKernel
from tests.adapters.endpoint import calls, endpoint, says
from tests.adapters.nanobot_home import anyio_backend, own_folders
from tests.journeys.conftest import in_state, working
from tests.kernels import NewProject

__all__ = ["anyio_backend", "own_folders"]

OPTIONS = WorkerOptions(concurrency=1, wait_seconds=5)
EXPERT = ChildTool(name="ask_expert", description="Ask the expert on numbers.", agent_id="expert")


@pytest.fixture
async def kernel(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    async with new_project(lease_seconds=30) as kernel:
        yield kernel


@pytest.fixture
async def door(kernel: LocalKernel) -> AsyncIterator[KernelClient]:
    """The agent that dispatches what comes from the channels."""
    async with await kernel.agent("door", grants=["turn.resume.any", "turn.stop.any"]) as door:
        yield door


@asynccontextmanager
async def running(companion: NanobotCompanion) -> AsyncIterator[None]:
    """The companion, until the block ends."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(companion.run)
        yield
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def channels(bus: MessageBus, folder: Path) -> AsyncIterator[str]:
    """NanoBot's own channels, as its config has them; yields the address of the one for WebSockets."""
    config = Config()
    config.agents.defaults.workspace = str(folder / "gateway")
    config.channels.websocket = {"port": 0, "websocketRequiresToken": False, "streaming": False}
    manager = ChannelManager(config, bus, config_path=folder / "config.json", webui_static_dist=False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(manager.start_all)
        channel: Any = manager.channels["websocket"]
        with anyio.fail_after(30):
            while getattr(channel, "_server", None) is None:  # noqa: ASYNC110  # it tells nobody
                await anyio.sleep(0.02)
        yield f"ws://127.0.0.1:{channel._server.sockets[0].getsockname()[1]}/"  # noqa: SLF001
        await manager.stop_all()


async def heard(socket: ClientConnection, event: str) -> Any:
    """The next event of a kind that the client gets."""
    with anyio.fail_after(60):
        while (got := json.loads(await socket.recv()))["event"] != event:
            pass
    return got


async def dispatched(door: KernelClient) -> TurnRef:
    """The first turn that the companion dispatches."""
    project_id = door.agent.project_id  # type: ignore[union-attr]
    with anyio.fail_after(30):
        while not (turns := await door.projections.turns(project_id)).items:  # noqa: ASYNC110  # it can only be asked
            await anyio.sleep(0.05)
    return TurnRef(project_id=project_id, turn_id=turns.items[-1].turn_id)


def said(text: str, **how: Any) -> InboundMessage:
    return InboundMessage(channel="test", sender_id="ann", chat_id="7", content=text, **how)


async def reply(bus: MessageBus) -> str:
    with anyio.fail_after(60):
        sent = await bus.consume_outbound()
    assert (sent.channel, sent.chat_id) == ("test", "7")
    return str(sent.content)


async def test_a_message_in_a_channel_becomes_a_turn_whose_final_is_the_reply(
    kernel: LocalKernel, door: KernelClient, tmp_path: Path
) -> None:
    """The bot gives work to another agent: its turn is suspended, resumed, and takes the result in."""
    config = tmp_path / "nanobot.json"
    script = [
        calls(("ask_expert", {"n": 7})),
        says("asked"),
        says("the expert says 49"),
        says("as I said: 49"),
    ]
    async with await kernel.agent("desk") as desk, await kernel.agent("expert") as expert:
        helper = Worker(expert, options=OPTIONS)

        @helper.turn()
        async def square(_: Turn, asked: dict[str, int]) -> dict[str, int]:
            return {"square": asked["n"] ** 2}

        with endpoint(*script) as model:
            provider = {"apiKey": "none", "apiBase": model.base_url}
            defaults = {"model": "scripted", "provider": "custom"}
            config.write_text(
                json.dumps({"agents": {"defaults": defaults}, "providers": {"custom": provider}})
            )
            bot = NanobotAdapter(
                config_path=config, workspace=tmp_path / "bot", children=[EXPERT], session=chat_of
            )
            async with (
                working(Worker(desk, AdapterHandler(bot), options=OPTIONS)),
                running(NanobotCompanion(door, "desk", bus := MessageBus())),
                channels(bus, tmp_path) as url,
                connect(url) as socket,
            ):
                await socket.send("what is 7 squared?")
                first = await dispatched(door)
                await in_state(door, first, "suspended")
                async with working(helper):
                    assert (await heard(socket, "message"))["text"] == "the expert says 49"
                await heard(socket, "turn_end")
                await socket.send("say it again")
                assert (await heard(socket, "message"))["text"] == "as I said: 49"
        kinds = [event.event_type for event in (await door.turns.feed(first)).items]
    assert "turn.resumed" in kinds[kinds.index("turn.suspended") :]
    assert kinds[-1] == "turn.finished"
    second = json.dumps(model.requests[3]["messages"])
    assert "what is 7 squared?" in second  # one chat, one session
    assert "the expert says 49" in second


@pytest.fixture
async def desk(kernel: LocalKernel) -> AsyncIterator[Worker]:
    """A worker that asks before it answers."""
    async with await kernel.agent("desk") as client:
        worker = Worker(client, options=OPTIONS)

        @worker.turn()
        async def handle(turn: Turn, asked: dict[str, str]) -> dict[str, str]:
            if asked["text"] == "wait":
                await turn.sleep(3600, key="wait")
            if await turn.ask(bool, f"Really {asked['text']}?", key="sure"):
                return {"text": f"{asked['text']}: done"}
            raise ValueError("not wanted")

        yield worker


async def test_a_question_is_put_into_the_chat_and_the_next_message_answers_it(
    desk: Worker, door: KernelClient
) -> None:
    """One that is no answer is said so; a chat's further messages wait, and another chat does not."""
    bus = MessageBus()
    async with working(desk), running(NanobotCompanion(door, "desk", bus)):
        await bus.publish_inbound(said("tidy"))
        assert await reply(bus) == "Really tidy?"
        await bus.publish_inbound(said("perhaps"))
        assert "Please answer again" in await reply(bus)
        await bus.publish_inbound(said("Yes"))
        await bus.publish_inbound(said("burn"))
        assert await reply(bus) == "tidy: done"
        assert await reply(bus) == "Really burn?"
        await bus.publish_inbound(said("no"))
        assert (await reply(bus)).startswith("This did not work")


async def test_stop_in_the_chat_stops_its_turn(desk: Worker, door: KernelClient) -> None:
    """As in NanoBot itself; without a turn it is a message like others."""
    bus = MessageBus()
    async with working(desk), running(companion := NanobotCompanion(door, "desk", bus)):
        await bus.publish_inbound(said("wait"))
        with anyio.fail_after(30):
            while not any(chat.turn for chat in companion._chats.values()):  # noqa: ASYNC110, SLF001  # it tells nobody
                await anyio.sleep(0.01)
        await bus.publish_inbound(said("/stop"))
        assert await reply(bus) == "Stopped."


async def test_a_companion_that_starts_again_goes_on_with_what_it_took(
    kernel: LocalKernel, desk: Worker, door: KernelClient, tmp_path: Path
) -> None:
    """The message is dispatched once, its question is put again, and its reply comes."""
    route = {"thread": "t", "message_id": "4711"}
    async with working(desk):
        async with running(NanobotCompanion(door, "desk", bus := MessageBus(), folder=tmp_path / "kept")):
            await bus.publish_inbound(said("tidy", metadata=route))
            assert await reply(bus) == "Really tidy?"
        assert "tidy" in next((tmp_path / "kept").iterdir()).read_text()
        async with running(NanobotCompanion(door, "desk", bus := MessageBus(), folder=tmp_path / "kept")):
            assert await reply(bus) == "Really tidy?"
            await bus.publish_inbound(said("yes"))
            with anyio.fail_after(30):
                sent = await bus.consume_outbound()
                while list((tmp_path / "kept").iterdir()):  # noqa: ASYNC110  # removed after the reply
                    await anyio.sleep(0.01)
    assert (sent.content, sent.metadata["thread"]) == ("tidy: done", "t")
    assert len((await door.projections.turns(kernel.project_id)).items) == 1


async def test_a_turn_that_was_closed_while_no_companion_ran_is_replied_to(
    desk: Worker, door: KernelClient, tmp_path: Path
) -> None:
    """Somebody else has answered its question, which is not put into the chat again."""
    async with working(desk):
        async with running(NanobotCompanion(door, "desk", bus := MessageBus(), folder=tmp_path)):
            await bus.publish_inbound(said("tidy"))
            assert await reply(bus) == "Really tidy?"
            turn = await dispatched(door)
        await answer_question(door, turn, True)
        await in_state(door, turn, "closed")
        async with running(NanobotCompanion(door, "desk", bus := MessageBus(), folder=tmp_path)):
            assert await reply(bus) == "tidy: done"
            await bus.publish_inbound(said("burn"))
            assert await reply(bus) == "Really burn?"


async def test_a_companion_without_the_grants_says_that_it_could_not(
    kernel: LocalKernel, desk: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """To the chat in general, to the log in full; the question stays open, for others too."""
    async with (
        await kernel.agent("door") as door,
        working(desk),
        running(NanobotCompanion(door, "desk", bus := MessageBus())),
    ):
        await bus.publish_inbound(said("tidy"))
        assert await reply(bus) == "Really tidy?"
        await bus.publish_inbound(said("yes"))
        assert await reply(bus) == "The answer could not be given. Please answer again."
        assert "turn.resume.any" in caplog.text
        await bus.publish_inbound(said("/stop"))
        assert await reply(bus) == "It could not be stopped."


async def test_what_the_kernel_refuses_is_said_and_the_chat_goes_on(
    desk: Worker, door: KernelClient, tmp_path: Path
) -> None:
    """Also what raises in `input=`. The message is not tried again: it would fail again."""

    def input_of(message: InboundMessage) -> Any:
        return {"text": message.content} if message.content != "bad" else 1 / 0

    bus = MessageBus()
    async with working(desk), running(NanobotCompanion(door, "desk", bus, input=input_of, folder=tmp_path)):
        await bus.publish_inbound(said("bad"))
        assert await reply(bus) == "This message could not be worked."
        await bus.publish_inbound(said("tidy"))
        assert await reply(bus) == "Really tidy?"
    async with running(NanobotCompanion(door, "nobody", bus, folder=tmp_path / "other")):
        await bus.publish_inbound(said("tidy"))
        assert await reply(bus) == "This message could not be worked."
