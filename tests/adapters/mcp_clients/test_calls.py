"""Tools and calls of the MCP server, with the SDK's own client in this process, in both eras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

pytest.importorskip("mcp_types", reason="mcp 2.3 is not installed here: `make test-mcp` runs these tests")

from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult

from cgworker import KernelClient, TurnRef, answer_question
from cgworker.adapters.mcp_server import mcp_server
from cgworker.testing import LocalKernel
from cgworker.wire.turns import TurnSnapshot
from tests.adapters.mcp_clients.conftest import KINDS
from tests.journeys.conftest import closed, in_state

BOTH_ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])
pytestmark = pytest.mark.usefixtures("desk")


def text_in(called: Any) -> str:
    """The text of a result."""
    return "".join(each.text for each in called.content)


def client_of(door: KernelClient, mode: str = "auto", **how: Any) -> Client:
    """A client of a server of its own in this process."""
    return Client(mcp_server(lambda _: door), mode=mode, **how)


def answering(*answers: Any) -> Callable[[Any, ElicitRequestParams], Any]:
    """A user who gives these answers in turn; what is no object is an action."""
    left = list(answers)

    async def callback(_: Any, params: ElicitRequestParams) -> ElicitResult:
        assert isinstance(params, ElicitRequestFormParams)
        said = left.pop(0)
        if isinstance(said, str):
            return ElicitResult.model_validate({"action": said})
        return ElicitResult(action="accept", content=said)

    return callback


async def the_turn(kernel: LocalKernel, door: KernelClient, kind: str) -> TurnRef:
    """The only turn of a kind, once there is one."""
    assert door.agent is not None
    with anyio.fail_after(60):  # a server that is a process starts in some seconds on a busy machine
        after = 0
        while not (page := await door.projections.turns(kernel.project_id, turn_kind=kind)).items:
            news = await door.projections.feed(kernel.project_id, after_ledger_seq=after, wait_seconds=5)
            after = news.next_after_ledger_seq
    (entry,) = page.items
    return TurnRef(project_id=kernel.project_id, turn_id=entry.turn_id)


async def ended(kernel: LocalKernel, door: KernelClient, kind: str) -> TurnSnapshot:
    """The only turn of a kind, once it is closed."""
    return await closed(door, await the_turn(kernel, door, kind))


# ---------------------------------------------------------------- tools


@BOTH_ERAS
async def test_each_offer_is_a_tool_with_its_schema(door: KernelClient, mode: str) -> None:
    """An agent that offers several kinds has a tool for each."""
    async with client_of(door, mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {f"desk__turn_{kind}_v1" for kind in KINDS}
    schema = tools["desk__turn_order_v1"].input_schema
    assert schema["type"] == "object"
    assert schema["$defs"]["Order"]["required"] == ["item", "count"]


# ---------------------------------------------------------------- calls


@BOTH_ERAS
async def test_the_result_of_a_turn_is_that_of_the_call(door: KernelClient, mode: str) -> None:
    """As text, and as a value where it is an object."""
    async with client_of(door, mode) as client:
        called = await client.call_tool("desk__turn_order_v1", {"item": "bells", "count": 3})
    assert called.structured_content == {"ordered": "3 bells"}
    assert text_in(called) == '{"ordered":"3 bells"}'


@BOTH_ERAS
async def test_what_the_turn_tells_is_progress_of_the_call(door: KernelClient, mode: str) -> None:
    """A person sees that something happens, and a client does not give up."""
    told: list[str | None] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        assert (progress > 0, total) == (True, None)
        told.append(message)

    async with client_of(door, mode) as client:
        called = await client.call_tool("desk__turn_story_v1", {}, progress_callback=on_progress)
    assert text_in(called) == "The end."
    assert "Once upon a time" in told


@BOTH_ERAS
async def test_a_failed_turn_is_a_failed_call(door: KernelClient, mode: str) -> None:
    """The model is told the report."""
    async with client_of(door, mode) as client:
        called = await client.call_tool("desk__turn_fail_v1", {})
    assert called.is_error
    assert called.structured_content == {"error": "no_paper"}


@BOTH_ERAS
async def test_arguments_that_do_not_fit_are_told_by_place_and_no_turn_begins(
    kernel: LocalKernel, door: KernelClient, mode: str
) -> None:
    """The model can mend its call."""
    async with client_of(door, mode) as client:
        called = await client.call_tool("desk__turn_order_v1", {"item": "bells", "count": "many"})
    assert called.is_error
    assert "arguments.count" in text_in(called)
    assert [fault["loc"] for fault in called.structured_content["faults"]] == [["arguments", "count"]]
    assert not (await door.projections.turns(kernel.project_id)).items


@BOTH_ERAS
async def test_an_unknown_tool_is_an_error_of_the_protocol(door: KernelClient, mode: str) -> None:
    """No model is to be told that it failed at something that is not there."""
    async with client_of(door, mode) as client:
        with pytest.raises(MCPError, match="Unknown tool: nobody"):
            await client.call_tool("nobody", {})


@BOTH_ERAS
async def test_the_same_call_with_the_same_key_is_one_turn(
    kernel: LocalKernel, door: KernelClient, mode: str
) -> None:
    """A client that lost its connection calls again, and does not order twice."""
    meta: Any = {"commonground/dispatch-key": "order-7"}
    arguments = {"item": "bells", "count": 3}
    for _ in range(2):
        async with client_of(door, mode) as client:
            called = await client.call_tool("desk__turn_order_v1", arguments, meta=meta)
            assert called.structured_content == {"ordered": "3 bells"}
    assert len((await door.projections.turns(kernel.project_id)).items) == 1


@BOTH_ERAS
async def test_a_call_goes_on_when_the_kernel_is_back(
    kernel: LocalKernel, door: KernelClient, mode: str
) -> None:
    """Away at the dispatch and while the call waits: one turn, one result."""
    kernel.faults.drop_response("dispatch", times=2)
    kernel.faults.drop_request("feed", times=2)
    kernel.faults.answer("get", times=2)
    async with client_of(door, mode) as client:
        called = await client.call_tool("desk__turn_order_v1", {"item": "bells", "count": 3})
    assert called.structured_content == {"ordered": "3 bells"}
    assert len((await door.projections.turns(kernel.project_id)).items) == 1


@BOTH_ERAS
async def test_a_number_beyond_a_float_is_in_the_text_alone(door: KernelClient, mode: str) -> None:
    """As a value it would arrive as null."""
    async with client_of(door, mode) as client:
        called = await client.call_tool("desk__turn_huge_v1", {})
    assert called.structured_content is None
    assert text_in(called) == '{"huge":1e400}'


# ---------------------------------------------------------------- questions


@BOTH_ERAS
async def test_a_question_is_asked_of_the_client_until_the_answer_fits(door: KernelClient, mode: str) -> None:
    """By elicitation, or by a result that has the client call again."""
    user = answering({"answer": -0.5}, {"answer": 3})
    async with client_of(door, mode, elicitation_callback=user) as client:
        called = await client.call_tool("desk__turn_ship_v1", {})
    assert called.structured_content == {"shipped": 3}


@BOTH_ERAS
async def test_several_questions_are_all_answered(door: KernelClient, mode: str) -> None:
    """The turn runs between two answers, and none is lost."""
    user = answering({"answer": 42}, {"answer": True})
    async with client_of(door, mode, elicitation_callback=user) as client:
        called = await client.call_tool("desk__turn_both_v1", {})
    assert called.structured_content == {"size": 42, "sure": True}


@BOTH_ERAS
async def test_a_user_can_decline(door: KernelClient, mode: str) -> None:
    """The handler is told, which fails here."""
    async with client_of(door, mode, elicitation_callback=answering("decline")) as client:
        called = await client.call_tool("desk__turn_ship_v1", {})
    assert called.is_error
    assert "declined" in text_in(called)


@BOTH_ERAS
async def test_a_dismissed_question_ends_the_call_and_not_the_turn(
    kernel: LocalKernel, door: KernelClient, mode: str
) -> None:
    """It can be answered from elsewhere."""
    async with client_of(door, mode, elicitation_callback=answering("cancel")) as client:
        called = await client.call_tool("desk__turn_ship_v1", {})
    assert called.is_error
    turn = await the_turn(kernel, door, "turn.ship.v1")
    assert turn.turn_id in text_in(called)
    await answer_question(door, turn, 3)
    assert (await closed(door, turn)).final_payload == {"shipped": 3}


@BOTH_ERAS
async def test_a_client_that_cannot_ask_waits_for_somebody_who_answers(
    kernel: LocalKernel, door: KernelClient, mode: str
) -> None:
    """Such as a person with `cg turn answer`."""

    async def answer() -> None:
        turn = await the_turn(kernel, door, "turn.ship.v1")
        await in_state(door, turn, "suspended")
        await answer_question(door, turn, 5)

    async with client_of(door, mode) as client, anyio.create_task_group() as group:
        group.start_soon(answer)
        called = await client.call_tool("desk__turn_ship_v1", {})
    assert called.structured_content == {"shipped": 5}


async def test_a_question_that_somebody_else_answers_is_taken_back(
    kernel: LocalKernel, door: KernelClient
) -> None:
    """Older clients are asked by a request, which is cancelled then; the call goes on."""

    async def never(_: Any, __: ElicitRequestParams) -> ElicitResult:
        await answer_question(door, await the_turn(kernel, door, "turn.ship.v1"), 5)
        await anyio.sleep_forever()
        raise AssertionError

    async with client_of(door, "legacy", elicitation_callback=never) as client:
        called = await client.call_tool("desk__turn_ship_v1", {})
    assert called.structured_content == {"shipped": 5}


@BOTH_ERAS
async def test_who_may_not_answer_or_stop_is_told_the_grant(kernel: LocalKernel, mode: str) -> None:
    """The operator gives it; the turn waits on."""
    async with (
        await kernel.agent("plain") as plain,
        client_of(plain, mode, elicitation_callback=answering({"answer": 3})) as client,
    ):
        with pytest.raises(MCPError, match=r"turn\.resume\.any"):
            await client.call_tool("desk__turn_ship_v1", {})


@BOTH_ERAS
async def test_a_stopped_turn_is_an_error_that_says_so(
    kernel: LocalKernel, door: KernelClient, mode: str
) -> None:
    """Whoever stopped it."""

    async def stop() -> None:
        assert door.agent is not None
        await door.turns.stop(await the_turn(kernel, door, "turn.wait.v1"), requested_by=door.agent)

    async with client_of(door, mode) as client, anyio.create_task_group() as group:
        group.start_soon(stop)
        called = await client.call_tool("desk__turn_wait_v1", {})
    assert called.is_error
    assert "was stopped" in text_in(called)


async def test_a_state_that_names_a_strangers_turn_is_refused(
    kernel: LocalKernel, door: KernelClient
) -> None:
    """A client sends it back as it likes; what it did not begin is not there for it."""
    turn = await kernel.dispatch("desk", {}, kind="turn.wait.v1")
    async with client_of(door) as client:
        for state in (turn.turn_id, "T-99999", "../..", ""):
            with pytest.raises(MCPError, match="not found"):
                await client.call_tool("desk__turn_ship_v1", {}, request_state=state)


# ---------------------------------------------------------------- cancelling


async def test_a_cancelled_call_stops_its_turn(kernel: LocalKernel, door: KernelClient) -> None:
    """The client says so; the handler is interrupted."""
    async with client_of(door, "legacy") as client:
        with pytest.raises(MCPError):
            await client.call_tool("desk__turn_wait_v1", {}, read_timeout_seconds=1)
        assert (await ended(kernel, door, "turn.wait.v1")).outcome == "stopped"
