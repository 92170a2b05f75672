"""`python -m tests.soak`: set the stage, let chaos loose on it, and judge. Linux only."""

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

from tests.soak.chaos import Chaos
from tests.soak.dashboard import watched
from tests.soak.journal import read_runs
from tests.soak.stage import Stage, set_up
from tests.soak.traffic import Follower, Requester, read_feed
from tests.soak.verdict import Evidence, Verdict, judge

_CALM_SECONDS = 60.0
"""How long the last turns may take when everything is well again."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long, the calm at the end apart")
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument(
        "--dashboard", type=Path, help="draw examples/deploy/monitoring's dashboard to this HTML file"
    )
    parser.add_argument("--seed", type=int, help="repeats the choices of an earlier soak, not its timing")
    return parser.parse_args()


async def soak(options: argparse.Namespace, folder: Path, seed: int) -> Verdict:
    """Everything, from nothing to the verdict; leaves no process behind."""
    _end_on(signal.SIGTERM)
    chance = random.Random(seed)
    seconds, turn_count = options.seconds, options.turns
    async with set_up(folder, chance) as stage, watched(stage, options.dashboard):
        requester = Requester(stage.requester(), random.Random(seed))
        follower = Follower(stage.requester())
        chaos = Chaos(stage, random.Random(seed))
        following = asyncio.create_task(follower.run())
        async with asyncio.TaskGroup() as group:
            group.create_task(chaos.run(seconds))
            group.create_task(requester.run(turn_count, seconds * 0.9))
        stage.proxy.is_faulty = False
        closed_in_time = await follower.saw_closed(requester.turn_ids(), seconds=_CALM_SECONDS)
        verdict = judge(await _evidence(stage, requester, follower, chaos))
        following.cancel()
        await _end_workers(stage, chaos)
        _add_processes(verdict, stage, chaos)
        verdict.must_be_empty("slots held when no turn is", await stage.held_slots())
        verdict.must_be_empty("dispatches whose repeat made another turn", requester.changed)
        verdict.figures["faults of the proxy"] = str(dict(stage.proxy.played))
        if not closed_in_time:
            verdict.figures["the last turns"] = f"not closed within {_CALM_SECONDS:g} s of calm"
        return verdict


async def _evidence(stage: Stage, requester: Requester, follower: Follower, chaos: Chaos) -> Evidence:
    async with stage.requester(directly=True) as direct:
        feed = await read_feed(direct)
        await follower.saw_all(feed, seconds=15)
        return Evidence(
            deeds=chaos.deeds,
            runs=read_runs(stage.journal),
            feed=feed,
            followed=follower.events[: len(feed)],
            turns=[
                (n, await direct.turns.get(turn))
                for turns in (requester.turns, requester.redone)
                for n, turn in sorted(turns.items())
            ],
            serial_keys=requester.serial_keys,
            told=requester.told,
            statuses=stage.proxy.statuses,
        )


async def _end_workers(stage: Stage, chaos: Chaos) -> None:
    for worker in stage.workers:
        if not worker.left and (status := await worker.end(signal.SIGTERM)) != 0:
            chaos.bad_drains.append((worker.incarnation, status))


def _add_processes(verdict: Verdict, stage: Stage, chaos: Chaos) -> None:
    everybody = [*stage.kernels, *stage.workers]
    left = [f"{one.incarnation} with status {status}" for one in everybody for _, status in one.left]
    verdict.must_be_empty("workers and kernels that ended by themselves", left)
    verdict.must_be_empty("drains that did not end with status 0", chaos.bad_drains)
    verdict.must_be_empty("temporary folders left", stage.folder.glob("cg_worker_adapter_*"))
    verdict.must_be_empty("processes left 10 s after their worker's end", chaos.orphans)


def _end_on(number: signal.Signals) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  # a program that talks to a person


def main() -> int:
    """Returns the exit status."""
    options = _options()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    folder, began_at = Path(tempfile.mkdtemp(prefix="cg-soak-")), time.monotonic()
    _say(f"soak: {options.turns} turns in {options.seconds:g} s, seed {seed}, logs in {folder}")
    verdict = asyncio.run(soak(options, folder, seed))
    _say(str(verdict))
    _say(f"{'passed' if verdict.passed else 'FAILED'} after {time.monotonic() - began_at:.0f} s, seed {seed}")
    if verdict.passed:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
