"""What `--cov` measures: not all of this process, and of the programs that tests start only our files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "cgworker"
VARIABLE = "COVERAGE_PROCESS_CONFIG"


def config_for_programs() -> str | None:
    """The configuration of coverage for a program; None if nothing is measured.

    It names the files that count, in place of the package. With the package, each program would also note all
    files that it did not run, which takes longer than most programs. The tests' own process notes them once.
    """
    coverage = sys.modules.get("coverage")
    running = coverage and coverage.Coverage.current()
    if not running:
        return None
    config = running.config.copy()
    config.source, config.source_pkgs, config.source_dirs = None, [], []
    config.run_include = [str(SOURCE / "*")]
    return str(config.serialize())


def unmeasured() -> dict[str, str]:
    """The environment for a program that is not measured: it runs nothing of ours that others do not."""
    return {name: value for name, value in os.environ.items() if name != VARIABLE}


def measure_programs() -> None:
    """Have each Python that is started from now on measured, where this process is."""
    if (config := config_for_programs()) is not None and VARIABLE in os.environ:
        os.environ[VARIABLE] = config


@contextmanager
def pause_measuring() -> Iterator[None]:
    """Measure nothing of this thread while the block runs; that doubles its speed."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
