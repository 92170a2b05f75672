"""`cg ask`: ask an agent, and print its answer."""

from __future__ import annotations

import sys
from typing import Annotated
from uuid import uuid4

import anyio

from cgworker.cli.asking import TurnFollower, input_of_text
from cgworker.cli.command import Program, add_command, single
from cgworker.cli.connect import as_actor
from cgworker.cli.envelope import say
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import Argument, Flag, ProfilesAgent, ProfilesProjectId, ServerFlags
from cgworker.cli.payload import PayloadFlags
from cgworker.cli.progress import no_progress
from cgworker.cli.results import AskedTurn
from cgworker.client import KernelClient
from cgworker.errors import UsageError, WaitTimedOut
from cgworker.wire.refs import AgentRef
from cgworker.wire.turns import CONVERSATION_KIND, Dispatch, RootRequest


async def ask(
    server: ServerFlags,
    agent: Annotated[str, Argument(metavar="AGENT", help="The agent to ask.", completes="taker")],
    payload: PayloadFlags,
    text: Annotated[str | None, Argument(metavar="[TEXT]", help="What to ask; or give a payload.")] = None,
    turn_kind: Annotated[
        str, Flag("--turn-kind", metavar="KIND", help="The kind of turn.", completes="kind")
    ] = CONVERSATION_KIND,
    timeout_seconds: Annotated[
        float | None,
        Flag("--timeout-seconds", min=0, metavar="S", help="Give up after S seconds.  [default: never]"),
    ] = None,
    project_id: ProfilesProjectId = None,
    requested_by: ProfilesAgent = None,
    *,
    as_json: bool = False,
) -> AskedTurn:
    """Ask an agent, watch it work, and print its answer.

    What the turn asks meanwhile is asked on the terminal. The exit status is 1 unless the turn succeeds.
    """
    if (text is None) == (not payload.is_given):
        raise UsageError("say what to ask: a TEXT, or one of --payload-json, --payload-file, --payload-stdin")
    actor = acting_agent(server, project_id, requested_by, command_name="cg ask", agent_flag="--requested-by")
    target = AgentRef(project_id=actor.project_id, agent_id=agent)
    async with as_actor(server, actor) as kernel:
        given = payload.read() if text is None else await input_of_text(kernel, target, turn_kind, text)
        key = f"ask-{uuid4().hex[:12]}"
        work = Dispatch(
            requested_by=actor,
            target_agent=target,
            input=given,
            turn_kind=turn_kind,
            dispatch_key=key,
            authority=RootRequest(request_id=key),
        )
        return await _talk(kernel, work, timeout_seconds, as_json=as_json)


async def _talk(
    kernel: KernelClient, work: Dispatch, timeout_seconds: float | None, *, as_json: bool
) -> AskedTurn:
    """Dispatch the turn and follow it to its end."""
    turn = await kernel.turns.dispatch(work)
    is_shown = sys.stdout.isatty() and not as_json
    follower = TurnFollower(kernel, turn, work.target_agent.agent_id, is_shown=is_shown)
    try:
        with no_progress(), anyio.move_on_after(timeout_seconds) as limit:
            await follower.follow()
    except anyio.get_cancelled_exc_class():
        say(f"{turn.turn_id} goes on: `cg turn follow {turn.turn_id}`")
        raise
    if limit.cancelled_caught:
        raise WaitTimedOut(f"{turn.turn_id} was not answered within {timeout_seconds} seconds, and goes on")
    return AskedTurn.of(await kernel.turns.get(turn))


app: Program = single()
add_command(app, "ask", ask)
