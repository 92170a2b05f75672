"""Row 21: what a turn takes whose function runs on Ray, above a direct call of Ray.

One worker program makes a direct call, a turn on Ray and a turn of a plain function, one after the other,
many times. A turn takes from before its dispatch until the kernel has its result.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from pathlib import Path
from typing import Any

from benchmarks.measuring import Findings, Options, Row, main
from benchmarks.pick_up import read_answer, running_program
from benchmarks.servers import ROOT, kernel_of
from cgworker.wire.turns import CONVERSATION_KIND

ROW = Row(
    21,
    "a turn whose function runs on Ray, beside a direct call of Ray",
    "≤ 6 ms above the direct call, p50",
)

_PLAIN_KIND = "turn.plain.v1"
_TRIPLES = 200
_ABOVE = "a turn on Ray above a direct call, p50"
_NAMES = {"direct": "a direct call", "turn": "a turn on Ray", "plain": "a turn of a function"}


async def measure(options: Options) -> Findings:
    """The medians of each round, and the median of the differences of neighbours."""
    findings = Findings()
    if python := _python_with_ray():
        async with kernel_of(options) as server:
            agent = await server.admit("ray", capabilities=(CONVERSATION_KIND, _PLAIN_KIND))
            asked = {"url": server.url, "project_id": server.project_id, "agent_id": agent.ref.agent_id}
            program = [python, "-m", "benchmarks.harnesses.ray_turns"]
            async with running_program(program, {**asked, "token": agent.token}) as process:
                await _make(process, 50)  # the first pay for what is loaded late
                for _ in range(options.rounds):
                    _note_figures(findings, await _make(process, _TRIPLES))
    else:
        findings.absent.append("Ray is not installed: run `make clusters`")
    came_to = findings.median("cgworker", _ABOVE)
    findings.judge_most("≤ 6 ms above the direct call", came_to, "ms", most=6)
    return findings


def _python_with_ray() -> str | None:
    python = Path(os.environ.get("CG_CLUSTERS_PYTHON", ROOT / ".venv-clusters" / "bin" / "python"))
    return str(python) if python.exists() else None


async def _make(process: asyncio.subprocess.Process, count: int) -> Any:
    assert process.stdin is not None
    process.stdin.write(f"{count}\n".encode())
    return await read_answer(process)


def _note_figures(findings: Findings, made: Any) -> None:
    took, cpu = made["took"], made["cpu"]
    for name, what in _NAMES.items():
        findings.add("cgworker", f"{what}, p50", "ms", statistics.median(took[name]) * 1000)
        findings.add("cgworker", f"CPU of the program: {what}", "ms", cpu[name] * 1000)
    above = [turn - call for turn, call in zip(took["turn"], took["direct"], strict=True)]
    findings.add("cgworker", _ABOVE, "ms", statistics.median(above) * 1000)


if __name__ == "__main__":
    main(ROW, measure)
