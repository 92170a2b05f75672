"""Row 22: whether the memory of a kernel and of a worker grows over ten minutes of turns.

Turns are dispatched at a fixed rate to sixteen agents of one worker process, whose handler does nothing. The
first minute is not counted, in which most caches fill. The slope is that of a straight line through all
readings; its error is the standard error of the slope.

CPython's lists of freed tuples go on filling for long, up to 2,000 tuples of each length up to 20. So a
process may grow, but by less than if each turn left an object: no block of memory has less than 16 bytes.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from benchmarks.load import callers
from benchmarks.measuring import Findings, Options, Row, main, memory_mib
from benchmarks.servers import ROOT, Agent, Server, kernel_of, running_postgres

ROW = Row(
    22,
    "memory of a kernel and of a worker process over ten minutes of 300 turns a second",
    "each grows by less than 16 bytes a turn, the smallest block of memory",
)

_AGENTS = 16
_TURNS_A_SECOND = 300
_WARM_UP_SECONDS = 60.0
_SECONDS = 600.0
_MOST_BYTES_A_TURN = 16.0
_READING_SECONDS = 5.0
_PROGRAM = Path(__file__).with_name("queues") / "worker_turns.py"

Readings = list[tuple[float, float]]
"""Seconds since the begin and MiB."""


async def measure(options: Options) -> Findings:
    """The memory at the begin and at the end, and its slope with an error."""
    findings = Findings()
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        kernel = await stack.enter_async_context(kernel_of(options, postgres))
        agents = [await kernel.admit(f"bench-{number}", capacity=10) for number in range(_AGENTS)]
        worker = await asyncio.create_subprocess_exec(
            sys.executable, str(_PROGRAM), cwd=ROOT, stdin=asyncio.subprocess.PIPE
        )
        stack.callback(_end, worker)
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(_asked(kernel, agents)).encode())
        worker.stdin.close()
        load = asyncio.create_task(_dispatch(kernel, agents))
        stack.callback(load.cancel)
        pids = {"worker": worker.pid, **({} if kernel.pid is None else {"kernel": kernel.pid})}
        readings = await _read(pids, load)
    for name, read in readings.items():
        _judge(findings, name, read)
    return findings


def _asked(kernel: Server, agents: Sequence[Agent]) -> dict[str, object]:
    named = [
        {"token": agent.token, "project_id": agent.ref.project_id, "agent_id": agent.ref.agent_id}
        for agent in agents
    ]
    return {"url": kernel.url, "agents": named, "count": sys.maxsize}


def _end(worker: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        worker.kill()


async def _dispatch(kernel: Server, agents: Sequence[Agent]) -> None:
    """Dispatch turns to all agents at the rate, until cancelled."""
    async with callers(kernel, agents) as found:
        begun, count = time.monotonic(), 0
        while True:
            await asyncio.gather(*(caller.dispatch(caller.agent) for caller in found))
            count += len(found)
            await asyncio.sleep(begun + count / _TURNS_A_SECOND - time.monotonic())


async def _read(pids: dict[str, int], load: asyncio.Task[None]) -> dict[str, Readings]:
    """Read the memory of processes while the load goes on.

    Raises:
        Exception: the load failed.
    """
    readings: dict[str, Readings] = {name: [] for name in pids}
    await asyncio.wait([load], timeout=_WARM_UP_SECONDS)
    begun = time.monotonic()
    while (seconds := time.monotonic() - begun) <= _SECONDS:
        for name, pid in pids.items():
            readings[name].append((seconds, memory_mib(pid)))
        if load.done():
            await load
        await asyncio.wait([load], timeout=_READING_SECONDS)
    return readings


def _judge(findings: Findings, name: str, readings: Readings) -> None:
    slope, error = slope_of(readings)
    bytes_a_turn = 2**20 / _TURNS_A_SECOND
    findings.add(name, "memory at the begin", "MiB", readings[0][1])
    findings.add(name, "memory at the end", "MiB", readings[-1][1])
    findings.add(name, "slope", "MiB/h", slope * 3600)
    findings.add(name, "the slope's error", "MiB/h", error * 3600)
    findings.judge(
        f"{name}: less than {_MOST_BYTES_A_TURN:g} bytes a turn",
        f"{slope * bytes_a_turn:.1f} ± {2 * error * bytes_a_turn:.1f} bytes",
        is_met=slope * bytes_a_turn < _MOST_BYTES_A_TURN,
    )


def slope_of(readings: Readings) -> tuple[float, float]:
    """Return the slope of a line through the readings, and its standard error, in MiB a second."""
    times, sizes = zip(*readings, strict=True)
    slope, intercept = statistics.linear_regression(times, sizes)
    rest = sum((size - intercept - slope * at) ** 2 for at, size in readings)
    middle = statistics.fmean(times)
    spread = sum((at - middle) ** 2 for at in times)
    return slope, (rest / (len(readings) - 2) / spread) ** 0.5


if __name__ == "__main__":
    main(ROW, measure, rounds=1)
