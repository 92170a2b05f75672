"""Row 12: what a private step costs an agent of ten model calls and ten tools, beside a step of DBOS.

Each contestant runs the same agent of the OpenAI Agents SDK twice in turn, alone and with its steps kept, in
a process of its own that asks one scripted model. A step costs the difference, by the number of steps.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from benchmarks.measuring import Findings, Options, Row, main
from benchmarks.pick_up import read_answer, running_program
from benchmarks.servers import (
    ROOT,
    Agent,
    Server,
    absent,
    kernel_of,
    new_database,
    peer_python,
    running_postgres,
)
from cgworker.wire.turns import CONVERSATION_KIND, Dispatch, RootRequest

ROW = Row(
    12,
    "an agent of ten model calls and ten tools with private steps; a turn of 1,000 steps that goes on",
    "≤ 3 ms a step above the agent alone, and ≤ 1/3 of a step of DBOS; ≤ 50 ms CPU to go on",
)

_STEPS = 20
_RUNS = 15
_STEPS_KIND = "turn.steps.v1"
_WAIT_SECONDS = 60.0

Contestant = Callable[[], Awaitable[Any]]


async def measure(options: Options) -> Findings:
    """The median cost of a step of each run, and the CPU time of a second attempt."""
    findings = Findings()
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        model_url = await stack.enter_async_context(_a_model())
        ours = await stack.enter_async_context(kernel_of(options, postgres))
        worker = await stack.enter_async_context(_our_worker(ours, model_url))
        contestants: dict[str, Contestant] = {"cgworker": worker(CONVERSATION_KIND)}
        if python := peer_python("harnesses"):
            asked = {"dsn": await new_database(postgres), "model_url": model_url}
            program = [python, "-m", "benchmarks.harnesses.dbos_steps"]
            contestants["DBOS"] = await stack.enter_async_context(_a_peer(program, asked))
        else:
            findings.absent.append(absent("harnesses"))
        for run in contestants.values():
            await run()  # the first pays for what is loaded late
        for _ in range(options.rounds):
            for who, run in contestants.items():
                _note_picks(findings, who, [await run() for _ in range(_RUNS)])
            took = await worker(_STEPS_KIND)()
            findings.add("cgworker", "CPU to go on after 1,000 steps", "ms", took["cpu_seconds"] * 1000)
    _check_goals(findings)
    return findings


def _note_picks(findings: Findings, who: str, runs: list[dict[str, float]]) -> None:
    above = [(run["kept"] - run["alone"]) / _STEPS * 1000 for run in runs]
    findings.add(who, "a step above the agent alone, p50", "ms", statistics.median(above))
    alone = statistics.median(run["alone"] for run in runs)
    findings.add(who, "the agent alone, a run", "ms", alone * 1000)


@asynccontextmanager
async def _a_model() -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.harnesses.model", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield await asyncio.wait_for(read_answer(process), _WAIT_SECONDS)
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def _our_worker(server: Server, model_url: str) -> AsyncIterator[Callable[[str], Contestant]]:
    agent = await server.admit(
        f"bench-steps-{secrets.token_hex(2)}", capabilities=(CONVERSATION_KIND, _STEPS_KIND)
    )
    asked = {
        "url": server.url,
        "token": agent.token,
        "agent_id": agent.ref.agent_id,
        "project_id": server.project_id,
        "model_url": model_url,
    }
    async with (
        running_program([sys.executable, "-m", "benchmarks.harnesses.cgworker_steps"], asked) as process,
        server.client(agent) as kernel,
    ):

        def run(kind: str) -> Contestant:
            async def dispatched() -> Any:
                await kernel.turns.dispatch(_turn(agent, kind))
                return await asyncio.wait_for(read_answer(process), _WAIT_SECONDS)

            return dispatched

        yield run


def _turn(agent: Agent, kind: str) -> Dispatch:
    key = secrets.token_hex(8)
    return Dispatch(
        requested_by=agent.ref,
        target_agent=agent.ref,
        turn_kind=kind,
        input={},
        dispatch_key=key,
        authority=RootRequest(request_id=key),
    )


@asynccontextmanager
async def _a_peer(program: list[str], asked: dict[str, Any]) -> AsyncIterator[Contestant]:
    async with running_program(program, asked) as process:

        async def run() -> Any:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            return await asyncio.wait_for(read_answer(process), _WAIT_SECONDS)

        yield run


def _check_goals(findings: Findings) -> None:
    what = "a step above the agent alone, p50"
    ours, theirs = (findings.median(who, what) for who in ("cgworker", "DBOS"))
    findings.judge_most("≤ 3 ms a step above the agent alone", ours, "ms", most=3)
    came_to = "peer absent" if theirs != theirs else f"{ours / theirs:.2f} × ({ours:.3g}, {theirs:.3g} ms)"
    findings.judge("≤ 1/3 of a step of DBOS", came_to, is_met=ours <= theirs / 3)
    cpu = findings.median("cgworker", "CPU to go on after 1,000 steps")
    findings.judge_most("≤ 50 ms CPU to go on after 1,000 steps", cpu, "ms", most=50)


if __name__ == "__main__":
    main(ROW, measure)
