"""Row 10, the kernel's half: what a kernel's process holds in memory, idle and under the load of row 1."""

from __future__ import annotations

from contextlib import AsyncExitStack

from benchmarks.closed_turns import CONNECTIONS, closed_a_second
from benchmarks.load import callers
from benchmarks.measuring import Findings, Options, Row, main, memory_mib
from benchmarks.servers import Server, a_postgres, a_reference, absent, kernel_of, new_database, peer_python

ROW = Row(10, "kernel memory under the load of row 1", "≤ 110 MiB")

_SECONDS = 4.0


async def measure(options: Options) -> Findings:
    """The resident memory of our kernel and the reference's after each round of load."""
    findings = Findings()
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(a_postgres())
        servers = {"cgworker": await stack.enter_async_context(kernel_of(options, postgres))}
        if python := peer_python("reference"):
            servers["reference"] = stack.enter_context(a_reference(python, await new_database(postgres)))
        else:
            findings.absent.append(absent("reference"))
        for name, server in servers.items():
            await _measure(name, server, options.rounds, findings)
    findings.judge_most("≤ 110 MiB", findings.median("cgworker", "under load"), "MiB", most=110)
    return findings


async def _measure(name: str, server: Server, rounds: int, findings: Findings) -> None:
    if server.pid is None:
        findings.notes.append(f"the memory of {server.url} cannot be seen from here")
        return
    findings.add(name, "idle", "MiB", memory_mib(server.pid))
    agents = [await server.admit(f"bench-{number}") for number in range(CONNECTIONS)]
    async with callers(server, agents) as found:
        for _ in range(rounds):
            await closed_a_second(found, _SECONDS)
            findings.add(name, "under load", "MiB", memory_mib(server.pid))


if __name__ == "__main__":
    main(ROW, measure)
