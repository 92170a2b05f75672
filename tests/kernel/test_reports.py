"""Work-memory reports: all or nothing, once, and never in the way of dispatches (wire 10)."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from cgworker.kernel.app import Kernel
from tests.kernel.project import Agent, Project


def manifest(request_id: str = "r-1", **fields: Any) -> dict[str, Any]:
    return {"request_id": request_id, "records": [{"role": "note", "payload": {"a": 1}}], **fields}


async def submit(agent: Agent, report: Any) -> httpx.Response:
    return await agent.ask("POST", f"agents/{agent.ref.agent_id}/work-memory-reports", report)


@pytest.fixture
async def reporter(project: Project) -> Agent:
    """An agent that takes no work; reporting needs neither grant nor capability."""
    return await project.agent("reporter", accepts_work=False, capabilities=())


async def turn_count(kernel: Kernel, project: Project) -> int:
    count: int = await kernel.database.fetchval(
        "select turn_count from cg_projects where project_id = $1", project.id
    )
    return count


async def test_a_report_is_a_turn_born_closed(reporter: Agent) -> None:
    """With its manifest, its records, its final payload, and events that anybody can follow."""
    answer = (await submit(reporter, manifest(final_payload={"done": True}))).json()
    turn = await reporter.get(f"turns/{answer['turn']['turn_id']}")
    assert (turn["state"], turn["outcome"], turn["final_payload"]) == ("closed", "succeeded", {"done": True})
    context = await reporter.get(f"turns/{answer['turn']['turn_id']}/context")
    roles = [item["record"]["record_role"] for item in context["semantic_items"]]
    assert roles == ["work_memory_report_manifest", "note"]
    feed = await reporter.get("agents/reporter/feed")
    assert [event["event_type"] for event in feed["items"][1:]] == [
        "turn.spawned",
        "turn.progress_appended",
        "turn.progress_appended",
        "turn.finished",
    ]


async def test_a_repeat_changes_nothing(reporter: Agent, kernel: Kernel, project: Project) -> None:
    """Key order and the spelling of numbers do not make another report; 16 at once are one."""
    answers = await asyncio.gather(*(submit(reporter, manifest()) for _ in range(16)))
    statuses = sorted(answer.json()["status"] for answer in answers)
    assert statuses == ["already_submitted"] * 15 + ["submitted"]
    assert len({answer.json()["turn"]["turn_id"] for answer in answers}) == 1
    spelled = manifest(records=[{"payload": {"a": 1.0}, "role": " note "}])
    assert (await submit(reporter, spelled)).json()["status"] == "already_submitted"
    assert await turn_count(kernel, project) == 1


async def test_another_report_under_the_same_id_is_a_conflict(reporter: Agent) -> None:
    """Whatever differs, it shows in the manifest."""
    await submit(reporter, manifest())
    for changed in (manifest(summary="s"), manifest(final_payload=1), manifest(declared_agent_id="reporter")):
        refused = await submit(reporter, changed)
        message = "cardbox write_key conflict: work-memory-report:reporter:r-1:manifest"
        assert (refused.status_code, refused.json()["message"]) == (409, message)


async def test_a_refused_report_leaves_nothing_behind(
    reporter: Agent, kernel: Kernel, project: Project
) -> None:
    """No number is used, no key is taken (difference 5)."""
    refused = await submit(reporter, manifest(records=[{"role": "note", "payload": None}]))
    assert refused.json()["message"] == "work-memory report record 1 payload is required"
    assert await turn_count(kernel, project) == 0
    assert (await submit(reporter, manifest())).json()["status"] == "submitted"


async def test_reports_and_dispatches_to_one_agent_do_not_deadlock(project: Project) -> None:
    """The reference answers 500 to one in seven of these; here each succeeds, and numbers have no gap."""
    requester = await project.agent("requester")
    worker = await project.agent("worker")

    async def dispatch(number: int) -> int:
        return (
            await requester.ask("POST", "turns:dispatch", requester.dispatching(worker, f"k{number}"))
        ).status_code

    async def report(number: int) -> int:
        return (await submit(worker, manifest(f"r{number}"))).status_code

    async def work() -> int:
        claim = await worker.claim()
        return 200 if claim is None else (await worker.finish(claim)).status_code

    jobs = [job for number in range(24) for job in (dispatch(number), report(number), work())]
    assert set(await asyncio.gather(*jobs)) == {200}
    turns = (await requester.get("projection/turns", limit=500))["items"]
    assert sorted(turn["project_turn_seq"] for turn in turns) == list(range(1, 49))


HOSTILE: list[dict[str, Any]] = [
    {"records": {}},
    {"records": [None]},
    {"records": [{"role": "a\0", "payload": 1}]},
    {"records": [{"role": "a", "payload": 1, "source_refs": [None]}]},
    {"records": [{"role": "a", "payload": 1, "zz": 1}]},
    {"request_id": None},
    {"request_id": "a\0"},
    {"summary": 1},
    {"declared_agent_id": []},
]


@pytest.mark.parametrize("fields", HOSTILE, ids=str)
async def test_what_is_no_report_is_a_422(reporter: Agent, fields: dict[str, Any]) -> None:
    """Never a 5xx (difference 1)."""
    refused = await submit(reporter, {**manifest(), **fields})
    assert refused.status_code == 422, refused.text


async def test_a_request_id_too_long_for_an_index_is_a_422(reporter: Agent) -> None:
    """There is no limit but the index's."""
    long = "".join(chr(0x4E00 + number % 20000) for number in range(6000))
    assert (await submit(reporter, manifest(long))).status_code == 422
    assert (await submit(reporter, manifest("x" * 900 + "é!"))).status_code == 200


@pytest.mark.parametrize("payload", [0, False, "", "text\0", [], {}, 10**40, {"a": None}], ids=repr)
async def test_a_payload_may_be_any_json_but_null(reporter: Agent, payload: Any) -> None:
    """Scalars too; it comes back as it was sent."""
    answer = await submit(
        reporter, manifest(records=[{"role": "x", "payload": payload}], final_payload=payload)
    )
    turn = await reporter.get(f"turns/{answer.json()['turn']['turn_id']}")
    assert answer.json()["final_payload"] == turn["final_payload"] == payload
