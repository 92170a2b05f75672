"""Row 2: how long each verb takes, one request after the other on one connection."""

from __future__ import annotations

import secrets
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.load import Caller, callers
from benchmarks.measuring import Findings, Options, Row, main
from benchmarks.servers import (
    Agent,
    Server,
    absent,
    kernel_of,
    new_database,
    peer_python,
    running_postgres,
    running_reference,
)
from cgworker import KernelClient
from cgworker.wire.turns import CONVERSATION_KIND, Dispatch, RootRequest

GOALS = {"claim-empty": 1.5, "claim-hit": 4, "dispatch": 4, "append": 3, "finish": 4, "renew": 2}
ROW = Row(
    2,
    "sequential p50 of each verb",
    "claim-empty / claim-hit with context / dispatch / append / finish / renew ≤ 1.5 / 4 / 4 / 3 / 4 / 2 ms",
)

_WARM_TURNS = 30
_TURNS = 150
_PEER_TURNS = 10

Contestant = Callable[[int], Awaitable[dict[str, float]]]
Spent = Callable[[str, Awaitable[Any]], Awaitable[Any]]


async def measure(options: Options) -> Findings:
    """The median of each verb by contestant: over a bare connection, and through our client."""
    findings = Findings()
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        ours = await stack.enter_async_context(kernel_of(options, postgres))
        contestants: dict[str, tuple[Contestant, int]] = {
            "cgworker": (await _over_a_connection(ours), _TURNS),
            "cgworker through KernelClient": (await _through_our_client(stack, ours), _TURNS),
        }
        if python := peer_python("reference"):
            theirs = stack.enter_context(running_reference(python, await new_database(postgres)))
            contestants["reference"] = (await _over_a_connection(theirs), _PEER_TURNS)
        else:
            findings.absent.append(absent("reference"))
        for run, _ in contestants.values():
            await run(_WARM_TURNS)
        for _ in range(options.rounds):
            for name, (run, turn_count) in contestants.items():
                for verb, seconds in (await run(turn_count)).items():
                    findings.add(name, verb, "ms", seconds * 1000)
    for verb, most in GOALS.items():
        findings.judge_most(f"{verb} ≤ {most} ms", findings.median("cgworker", verb), "ms", most=most)
    return findings


async def _over_a_connection(server: Server) -> Contestant:
    """The verbs of an agent on a bare keep-alive connection: what the kernel takes."""
    agent = await server.admit("bench-verbs")

    async def run(turn_count: int) -> dict[str, float]:
        async with callers(server, [agent]) as (caller,):  # idle ones are closed by the reference after 5 s
            return await _timed(turn_count, lambda spent: _a_turn(caller, spent))

    return run


async def _a_turn(caller: Caller, spent: Spent) -> None:
    await spent("claim-empty", caller.claim(with_context=True))
    await spent("dispatch", caller.dispatch(caller.agent))
    claim = await spent("claim-hit", caller.claim(with_context=True))
    await spent("append", caller.append(claim))
    await spent("renew", caller.renew(claim))
    await spent("finish", caller.finish(claim))


async def _through_our_client(stack: AsyncExitStack, server: Server) -> Contestant:
    """The same through `KernelClient`: what a worker waits for."""
    agent = await server.admit("bench-client")
    kernel = await stack.enter_async_context(server.client(agent))

    async def run(turn_count: int) -> dict[str, float]:
        return await _timed(turn_count, lambda spent: _a_client_turn(kernel, agent, spent))

    return run


async def _a_client_turn(kernel: KernelClient, agent: Agent, spent: Spent) -> None:
    key = secrets.token_hex(8)
    work = Dispatch(
        requested_by=agent.ref,
        target_agent=agent.ref,
        input={"text": "say hello"},
        turn_kind=CONVERSATION_KIND,
        dispatch_key=key,
        authority=RootRequest(request_id=key),
    )
    await spent("claim-empty", kernel.claims.claim(agent.ref))
    await spent("dispatch", kernel.turns.dispatch(work))
    claim = (await spent("claim-hit", kernel.claims.claim(agent.ref))).claimed.claim
    await spent("append", kernel.turns.append(claim, {"step": "reading"}))
    await spent("renew", kernel.claims.renew(claim))
    await spent("finish", kernel.turns.finish(claim, "succeeded", final_payload={"text": "hello"}))


async def _timed(turn_count: int, work: Callable[[Spent], Awaitable[None]]) -> dict[str, float]:
    """The median seconds of each verb over so many turns."""
    seconds: dict[str, list[float]] = defaultdict(list)

    async def spent(verb: str, request: Awaitable[Any]) -> Any:
        begun = time.perf_counter()
        answer = await request
        seconds[verb].append(time.perf_counter() - begun)
        return answer

    for _ in range(turn_count):
        await work(spent)
    return {verb: statistics.median(values) for verb, values in seconds.items()}


if __name__ == "__main__":
    main(ROW, measure)
