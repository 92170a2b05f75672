"""Row 4: how long a turn waits for an idle worker: dispatch accepted → the handler's first line.

Accepted is when the dispatch, or the queueing of a job, was answered. How long that took is told beside it,
so that nobody looks quick by accepting late.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from benchmarks.load import callers
from benchmarks.loops import RUNTIME, cg_of, loops
from benchmarks.measuring import Findings, Options, Row, main
from benchmarks.servers import (
    ROOT,
    Server,
    absent,
    kernel_of,
    new_database,
    peer_python,
    running_postgres,
    running_reference,
)

ROW = Row(
    4, "pick-up by an idle worker: dispatch accepted → handler running", "p50 ≤ pgqueuer's; p95 ≤ 15 ms"
)

_PROGRAMS = Path(__file__).with_name("queues")
_WAIT_SECONDS = 20.0
_PAUSE_SECONDS = 0.1  # after it a worker that is told of work is idle
_PEER_PAUSE_SECONDS = 1.5  # and one that looks for it once a second

_TELLS_WHEN = """date +%s.%N > "$HOME/handled"
echo '{}' > "$CG_FINAL_FILE"
"""


@frozen
class Picked:
    """A turn, or a job: when it was given, when that was answered, and when its handler ran; Unix times."""

    given_at: float
    accepted_at: float
    handled_at: float


Contestant = Callable[[], Awaitable[Picked]]


async def measure(options: Options) -> Findings:
    """The middle and the 95th of a hundred pick-ups, and how long the dispatch took."""
    findings = Findings()
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        ours = await stack.enter_async_context(kernel_of(options, postgres))
        contestants = {"cgworker": (await stack.enter_async_context(_our_worker(ours)), 40, _PAUSE_SECONDS)}
        if python := peer_python("queues"):
            queue = _pgqueuer(python, await new_database(postgres))
            contestants["pgqueuer"] = (await stack.enter_async_context(queue), 40, _PAUSE_SECONDS)
        else:
            findings.absent.append(absent("queues"))
        if python := peer_python("reference"):
            dsn = await new_database(postgres)
            theirs = stack.enter_context(running_reference(python, dsn, storage="published"))
            loop = await stack.enter_async_context(_their_loop(python, theirs))
            contestants["reference"] = (loop, 6, _PEER_PAUSE_SECONDS)
        else:
            findings.absent.append(absent("reference"))
        for _ in range(options.rounds):
            for who, (pick_up, count, pause) in contestants.items():
                _note_picks(findings, who, [await _after(pause, pick_up) for _ in range(count)])
    findings.notes.append(
        "the reference's handler is a command of its `cg worker loop`, the others' a function"
    )
    _check_goals(findings)
    return findings


async def _after(pause_seconds: float, pick_up: Contestant) -> Picked:
    """When the worker is idle; not always after as long, so that no rhythm falls in with one of its own."""
    await asyncio.sleep(pause_seconds * random.uniform(0.6, 1.4))
    return await asyncio.wait_for(pick_up(), _WAIT_SECONDS)


def _note_picks(findings: Findings, who: str, picked: list[Picked]) -> None:
    waits = sorted((each.handled_at - each.accepted_at) * 1000 for each in picked)
    findings.add(who, "pick-up, p50", "ms", statistics.median(waits))
    findings.add(who, "pick-up, p95", "ms", waits[int(0.95 * (len(waits) - 1))])
    accepted = statistics.median(each.accepted_at - each.given_at for each in picked)
    findings.add(who, "the dispatch itself, p50", "ms", accepted * 1000)
    both = statistics.median(each.handled_at - each.given_at for each in picked)
    findings.add(who, "both together, p50", "ms", both * 1000)
    findings.add(who, "each pick-up", "ms", *waits)


# ---------------------------------------------------------------- who picks up


@asynccontextmanager
async def _our_worker(server: Server) -> AsyncIterator[Contestant]:
    agent = await server.admit(f"bench-idle-{secrets.token_hex(2)}")
    asked = {
        "url": server.url,
        "token": agent.token,
        "agent_id": agent.ref.agent_id,
        "project_id": server.project_id,
    }
    async with running_program([sys.executable, str(_PROGRAMS / "idle_worker.py")], asked) as process:

        async def pick_up() -> Picked:
            async with callers(server, [agent]) as (caller,):
                given_at = time.time()
                await caller.dispatch(agent)
                accepted_at = time.time()
            return Picked(given_at, accepted_at, (await read_answer(process))["handled_at"])

        yield pick_up


@asynccontextmanager
async def _pgqueuer(python: str, dsn: str) -> AsyncIterator[Contestant]:
    """It queues its jobs itself, on a connection of their own: at each line it is told."""
    async with running_program([python, str(_PROGRAMS / "pgqueuer_idle.py")], {"dsn": dsn}) as process:

        async def pick_up() -> Picked:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            return Picked(**await read_answer(process))

        yield pick_up


@asynccontextmanager
async def _their_loop(python: str, server: Server) -> AsyncIterator[Contestant]:
    agent = await server.admit("bench-idle")
    with tempfile.TemporaryDirectory(prefix="cg-") as folder:
        home, handled = Path(folder), Path(folder) / "handled"
        (home / RUNTIME).write_text(_TELLS_WHEN)
        with loops(cg_of(python), server, [agent], home):

            async def pick_up() -> Picked:
                handled.write_text("")
                async with callers(server, [agent]) as (caller,):
                    given_at = time.time()
                    await caller.dispatch(agent)
                    accepted_at = time.time()
                while not (told := handled.read_text()).endswith("\n"):  # noqa: ASYNC110  # another process
                    await asyncio.sleep(0.02)
                return Picked(given_at, accepted_at, float(told))

            await pick_up()  # it has begun
            yield pick_up


@asynccontextmanager
async def running_program(
    program: list[str], asked: dict[str, Any]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """It is told what it is asked on its first line, and says when it is ready."""
    process = await asyncio.create_subprocess_exec(
        *program, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        await asyncio.wait_for(read_answer(process), _WAIT_SECONDS)
        yield process
    finally:
        process.terminate()
        await process.wait()


async def read_answer(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None
    return json.loads(await process.stdout.readline())


def _check_goals(findings: Findings) -> None:
    ours, theirs = (findings.median(who, "pick-up, p50") for who in ("cgworker", "pgqueuer"))
    came_to = "peer absent" if theirs != theirs else f"{ours:.3g} ms, pgqueuer {theirs:.3g} ms"
    findings.judge("p50 ≤ pgqueuer's", came_to, is_met=ours <= theirs)
    findings.judge_most("p95 ≤ 15 ms", findings.median("cgworker", "pick-up, p95"), "ms", most=15)


if __name__ == "__main__":
    main(ROW, measure)
