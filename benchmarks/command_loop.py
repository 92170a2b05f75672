"""Row 5: `cg worker loop` with a command that does next to nothing, ours and the reference's.

Each works off the queued turns of its own kernel, a process for each agent. The kernel says when each turn
was closed, so that nothing is counted of how a loop begins and ends.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

from attrs import frozen

from benchmarks.load import Caller, callers
from benchmarks.loops import OUR_CG, RUNTIME, cg_of, loops
from benchmarks.measuring import Findings, Options, Row, main
from benchmarks.servers import (
    Agent,
    Server,
    a_postgres,
    a_reference,
    absent,
    kernel_of,
    new_database,
    peer_python,
)

ROW = Row(
    5,
    "`cg worker loop --command sh runtime.sh`: turns a second, and what one takes above its child",
    "≤ 10 ms above the child; ≥ 40 × the reference's turns/s on one agent, ≥ 70 × on four",
)

_AGENTS = 4
_OWN_RUNS = 40
_LOOK_SECONDS = 0.2
_MOST_SECONDS = 60.0
_RUNTIME = """printf '{"text": "hello"}' > "$CG_FINAL_FILE"\n"""


@frozen
class Contestant:
    """A `cg`, its kernel, and how many turns each agent has a round."""

    name: str
    cg: Sequence[str]
    server: Server
    agents: Sequence[Agent]
    turn_count: int


async def measure(options: Options) -> Findings:
    """Turns a second on one agent and on four; the child's own time; the time above it."""
    findings = Findings()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cg-")))
        (folder / RUNTIME).write_text(_RUNTIME)
        postgres = stack.enter_context(a_postgres())
        ours = await stack.enter_async_context(kernel_of(options, postgres))
        contestants = [await _contestant("cgworker", OUR_CG, ours, 100)]
        if python := peer_python("reference"):
            published = a_reference(python, await new_database(postgres), storage="published")
            without_ddl = a_reference(python, await new_database(postgres))
            for name, server in (("reference", published), ("reference, no DDL", without_ddl)):
                theirs = stack.enter_context(server)
                contestants.append(await _contestant(name, cg_of(python), theirs, 5))
        else:
            findings.absent.append(absent("reference"))
        for _ in range(options.rounds):
            child_seconds = _child_seconds(folder)
            findings.add("the child", "its own time", "ms", child_seconds * 1000)
            for contestant in contestants:
                for count in (1, _AGENTS):
                    rate = await _rate(contestant, contestant.agents[:count], folder)
                    findings.add(contestant.name, "turns, by agents", "1/s", rate, at=count)
                    if count == 1:
                        above = 1 / rate - child_seconds
                        findings.add(contestant.name, "a turn above its child", "ms", above * 1000)
    _judge(findings)
    return findings


async def _contestant(name: str, cg: Sequence[str], server: Server, turn_count: int) -> Contestant:
    agents = [await server.admit(f"bench-loop-{secrets.token_hex(2)}") for _ in range(_AGENTS)]
    return Contestant(name, cg, server, agents, turn_count)


def _child_seconds(folder: Path) -> float:
    """What the command takes when it is just run."""
    environment, took = {**os.environ, "CG_FINAL_FILE": str(folder / "final.json")}, []
    for _ in range(_OWN_RUNS):
        begun = time.perf_counter()
        subprocess.run(["sh", folder / RUNTIME], env=environment, check=True)
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


async def _rate(contestant: Contestant, agents: Sequence[Agent], folder: Path) -> float:
    """Turns closed a second, while the loops of all these agents were at work."""
    async with callers(contestant.server, agents) as found:
        turns = await asyncio.gather(*(_dispatched(caller, contestant.turn_count) for caller in found))
    with loops(contestant.cg, contestant.server, agents, folder):
        closes = await asyncio.wait_for(_closes(contestant.server, agents, turns), _MOST_SECONDS)
    begun, over = max(each[0] for each in closes), min(each[-1] for each in closes)
    closed_count = sum(begun < at <= over for each in closes for at in each)
    return closed_count / (over - begun)


async def _dispatched(caller: Caller, count: int) -> list[str]:
    return [(await caller.dispatch(caller.agent))["turn_id"] for _ in range(count)]


async def _closes(server: Server, agents: Sequence[Agent], turns: list[list[str]]) -> list[list[float]]:
    """When the turns of each agent were closed, in order, once all of them are."""
    while True:
        async with callers(server, agents) as found:
            lasts = [await caller.get(f"/turns/{ids[-1]}") for caller, ids in zip(found, turns, strict=True)]
            if all(turn["state"] == "closed" for turn in lasts):
                return [
                    sorted([_instant(await caller.get(f"/turns/{turn_id}")) for turn_id in ids])
                    for caller, ids in zip(found, turns, strict=True)
                ]
        await asyncio.sleep(_LOOK_SECONDS)


def _instant(turn: dict[str, str]) -> float:
    return datetime.fromisoformat(turn["updated_at"]).timestamp()


def _judge(findings: Findings) -> None:
    above = findings.median("cgworker", "a turn above its child")
    findings.judge_most("≤ 10 ms above the child", above, "ms", most=10)
    for count, least in ((1, 40), (_AGENTS, 70)):
        ours, theirs = (
            findings.median(who, "turns, by agents", at=count) for who in ("cgworker", "reference")
        )
        goal = f"≥ {least} × the reference's turns/s, {count} agent{'s' if count > 1 else ''}"
        findings.judge_ratio(goal, ours / theirs, least=least)


if __name__ == "__main__":
    main(ROW, measure)
