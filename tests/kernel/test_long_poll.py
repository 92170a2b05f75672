"""Long poll (difference 7): news wakes who waits for it, in every kernel on the database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import asyncpg
import pytest
from attrs import evolve

from cgworker.kernel.app import Kernel, create_app, open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store.postgres.database import Database
from tests.kernel.parked import QUICK_SECONDS, WAIT, waiting
from tests.kernel.project import Agent, Project, client_of


@pytest.fixture
async def requester(project: Project) -> Agent:
    return await project.agent("requester")


@pytest.fixture
async def worker(project: Project) -> Agent:
    return await project.agent("worker", capacity=9)


def asleep_count(kernel: Kernel) -> int:
    """How many requests have read all there was and sleep; one that waits may still be at its first read."""
    listed = kernel.notifier._waiting.values()  # noqa: SLF001  # nothing public tells
    events = {event for each in listed for event in each}
    return sum("waiters" in repr(event) for event in events)


async def while_waiting(
    kernel: Kernel, ask: Callable[[], Awaitable[Any]], act: Callable[[], Awaitable[Any]]
) -> Any:
    """What a waiting request is answered after something happened; it has to be quick about it."""
    before = asleep_count(kernel)
    answer: list[Any] = []

    async def asking() -> None:
        answer.append(await ask())

    with anyio.fail_after(QUICK_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(asking)
            while asleep_count(kernel) == before:  # noqa: ASYNC110  # nobody tells that one waits
                await anyio.sleep(0.005)
            await act()
    return answer[0]


async def test_a_waiting_claim_gets_the_next_dispatch(
    kernel: Kernel, requester: Agent, worker: Agent
) -> None:
    """An idle worker hears of its turn at once."""
    claim = await while_waiting(kernel, lambda: worker.claim(WAIT), lambda: requester.dispatch(worker))
    assert claim["turn_id"] == "T-1"


async def test_the_answer_says_how_long_it_would_have_waited(worker: Agent) -> None:
    """A client sees that waiting is supported; the kernel caps the wait."""
    answer = await worker.ask(
        "POST", "agents/worker/claims:claim", {"agent": worker.json}, {"Prefer": "wait=0"}
    )
    assert (answer.json(), answer.headers["preference-applied"]) == (None, "wait=0")
    for seconds in ("9999", "9" * 4000):
        answer = await worker.ask("GET", "agents/worker/feed", headers={"Prefer": f"wait={seconds}"})
        assert answer.headers["preference-applied"] == "wait=60"


async def test_a_wait_ends(worker: Agent) -> None:
    """Without news the answer is what it would have been."""
    assert await worker.claim({"Prefer": 'wait="1"; foo, return=representation'}) is None


@pytest.mark.parametrize("event", ["resume", "finish", "undrain"])
async def test_all_that_makes_work_wakes_a_claim(
    kernel: Kernel, project: Project, requester: Agent, event: str
) -> None:
    """A turn resumed, a slot given back, an agent that accepts work again."""
    worker = await project.agent("busy", capacity=1)
    held = await requester.dispatch(worker), await worker.claim()
    await requester.dispatch(worker)
    asking = {"agent": worker.json, "requested_by": worker.json}
    if event == "resume":
        await worker.suspend(held[1])
        await worker.finish(await worker.claim())
    if event == "undrain":
        await worker.post("management/agents/busy:drain", asking)
        await worker.finish(held[1])

    async def act() -> None:
        match event:
            case "resume":
                await worker.resume(held[0])
            case "finish":
                await worker.finish(held[1])
            case "undrain":
                await worker.post("management/agents/busy:resume", asking)

    assert await while_waiting(kernel, lambda: worker.claim(WAIT), act) is not None


async def test_claims_for_many_wait_together(
    kernel: Kernel, project: Project, requester: Agent, worker: Agent
) -> None:
    """News for any of the agents ends the wait."""
    other = await project.agent("other")
    items = [{"agent": agent.json, "credential": agent.credential} for agent in (worker, other)]
    answer = await while_waiting(
        kernel,
        lambda: requester.post("claims:claim-many", {"items": items}, WAIT),
        lambda: requester.dispatch(other),
    )
    assert [len(item["body"]) for item in answer["items"]] == [0, 1]


async def test_a_turn_is_waited_for(kernel: Kernel, requester: Agent, worker: Agent) -> None:
    """Until it leaves the state that the caller knows, or closes."""
    turn_id = await requester.dispatch(worker)
    url = f"turns/{turn_id}"
    turn = await while_waiting(kernel, lambda: requester.get(url, WAIT, state="queued"), worker.claim)
    assert turn["state"] == "running"
    claim_at_hand = await worker.get(f"turns/{turn_id}", {"Prefer": "wait=20"}, state="queued")
    assert claim_at_hand["state"] == "running"


async def test_a_wait_for_the_end_of_a_turn(kernel: Kernel, requester: Agent, worker: Agent) -> None:
    """Without a state the wait is for the end; what happens before does not answer it."""
    turn_id = await requester.dispatch(worker)
    claim = await worker.claim()

    async def act() -> None:
        await worker.append(claim, "not the end")
        await worker.finish(claim, final_payload="the end")

    turn = await while_waiting(kernel, lambda: requester.get(f"turns/{turn_id}", WAIT), act)
    assert turn["final_payload"] == "the end"


@pytest.mark.parametrize("feed", ["turns/T-1/feed", "agents/worker/feed", "projection/feed"])
async def test_a_feed_is_waited_for(kernel: Kernel, requester: Agent, worker: Agent, feed: str) -> None:
    """The next event answers it, with nothing that was seen before."""
    await requester.dispatch(worker)
    after = (await requester.get(feed))["next_after_ledger_seq"]
    page = await while_waiting(
        kernel, lambda: requester.get(feed, WAIT, after_ledger_seq=after), lambda: worker.claim()
    )
    assert [event["event_type"] for event in page["items"]] == ["turn.claimed"]


async def test_a_parent_s_feed_hears_of_its_children(kernel: Kernel, requester: Agent, worker: Agent) -> None:
    """Births and ends of children wake who follows the parent."""
    feed = f"turns/{await requester.dispatch(worker)}/feed"
    authority = {"mode": "child_derivation", "parent_claim": await worker.claim()}

    async def news(act: Callable[[], Awaitable[Any]]) -> list[str]:
        after = (await worker.get(feed))["next_after_ledger_seq"]
        page = await while_waiting(kernel, lambda: worker.get(feed, WAIT, after_ledger_seq=after), act)
        return [event["event_type"] for event in page["items"]]

    assert await news(lambda: worker.dispatch(worker, authority=authority)) == ["turn.spawned"]
    child = await worker.claim()
    assert await news(lambda: worker.finish(child)) == ["turn.finished"]


# ---------------------------------------------------------------- several kernels


async def test_a_waiter_hears_of_what_another_kernel_did(
    kernel: Kernel, elsewhere: Project, requester: Agent, worker: Agent
) -> None:
    """Dispatched at one kernel, claimed at another, at once."""
    there = evolve(requester, project=elsewhere)
    assert await while_waiting(kernel, lambda: worker.claim(WAIT), lambda: there.dispatch(worker)) is not None


async def test_kernels_hear_each_other_again_after_a_lost_connection(
    kernel: Kernel, elsewhere: Project, dsn: str, requester: Agent, worker: Agent
) -> None:
    """The connection that listens is made anew, and everybody looks again, so nothing is missed."""
    listening = """
        from pg_stat_activity where datname = current_database() and application_name = 'cgworker notifier'
    """

    async def cut_and_dispatch() -> None:
        connection = await asyncpg.connect(dsn)
        with anyio.fail_after(QUICK_SECONDS):  # a kernel serves while its first connection is being made
            while await connection.fetchval("select count(*)" + listening) < 2:  # noqa: ASYNC110  # it can only be asked
                await anyio.sleep(0.005)
        assert await connection.fetchval("select count(pg_terminate_backend(pid))" + listening) == 2
        await connection.close()
        await evolve(requester, project=elsewhere).dispatch(worker)

    assert await while_waiting(kernel, lambda: worker.claim(WAIT), cut_and_dispatch) is not None


async def test_who_asked_again_has_the_last_word(worker: Agent, requester: Agent, elsewhere: Project) -> None:
    """The first request with a key may be dead: of two woken together the later one's claim holds."""
    for key in "abcdefgh":
        older, newer = [await waiting(worker, {**WAIT, "Idempotency-Key": key}) for _ in range(2)]
        await evolve(requester, project=elsewhere).dispatch(worker)
        await older.claim()
        assert (await worker.finish(await newer.claim())).status_code == 200


