"""Row 9: how long it takes to begin: importing the package, the command line, a kernel on a warm database."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from resource import RUSAGE_CHILDREN, getrusage

from benchmarks.measuring import Findings, Options, Row, main
from benchmarks.servers import new_database, running_kernel, running_postgres

ROW = Row(
    9,
    "start: `import cgworker`, `cg --version`, a kernel on a warm embedded database",
    "≤ 120 ms; ≤ 250 ms; ≤ 1.5 s",
)

_PROGRAMS = {
    "import cgworker": ["-c", "import cgworker"],
    "import Worker": ["-c", "from cgworker import Worker"],
    "cg --version": ["-m", "cgworker", "--version"],
}


async def measure(options: Options) -> Findings:
    """The wall and CPU time of whole processes, with the interpreter's own; a kernel's until it is ready."""
    findings = Findings()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cg-"))
        dsn = await new_database(stack.enter_context(running_postgres()))
        with running_kernel(dsn):  # migrates the database and seeds the project
            pass
        for _ in range(options.rounds):
            for name, arguments in _PROGRAMS.items():
                wall, cpu = _run([sys.executable, *arguments], folder)
                findings.add("cgworker", name, "ms", wall * 1000)
                findings.add("cgworker", f"{name}, CPU", "ms", cpu * 1000)
            begun = time.perf_counter()
            with running_kernel(dsn):
                findings.add("cgworker", "kernel ready", "s", time.perf_counter() - begun)
    findings.notes.append(
        "the embedded PostgreSQL runs already when the kernel is started; it is warm, not begun"
    )
    findings.judge_most(
        "`import cgworker` ≤ 120 ms", findings.median("cgworker", "import cgworker"), "ms", most=120
    )
    findings.judge_most(
        "`cg --version` ≤ 250 ms", findings.median("cgworker", "cg --version"), "ms", most=250
    )
    findings.judge_most("kernel ready ≤ 1.5 s", findings.median("cgworker", "kernel ready"), "s", most=1.5)
    return findings


def _run(program: list[str], folder: str) -> tuple[float, float]:
    """Wall and CPU seconds of a whole process."""
    used, begun = _cpu_of_children(), time.perf_counter()
    subprocess.run(
        program, check=True, stdout=subprocess.DEVNULL, cwd=folder, env={**os.environ, "HOME": folder}
    )
    return time.perf_counter() - begun, _cpu_of_children() - used


def _cpu_of_children() -> float:
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(ROW, measure)
