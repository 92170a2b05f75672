"""Turns as tasks of protocol 2026-07-28, asked for as any client of that extension does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import anyio
import pytest

pytest.importorskip("mcp_types", reason="mcp 2.3 is not installed here: `make test-mcp` runs these tests")

from mcp.client import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, Request, Result
from pydantic import ConfigDict, Field

from cgworker import KernelClient
from cgworker.adapters.mcp_server import mcp_server
from cgworker.adapters.mcp_tasks import TASKS
from cgworker.testing import LocalKernel
from tests.adapters.mcp_clients.test_calls import client_of, ended, the_turn
from tests.journeys.conftest import in_state

KEY = "commonground/dispatch-key"

pytestmark = pytest.mark.usefixtures("desk")


class Answer(Result):
    """Any result of a request about tasks, with what it says besides."""

    model_config = ConfigDict(extra="allow")


class CreatedTask(Answer):
    """The result of a call that became a task."""

    result_type: Literal["task"] = Field(alias="resultType")


class AboutTask(Request[dict[str, Any], str]):
    """A request about a task."""


class Tasks(ClientExtension):
    """Declares that the client takes tasks, and keeps the first that it is given."""

    identifier = TASKS

    def __init__(self) -> None:
        self.created: dict[str, Any] = {}

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return (ResultClaim(result_type="task", model=CreatedTask, resolve=self._keep),)

    async def _keep(self, created: CreatedTask, _: ClaimContext) -> CallToolResult:
        self.created = created.model_dump(by_alias=True)
        return CallToolResult(content=[])


async def begun(client: Client, tasks: Tasks, tool: str, arguments: Any = None, meta: Any = None) -> str:
    """The id of the task that a call became."""
    await client.call_tool(tool, arguments or {}, meta=meta)
    return str(tasks.created["taskId"])


async def about(client: Client, verb: str, task_id: str, **more: Any) -> dict[str, Any]:
    """What the server says to a request about a task."""
    request: Any = AboutTask(method=f"tasks/{verb}", params={"taskId": task_id, **more})
    return (await client.session.send_request(request, Answer)).model_dump(by_alias=True)


async def task_in(client: Client, task_id: str, status: str) -> dict[str, Any]:
    """The task, once it has this status."""
    with anyio.fail_after(60):
        while (task := await about(client, "get", task_id))["status"] != status:
            assert task["status"] in ("working", "input_required"), task
            await anyio.sleep(0.05)
    return task


async def test_a_call_is_a_task_whose_result_comes_later(door: KernelClient) -> None:
    """Its id is the turn's, so that any server can tell how it stands."""
    tasks = Tasks()
    async with client_of(door, extensions=[tasks]) as client:
        task_id = await begun(client, tasks, "desk__turn_order_v1", {"item": "bells", "count": 3})
    assert tasks.created["status"] == "working"
    assert tasks.created["ttlMs"] is None
    async with client_of(door, extensions=[Tasks()]) as client:  # another server, another connection
        task = await task_in(client, task_id, "completed")
    assert task["result"]["structuredContent"] == {"ordered": "3 bells"}
    assert not task["result"]["isError"]


async def test_a_new_task_is_working_even_if_its_turn_has_ended(door: KernelClient) -> None:
    """Here the call is repeated by its key; a quick turn ends before any call is answered."""
    tasks, call = Tasks(), ("desk__turn_order_v1", {"item": "bells", "count": 3}, {KEY: "bells"})
    async with client_of(door, extensions=[tasks]) as client:
        task_id = await begun(client, tasks, *call)
        await task_in(client, task_id, "completed")
        assert await begun(client, tasks, *call) == task_id
    assert tasks.created["status"] == "working"
    assert "result" not in tasks.created


async def test_a_failed_turn_is_a_failed_task(door: KernelClient) -> None:
    """With the report as its error."""
    tasks = Tasks()
    async with client_of(door, extensions=[tasks]) as client:
        task_id = await begun(client, tasks, "desk__turn_fail_v1")
        task = await task_in(client, task_id, "failed")
    assert task["error"]["data"] == {"error": "no_paper"}