async def test_news_read_just_before_the_connection_ended_still_wakes(
    kernel: Kernel,
    requester: Agent,
    worker: Agent,
    elsewhere: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """asyncpg hands a NOTIFY over after it read it; the connection may have gone in between."""
    process = "_process_notification"
    read = getattr(asyncpg.Connection, process)

    def read_and_end(connection: Any, *notice: object) -> None:
        read(connection, *notice)
        connection.terminate()

    async def dispatch() -> None:
        monkeypatch.setattr(asyncpg.Connection, process, read_and_end)
        await evolve(requester, project=elsewhere).dispatch(worker)

    # A fault of a callback is told to the loop, where the test's runner sees it and fails the test.
    assert await while_waiting(kernel, lambda: worker.claim(WAIT), dispatch) is not None


# ---------------------------------------------------------------- who may not look any more

CALLER_GONE = {
    "a revoked credential": (
        "update cg_credentials set status = 'revoked', revoked_at = now() "
        "where project_id = $1 and agent_id = $2",
        (403, "agent credential status is not active: revoked"),
    ),
    "an expired credential": (
        "update cg_credentials set expires_at = now() where project_id = $1 and agent_id = $2",
        (401, "agent credential expired"),
    ),
    "a disabled agent": (
        "update cg_agents set enabled = false where project_id = $1 and agent_id = $2",
        (403, "authenticated agent is disabled"),
    ),
}
WAITS = ["turns/T-1", "turns/T-1/feed", "agents/worker/feed", "projection/feed"]


@pytest.mark.parametrize("at_another", [False, True], ids=["at this kernel", "at another kernel"])
@pytest.mark.parametrize("gone", CALLER_GONE)
@pytest.mark.parametrize("path", [*WAITS, "claims:claim", "claims:claim-many"])
async def test_who_may_not_look_any_more_gets_no_news(
    kernel: Kernel,
    project: Project,
    elsewhere: Project,
    requester: Agent,
    worker: Agent,
    path: str,
    gone: str,
    at_another: bool,
) -> None:
    """It began to wait while it might: it is refused as a new request would be, and claims nothing."""
    statement, refusal = CALLER_GONE[gone]
    there = elsewhere if at_another else project
    reader = await project.agent("reader", capacity=9)
    await requester.dispatch(worker)

    async def ask() -> tuple[int, str]:
        return await waiting_answer(reader, path)

    async def act() -> None:
        await there.kernel.database.execute(statement, project.id, "reader")
        if path.startswith("claims"):
            await evolve(requester, project=there).dispatch(reader)
        else:
            at_work = evolve(worker, project=there)
            await at_work.finish(await at_work.claim())

    assert await while_waiting(kernel, ask, act) == refusal
    assert await project.held_count(reader) == 0


async def waiting_answer(agent: Agent, path: str) -> tuple[int, str]:
    """Status and message of what a request that waits is answered."""
    if path == "claims:claim":
        answer = await agent.ask("POST", f"agents/reader/{path}", {"agent": agent.json}, WAIT)
    elif path == "claims:claim-many":
        items = [{"agent": agent.json, "credential": agent.credential}]
        many = await agent.post(path, {"items": items}, WAIT)
        return many["items"][0]["status"], many["items"][0]["body"]["message"]
    else:
        after = (
            {"after_ledger_seq": (await agent.get(path))["next_after_ledger_seq"]} if "feed" in path else {}
        )
        answer = await agent.ask("GET", path, headers=WAIT, **after)
    return answer.status_code, answer.json()["message"]


# ---------------------------------------------------------------- hanging up and shutting down


async def test_a_waiter_that_hung_up_claims_nothing(kernel: Kernel, requester: Agent, worker: Agent) -> None:
    """Work is not given to somebody who is no longer there."""
    gone, sent = asyncio.Event(), list[Any]()
    body = json.dumps({"agent": worker.json}).encode()
    incoming = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in incoming:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = {**worker.headers, **WAIT, "content-type": "application/json"}
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/v3r1/projects/{worker.project.id}/agents/worker/claims:claim",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "server": ("kernel", 80),
        "scheme": "http",
    }

    async def act() -> None:
        gone.set()

    await while_waiting(kernel, lambda: create_app(kernel)(scope, receive, send), act)
    turn_id = await requester.dispatch(worker)
    assert (await requester.get(f"turns/{turn_id}"))["state"] == "queued"
    assert sent[0]["status"] == 499  # in the figures it is no fault of the kernel


async def test_waiters_are_answered_when_the_kernel_ends(config: KernelConfig, database: Database) -> None:
    """Nobody has to sit out a wait, or be cut off, because a kernel shuts down."""
    async with open_kernel(config, database) as kernel, client_of(kernel) as client:
        worker = await Project(kernel, client).agent("worker")

        async def act() -> None:
            kernel.notifier.close()

        assert await while_waiting(kernel, lambda: worker.claim(WAIT), act) is None


async def test_waiting_holds_no_connection(kernel: Kernel, project: Project) -> None:
    """Many more can wait than there are connections."""
    others = [await project.agent(f"w{n}") for n in range(40)]
    requester = await project.agent("requester")
    async with anyio.create_task_group() as group:
        for agent in others:
            group.start_soon(agent.claim, WAIT)
        with anyio.fail_after(QUICK_SECONDS):
            while kernel.notifier.waiting_count < len(others) or kernel.database.used_count:  # noqa: ASYNC110
                await anyio.sleep(0.005)
        for agent in others:
            await requester.dispatch(agent)
