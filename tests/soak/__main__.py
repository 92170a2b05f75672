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
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from tests.soak.chaos import Chaos
from tests.soak.dashboard import watched
from tests.soak.harnesses import absent
from tests.soak.journal import read_runs
from tests.soak.stage import Stage, set_up
from tests.soak.traffic import Follower, Requester, read_feed
from tests.soak.verdict import Evidence, Verdict, judge

_CALM_SECONDS = 60.0
"""How long the last turns may take when everything is well again."""


@frozen
class Size:
    """How large a soak is."""

    seconds: float
    turns: int
    kernels: int
    workers: int


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long, the calm at the end apart")
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument(
        "--dashboard", type=Path, help="draw examples/deploy/monitoring's dashboard to this HTML file"
    )
    parser.add_argument("--kernels", type=int, default=2, help="how many share the database")
    parser.add_argument("--workers", type=int, default=7, help="how many, of three agents on two machines")
    parser.add_argument("--seed", type=int, help="repeats the choices of an earlier soak, not its timing")
    return parser.parse_args()


async def soak(folder: Path, size: Size, seed: int, dashboard: Path | None = None) -> Verdict:
    """Everything, from nothing to the verdict; leaves no process behind."""
    _end_on(signal.SIGTERM)
    chance = random.Random(seed)
    async with (
        set_up(folder, chance, kernel_count=size.kernels, worker_count=size.workers) as stage,
        watched(stage, dashboard),
    ):
        requester = Requester(stage.requester(), random.Random(seed))
        followers = [Follower(stage.requester()) for _ in stage.kernels]
        chaos = Chaos(stage, random.Random(seed))
        following = [asyncio.create_task(follower.run()) for follower in followers]
        async with asyncio.TaskGroup() as group:
            group.create_task(chaos.run(size.seconds))
            group.create_task(requester.run(size.turns, size.seconds * 0.9))
        stage.proxy.is_faulty = False
        closed_in_time = await followers[0].saw_closed(requester.turn_ids(), seconds=_CALM_SECONDS)
        verdict = judge(await _evidence(stage, requester, followers, chaos))
        for task in following:
            task.cancel()
        await _end_workers(stage, chaos)
        _add_processes(verdict, stage, chaos)
        verdict.must_be_empty("slots held when no turn is", await stage.held_slots())
        verdict.must_be_empty("dispatches whose repeat made another turn", requester.changed)
        verdict.figures["faults of the proxy"] = str(dict(stage.proxy.played))
        exchanges = (str(stage.proxy.exchanges[port]) for port in stage.proxy.ports)
        verdict.figures["requests to each kernel"] = ", ".join(exchanges)
        if not closed_in_time:
            verdict.figures["the last turns"] = f"not closed within {_CALM_SECONDS:g} s of calm"
        return verdict


async def _evidence(
    stage: Stage, requester: Requester, followers: Sequence[Follower], chaos: Chaos
) -> Evidence:
    async with stage.requester(directly=True) as direct:
        feed = await read_feed(direct)
        for follower in followers:
            await follower.saw_all(feed, seconds=15)
        return Evidence(
            deeds=chaos.deeds,
            runs=read_runs(stage.journal),
            feed=feed,
            followed=[follower.events[: len(feed)] for follower in followers],
            turns=[
                (n, await direct.turns.get(turn))
                for turns in (requester.turns, requester.redone)
                for n, turn in sorted(turns.items())
            ],
            serial_keys=requester.serial_keys,
            told=requester.told,
            statuses=stage.proxy.statuses,
            heard=[message for message, _ in stage.remote.told] if stage.remote else (),
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
    verdict.must_be_empty("temporary folders left", stage.folder.glob("cg_worker_*"))
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
    size = Size(options.seconds, options.turns, options.kernels, options.workers)
    _say(
        f"soak: {size.turns} turns in {size.seconds:g} s by {size.workers} workers at {size.kernels} kernels"
        f", seed {seed}, logs in {folder}"
    )
    for name, lack in absent().items():
        _say(f"soak: NO AGENT OF {name} takes part: {lack}")
    verdict = asyncio.run(soak(folder, size, seed, options.dashboard))
    _say(str(verdict))
    _say(f"{'passed' if verdict.passed else 'FAILED'} after {time.monotonic() - began_at:.0f} s, seed {seed}")
    if verdict.passed:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
