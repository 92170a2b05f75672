"""`python -m tests.rolling PYTHON SOURCE`: upgrade one by one while turns run, and judge. Linux only."""

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

import asyncpg

from cgworker import KernelClient, TurnRef
from tests.rolling.drill import Drill, set_up
from tests.rolling.old_version import OldVersion
from tests.rolling.traffic import Hand, Requester
from tests.soak.journal import read_runs
from tests.soak.stage import HELD_SLOTS, PROJECT
from tests.soak.traffic import Follower, read_feed
from tests.soak.verdict import Evidence, Verdict, judge_turns

_CALM_SECONDS = 60.0


async def rolling(folder: Path, old: OldVersion, ending: signal.Signals, seed: int) -> Verdict:
    """Everything, from the old version alone to the verdict; leaves no process behind."""
    async with set_up(folder, old, ending) as drill:
        kernels = [drill.client(port) for port in drill.ports]
        requester, hand = Requester(kernels, random.Random(seed)), Hand(kernels, random.Random(seed))
        followers = [Follower(kernel) for kernel in kernels]
        following = [asyncio.create_task(follower.run()) for follower in followers]
        async with asyncio.TaskGroup() as group:
            group.create_task(requester.run(per_second=4))
            group.create_task(hand.run())
            await drill.replace_all()
            requester.uses_what_is_new = True
            await drill.all_work()
            requester.is_ending = hand.is_ending = True
        verdict = await _judge(drill, requester, hand, followers)
        for task in following:
            task.cancel()
        await drill.end_all()
        drill.judge(verdict)
        verdict.must_be_empty("slots held when no turn is", await _held_slots(drill.dsn))
        return verdict


async def _judge(drill: Drill, requester: Requester, hand: Hand, followers: Sequence[Follower]) -> Verdict:
    kernel = drill.client(drill.ports[0])
    turns = {turn.turn_id for turn in requester.turns.values()}
    closed_in_time = await followers[0].saw_closed(turns, seconds=_CALM_SECONDS)
    feed = await read_feed(kernel)
    for follower in followers:
        await follower.saw_all(feed, seconds=_CALM_SECONDS)
    evidence = Evidence(
        deeds=drill.deeds,
        runs=read_runs(drill.journal),
        feed=feed,
        followed=[follower.events[: len(feed)] for follower in followers],
        turns=[(n, await kernel.turns.get(turn)) for n, turn in sorted(requester.turns.items())],
        serial_keys={},
        told=(),
        statuses=(),
    )
    verdict = judge_turns(evidence)
    verdict.must_be_empty("dispatches whose repeat made another turn", requester.changed)
    await _judge_hand(verdict, hand, kernel)
    if drill.ending is signal.SIGTERM:
        again = [turn for turn, runs in evidence.runs_by_turn.items() if len(runs) > 1]
        verdict.must_be_empty("turns run again, though nothing was killed", again)
    verdict.figures["turns"] = str(len(evidence.turns))
    if not closed_in_time:
        verdict.figures["the last turns"] = f"not closed within {_CALM_SECONDS:g} s"
    return verdict


async def _judge_hand(verdict: Verdict, hand: Hand, kernel: KernelClient) -> None:
    wrong = []
    for turn_id, payload in hand.finished.items():
        turn = await kernel.turns.get(TurnRef(project_id=PROJECT, turn_id=turn_id))
        if (turn.state, turn.final_payload) != ("closed", payload):
            wrong.append(f"{turn_id} is {turn.state} with {turn.final_payload}, not {payload}")
    verdict.must_be_empty("answered finishes that are missing", wrong)
    verdict.must_be_empty("claims of one kernel that another refused", hand.refused)
    verdict.figures["turns claimed at one kernel, finished at another"] = str(len(hand.finished))


async def _held_slots(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [f"{row['agent_id']}: {row['held_count']}" for row in await connection.fetch(HELD_SLOTS)]
    finally:
        await connection.close()


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  # a program that talks to a person


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.rolling", description=__doc__)
    parser.add_argument("python", type=Path, help="a Python that has the old version installed")
    parser.add_argument("source", type=Path, help="the root of the old version's tree")
    parser.add_argument("--kill", action="store_true", help="end the old ones by SIGKILL, not by SIGTERM")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    old = OldVersion(options.python.absolute(), options.source.absolute())
    ending = signal.SIGKILL if options.kill else signal.SIGTERM
    folder, began_at = Path(tempfile.mkdtemp(prefix="cg-rolling-")), time.monotonic()
    _say(f"rolling upgrade by {ending.name}, seed {options.seed}, logs in {folder}")
    verdict = asyncio.run(rolling(folder, old, ending, options.seed))
    _say(str(verdict))
    _say(f"{'passed' if verdict.passed else 'FAILED'} after {time.monotonic() - began_at:.0f} s")
    if verdict.passed:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
