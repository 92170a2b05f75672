"""Measuring: rounds in alternation, what they came to, and the line of JSON that tells it.

Machines are shared and noisy. So whatever is compared is measured in turns within one run, only the median
of the rounds and the ratio of two medians say something, and the CPU time of a process is told beside its
wall time, since neighbours disturb it less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from attrs import define, field, frozen

_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
_PARENT, _TIMES = 1, slice(11, 15)  # of a process in proc(5), after its name


@frozen
class Row:
    """A row of the page: its number, what it measures, and what it should come to."""

    number: int
    title: str
    goal: str


@frozen
class Options:
    """What every row can be told on its command line.

    Attributes:
        rounds: how often each contestant has its turn.
        url: a kernel that runs already, instead of one started here; rows that cannot use it say so.
        project_id: the project there.
        credential_file: the bearer of an agent there that may register agents and issue credentials.
    """

    rounds: int
    url: str | None
    project_id: str
    credential_file: Path | None


@define
class Findings:
    """What a row found out: values by series, goals, and the peers that are not installed."""

    _series: dict[tuple[str, str, str, float | None], list[float]] = field(factory=dict)
    _judged: list[dict[str, Any]] = field(factory=list)
    absent: list[str] = field(factory=list)
    notes: list[str] = field(factory=list)

    def add(self, who: str, what: str, unit: str, *values: float, at: float | None = None) -> None:
        """Values of one round, or of all.

        Args:
            who: the contestant, such as "cgworker" or "pgqueuer".
            what: what is measured, such as "closed turns".
            unit: "1/s", "ms", "MiB"...
            at: where on the axis of a curve, such as the number of connections.
        """
        self._series.setdefault((who, what, unit, at), []).extend(values)

    def median(self, who: str, what: str, *, at: float | None = None) -> float:
        """The median of a series; NaN where there is none, so that no goal is met by it."""
        found = [
            values
            for (its_who, its_what, _, its_at), values in self._series.items()
            if (its_who, its_what, its_at) == (who, what, at)
        ]
        return statistics.median(found[0]) if found else float("nan")

    def judge(self, goal: str, came_to: str, *, is_met: bool) -> None:
        """Whether a goal is met, and what it came to in words."""
        self._judged.append({"goal": goal, "came_to": came_to, "is_met": is_met})

    def judge_ratio(self, goal: str, ratio: float, *, least: float) -> None:
        """As `judge`, for "so many times the peer"; a peer that is absent meets nothing."""
        came_to = "peer absent" if ratio != ratio else f"{ratio:.3g} ×"
        self.judge(goal, came_to, is_met=ratio >= least)

    def judge_most(self, goal: str, value: float, unit: str, *, most: float) -> None:
        """As `judge`, for "at most"."""
        self.judge(goal, f"{value:.3g} {unit}", is_met=value <= most)

    def as_json(self) -> dict[str, Any]:
        """Everything, with the least, middle and greatest value of each series."""
        series = [
            {
                "who": who,
                "what": what,
                "unit": unit,
                **({} if at is None else {"at": at}),
                "min": min(values),
                "median": statistics.median(values),
                "max": max(values),
                "values": [float(f"{value:.5g}") for value in values],
            }
            for (who, what, unit, at), values in self._series.items()
        ]
        return {"series": series, "goals": self._judged, "absent": self.absent, "notes": self.notes}


def main(row: Row, measure: Callable[[Options], Awaitable[Findings]], *, rounds: int = 5) -> None:
    """Run a row from its command line, and print its line."""
    options = _options_of(row, rounds)
    began_at, load, begun = datetime.now(UTC), os.getloadavg(), time.monotonic()
    findings = uvloop.run(_awaited(measure(options)))
    line = {
        "row": row.number,
        "title": row.title,
        "goal": row.goal,
        "commit": _commit(),
        "began_at": began_at.isoformat(timespec="seconds"),
        "took_seconds": round(time.monotonic() - begun, 1),
        "machine": _machine(),
        "load": {"before": load, "after": os.getloadavg()},
        "rounds": options.rounds,
        **findings.as_json(),
    }
    sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


async def _awaited(findings: Awaitable[Findings]) -> Findings:
    return await findings


def _options_of(row: Row, rounds: int) -> Options:
    parser = argparse.ArgumentParser(description=f"Row {row.number}: {row.title}. Goal: {row.goal}.")
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each contestant has its turn")
    parser.add_argument("--url", help="a kernel that runs already")
    parser.add_argument("--project-id", default="cg-demo", help="the project there")
    parser.add_argument("--credential-file", type=Path, help="the bearer of admin-service there")
    given = parser.parse_args()
    if (given.url is None) != (given.credential_file is None):
        parser.error("--url and --credential-file go together")
    return Options(**vars(given))


def _commit() -> str:
    """The commit, with a + if what was measured differs from it; "unknown" outside a repository."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


def _machine() -> dict[str, Any]:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "memory_gib": round(pages * size / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


# ---------------------------------------------------------------- what processes use


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children so far, those that have ended included."""
    return sum(_ticks(process) for process in (_stat_of(pid), *_children_of(pid))) * _TICK_SECONDS


def memory_mib(pid: int) -> float:
    """The resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kib) / 1024


def _children_of(pid: int) -> list[list[str]]:
    everybody = (_stat_of(int(folder.name)) for folder in Path("/proc").glob("[0-9]*"))
    return [process for process in everybody if process and int(process[_PARENT]) == pid]


def _ticks(process: list[str]) -> int:
    return sum(map(int, process[_TIMES]))


def _stat_of(pid: int) -> list[str]:
    """What proc(5) tells of a process from its third field on; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
