"""`python -m tests.failover`: play scenarios of a failover, with several seeds each, and judge."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.failover.drill import Drill
from tests.failover.scenarios import SCENARIOS, Scenario
from tests.failover.servers import lacking
from tests.soak.verdict import Verdict


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.failover", description=__doc__)
    parser.add_argument(
        "--scenario", action="append", choices=SCENARIOS, help="may be repeated; default: all"
    )
    parser.add_argument("--seed", type=int, default=1, help="the first seed; it decides the moments")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds of each scenario")
    parser.add_argument("--rate", type=float, default=200.0, help="turns a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the load lasts")
    return parser.parse_args()


async def play(scenario: str, folder: Path, seed: int, *, rate: float, seconds: float) -> Verdict:
    """One scenario with one seed, from nothing to the verdict; leaves no process behind."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await SCENARIOS[scenario].play(Drill(folder, random.Random(seed), rate, seconds))


def _lacking(scenario: Scenario) -> list[str]:
    if missing := lacking(*scenario.programs):
        return missing
    with tempfile.TemporaryDirectory(prefix="cg-failover-") as folder:
        reason = scenario.why_not(Path(folder))
    return [] if reason is None else [reason]


def _play_logged(scenario: str, seed: int, options: argparse.Namespace) -> bool:
    folder, began_at = Path(tempfile.mkdtemp(prefix="cg-failover-")), time.monotonic()
    folder.chmod(0o711)  # the account of the servers has folders in it
    say(f"{scenario}: seed {seed}, {options.rate:g} turns a second, logs in {folder}")
    verdict = asyncio.run(play(scenario, folder, seed, rate=options.rate, seconds=options.seconds))
    say(str(verdict))
    word = "passed" if verdict.passed else "FAILED"
    say(f"{scenario}: seed {seed} {word} after {time.monotonic() - began_at:.0f} s")
    if verdict.passed:
        shutil.rmtree(folder, ignore_errors=True)
    return verdict.passed


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201  # a program that talks to a person


def main() -> int:
    """Returns the exit status: 0 if all that was played passed, and something was."""
    options = _options()
    results: dict[str, list[bool]] = {}
    for scenario in options.scenario or SCENARIOS:
        if missing := _lacking(SCENARIOS[scenario]):
            say(f"{scenario}: NOT PLAYED, for this machine lacks {', '.join(missing)}")
            continue
        seeds = range(options.seed, options.seed + options.seeds)
        results[scenario] = [_play_logged(scenario, seed, options) for seed in seeds]
    for scenario, passed in results.items():
        say(f"{scenario}: {sum(passed)} of {len(passed)} seeds passed")
    return 0 if results and all(all(passed) for passed in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