async def test_a_question_is_required_input_and_its_answer_an_update(door: KernelClient) -> None:
    """An answer that does not fit is refused by place; a dismissed question stays open."""
    tasks = Tasks()
    async with client_of(door, extensions=[tasks]) as client:
        task_id = await begun(client, tasks, "desk__turn_ship_v1")
        asked = (await task_in(client, task_id, "input_required"))["inputRequests"]
        assert asked["count"]["method"] == "elicitation/create"
        assert asked["count"]["params"]["message"] == "How many?"
        wrong = {"count": {"action": "accept", "content": {"answer": "many"}}}
        with pytest.raises(MCPError, match="answer"):
            await about(client, "update", task_id, inputResponses=wrong)
        await about(client, "update", task_id, inputResponses={"count": {"action": "cancel"}})
        assert (await about(client, "get", task_id))["status"] == "input_required"
        right = {"count": {"action": "accept", "content": {"answer": 3}}, "another": {"action": "decline"}}
        for _ in range(2):
            await about(client, "update", task_id, inputResponses=right)
        task = await task_in(client, task_id, "completed")
    assert task["result"]["structuredContent"] == {"shipped": 3}


async def test_one_update_answers_several_questions(door: KernelClient) -> None:
    """The turn runs between two answers, and none is lost."""
    tasks = Tasks()
    async with client_of(door, extensions=[tasks]) as client:
        task_id = await begun(client, tasks, "desk__turn_both_v1")
        assert set((await task_in(client, task_id, "input_required"))["inputRequests"]) == {"size", "sure"}
        filled = {
            "size": {"action": "accept", "content": {"answer": 42}},
            "sure": {"action": "accept", "content": {"answer": True}},
        }
        await about(client, "update", task_id, inputResponses=filled)
        task = await task_in(client, task_id, "completed")
    assert task["result"]["structuredContent"] == {"size": 42, "sure": True}


async def test_cancelling_a_task_stops_its_turn_and_may_be_repeated(
    kernel: LocalKernel, door: KernelClient
) -> None:
    """Also after its end, when there is nothing to do any more."""
    tasks = Tasks()
    async with client_of(door, extensions=[tasks]) as client:
        task_id = await begun(client, tasks, "desk__turn_wait_v1")
        await in_state(door, await the_turn(kernel, door, "turn.wait.v1"), "running")
        for _ in range(2):
            await about(client, "cancel", task_id)
        await task_in(client, task_id, "cancelled")
        await about(client, "cancel", task_id)
        assert (await about(client, "get", task_id))["status"] == "cancelled"
    assert (await ended(kernel, door, "turn.wait.v1")).outcome == "stopped"


async def test_a_task_goes_on_while_the_kernel_is_away(kernel: LocalKernel, door: KernelClient) -> None:
    """A poll waits for the kernel, and tells how the task stands."""
    tasks = Tasks()
    async with client_of(door, extensions=[tasks]) as client:
        kernel.faults.drop_response("dispatch", times=2)
        task_id = await begun(client, tasks, "desk__turn_order_v1", {"item": "bells", "count": 3})
        kernel.faults.answer("get", times=3)
        await task_in(client, task_id, "completed")
    assert len((await door.projections.turns(kernel.project_id)).items) == 1


@pytest.mark.parametrize("verb", ["get", "update", "cancel"])
async def test_a_strangers_turn_is_no_task(kernel: LocalKernel, door: KernelClient, verb: str) -> None:
    """It is not told apart from one that does not exist; nobody else's work is stopped or answered."""
    stranger = await kernel.dispatch("desk", {}, kind="turn.wait.v1")
    more: dict[str, Any] = {"inputResponses": {}} if verb == "update" else {}
    async with (
        await kernel.agent("other", grants=("turn.stop.any",)) as other,
        client_of(other, extensions=[Tasks()]) as client,
    ):
        for task_id in (stranger.turn_id, "T-99999", "nonsense", "../agents/desk", "T-1\n", "x" * 10_000):
            with pytest.raises(MCPError, match="not found") as refused:
                await about(client, verb, task_id, **more)
            assert refused.value.error.code == -32602
    assert not (await door.turns.get(stranger)).stop_requested


async def test_who_declares_no_tasks_is_told_what_to_declare(door: KernelClient) -> None:
    """The newest protocol answers with the missing capability, an older one has no such method."""
    async with client_of(door) as client:
        with pytest.raises(MCPError) as refused:
            await about(client, "get", "T-1")
        assert refused.value.error.code == -32021
    async with Client(mcp_server(lambda _: door), mode="legacy") as client:
        with pytest.raises(MCPError) as refused:
            await about(client, "get", "T-1")
        assert refused.value.error.code == -32601
