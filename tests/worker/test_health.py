"""The health endpoint: ready means that a turn could be run now."""

from __future__ import annotations

from pathlib import Path

import anyio
import httpx
import pytest

from cgworker import CommandHandler, KernelClient, TurnRef, Worker, WorkerOptions
from cgworker.events import (
    ClaimingFailed,
    ClaimingRecovered,
    Event,
    HandlerStuck,
    WorkerDraining,
    WorkerStarted,
    combine_listeners,
)
from cgworker.worker.process.health import WorkerHealth, serve_health
from tests.turns import AGENT

TURN = TurnRef(project_id="cg-demo", turn_id="T-1")

STARTED = WorkerStarted(
    agent=AGENT, kernel="k", concurrency=1, grace_seconds=1, max_attempts=5, time_limit_seconds=None
)
FAILED = ClaimingFailed(agent=AGENT, error="no kernel", retry_seconds=1)


def worker(folder: Path, handler: CommandHandler | None = None) -> Worker:
    """A worker that does not run, with its outbox in the folder."""
    kernel = KernelClient("http://127.0.0.1:9", agent=AGENT, token="t")
    return Worker(kernel, handler, options=WorkerOptions(outbox_path=folder / "outbox"))


def after(health: WorkerHealth, *happened: Event) -> WorkerHealth:
    """The health after these events."""
    for event in happened:
        health.note(event)
    return health


async def test_a_worker_is_ready_from_its_start_to_its_drain(tmp_path: Path) -> None:
    """Before and after it claims nothing."""
    desk = worker(tmp_path)
    health = WorkerHealth(desk)
    assert "does not claim" in str(await health.fault())
    after(health, STARTED)
    assert await health.fault() is None
    after(health, WorkerDraining(agent=AGENT, held_count=0, grace_seconds=1))
    assert "does not claim" in str(await health.fault())


@pytest.mark.parametrize(("failing_seconds", "ready"), [(0.0, False), (60.0, True)])
async def test_claiming_may_fail_for_a_while(tmp_path: Path, failing_seconds: float, ready: bool) -> None:
    """A restart of the kernel does not make its workers unready; an outage does, until it is over."""
    desk = worker(tmp_path)
    health = WorkerHealth(desk, failing_seconds=failing_seconds)
    after(health, STARTED, FAILED)
    assert (await health.fault() is None) is ready
    after(health, ClaimingRecovered(agent=AGENT))
    assert await health.fault() is None


@pytest.mark.parametrize(
    ("concurrency", "status", "named"), [(1, 200, "troubles"), (None, 503, "faults")]
)  # a worker whose concurrency is its agent's capacity has to ask for that before it can claim
async def test_a_kernel_that_does_not_answer_is_told_from_one_without_work(
    tmp_path: Path, concurrency: int | None, status: int, named: str
) -> None:
    """With the error, also while the worker counts as ready, or has not begun yet."""
    kernel = KernelClient("http://127.0.0.1:9", agent=AGENT, token="t")
    options = WorkerOptions(outbox_path=tmp_path / "outbox", concurrency=concurrency)
    desk = Worker(kernel, CommandHandler(["true"]), options=options)
    async with anyio.create_task_group() as running:
        port = await running.start(serve_health, [desk], 0)
        running.start_soon(desk.run)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            with anyio.fail_after(60):
                while "claiming has failed" not in (answer := await client.get("/readyz")).text:  # noqa: ASYNC110
                    await anyio.sleep(0.05)
        assert answer.status_code == status
        assert "refused" in answer.json()[named][str(AGENT)]
        running.cancel_scope.cancel()


async def test_trouble_is_over_when_claiming_works_again_or_is_not_wanted(tmp_path: Path) -> None:
    """What drains does not claim, whatever kept it from that before."""
    for end in (ClaimingRecovered(agent=AGENT), WorkerDraining(agent=AGENT, held_count=0, grace_seconds=1)):
        assert after(WorkerHealth(worker(tmp_path)), STARTED, FAILED, end).trouble() is None


async def test_as_many_stuck_handlers_as_slots_are_a_fault(tmp_path: Path) -> None:
    """Their slots were given to other work, but whoever supervises the worker should start it anew."""
    desk = worker(tmp_path)
    health = WorkerHealth(desk)
    after(health, STARTED, HandlerStuck(turn=TURN, agent=AGENT, attempt=1, stuck_count=1))
    assert "stuck" in str(await health.fault())


async def test_a_missing_command_or_outbox_is_a_fault(tmp_path: Path) -> None:
    """A turn that was claimed now could not be run, or its result not be kept."""
    program = tmp_path / "runtime"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    desk = worker(tmp_path, CommandHandler([str(program)]))
    health = after(WorkerHealth(desk), STARTED)
    assert await health.fault() is None
    program.unlink()
    assert "runtime" in str(await health.fault())

    (tmp_path / "file").touch()
    broken = after(WorkerHealth(worker(tmp_path / "file")), STARTED)
    assert "outbox" in str(await broken.fault())


async def test_the_endpoint_answers_its_two_paths_and_survives_strangers(tmp_path: Path) -> None:
    """Whatever is sent, the next probe is answered."""
    desk = worker(tmp_path)
    async with anyio.create_task_group() as serving:
        port = await serving.start(serve_health, [desk], 0)
        at = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=at, trust_env=False) as client:
            assert (await client.get("/healthz")).status_code == 200
            waiting = await client.get("/readyz")
            assert (waiting.status_code, list(waiting.json()["faults"])) == (503, [str(AGENT)])
            assert (await client.get("/etc/passwd")).status_code == 404
            assert (await client.post("/readyz")).status_code == 400
            for noise in (b"\0\xff\r\n\r\n", b"GET\r\n\r\n", b"x" * 20_000, b""):
                async with await anyio.connect_tcp("127.0.0.1", port) as stranger:
                    await stranger.send(noise)
            assert (await client.get("/readyz?verbose")).status_code == 503
        serving.cancel_scope.cancel()


def test_two_listeners_hear_the_same_even_if_the_first_raises() -> None:
    """One listener's fault is not another's silence."""
    heard: list[Event] = []

    def broken(event: Event) -> None:
        raise ValueError(event)

    with pytest.raises(ValueError, match="WorkerStarted"):
        combine_listeners(broken, heard.append)(STARTED)
    assert heard == [STARTED]
