"""Row 10: what a kernel's process holds in memory, idle and under the load of row 1; and an idle worker's."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.closed_turns import CONNECTIONS, closed_a_second
from benchmarks.load import callers
from benchmarks.loops import OUR_CG, RUNTIME, cg_of, embedded, loops
from benchmarks.measuring import Findings, Options, Row, main, memory_mib
from benchmarks.servers import (
    Server,
    absent,
    kernel_of,
    new_database,
    peer_python,
    running_postgres,
    running_reference,
)

ROW = Row(10, "memory of a kernel under the load of row 1, and of an idle worker", "≤ 110 MiB; ≤ 45 MiB")

_LOOP = "idle `cg worker loop`"
_EMBEDDED = "idle `Worker` in a program"

_SECONDS = 4.0
_WORKER_SECONDS = 5.0  # until it has asked what it asks when it starts


async def measure(options: Options) -> Findings:
    """The resident memory of our kernel and the reference's after each round of load."""
    findings = Findings()
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        servers = {"cgworker": await stack.enter_async_context(kernel_of(options, postgres))}
        cgs: dict[str, Sequence[str]] = {"cgworker": OUR_CG}
        if python := peer_python("reference"):
            servers["reference"] = stack.enter_context(
                running_reference(python, await new_database(postgres))
            )
            cgs["reference"] = cg_of(python)
        else:
            findings.absent.append(absent("reference"))
        for name, server in servers.items():
            await _measure(name, server, options.rounds, findings)
            await _measure_loop(name, cgs[name], server, options.rounds, findings)
        await _measure_embedded(servers["cgworker"], options.rounds, findings)
    kernel = findings.median("cgworker", "kernel under load")
    findings.judge_most("kernel ≤ 110 MiB", kernel, "MiB", most=110)
    for what in (_LOOP, _EMBEDDED):
        findings.judge_most(f"{what} ≤ 45 MiB", findings.median("cgworker", what), "MiB", most=45)
    return findings


async def _measure(name: str, server: Server, rounds: int, findings: Findings) -> None:
    if server.pid is None:
        findings.notes.append(f"the memory of {server.url} cannot be seen from here")
        return
    findings.add(name, "idle kernel", "MiB", memory_mib(server.pid))
    agents = [await server.admit(f"bench-{number}") for number in range(CONNECTIONS)]
    async with callers(server, agents) as found:
        for _ in range(rounds):
            await closed_a_second(found, _SECONDS)
            findings.add(name, "kernel under load", "MiB", memory_mib(server.pid))


async def _measure_loop(
    name: str, cg: Sequence[str], server: Server, rounds: int, findings: Findings
) -> None:
    """`cg worker loop`, which has nothing to do."""
    agent = await server.admit("bench-idle")
    with tempfile.TemporaryDirectory(prefix="cg-") as home:
        (Path(home) / RUNTIME).touch()
        for _ in range(rounds):
            with loops(cg, server, [agent], Path(home)) as [pid]:
                await asyncio.sleep(_WORKER_SECONDS)
                findings.add(name, _LOOP, "MiB", memory_mib(pid))


async def _measure_embedded(server: Server, rounds: int, findings: Findings) -> None:
    """A program of a user's with a worker in it, which has nothing to do either."""
    agent = await server.admit("bench-embedded")
    with tempfile.TemporaryDirectory(prefix="cg-") as home:
        for _ in range(rounds):
            with embedded(server, agent, Path(home)) as pid:
                await asyncio.sleep(_WORKER_SECONDS)
                findings.add("cgworker", _EMBEDDED, "MiB", memory_mib(pid))


if __name__ == "__main__":
    main(ROW, measure)
