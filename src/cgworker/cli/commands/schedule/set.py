"""`cg schedule set`: make a schedule, or change it."""

from __future__ import annotations

from typing import Annotated, Literal

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import ActingAgent, Flag, ProfilesProjectId, ScheduleId, ServerFlags
from cgworker.cli.payload import PayloadFlags, read_duration
from cgworker.wire.absent import ABSENT
from cgworker.wire.refs import AgentRef
from cgworker.wire.schedules import PutSchedule, Schedule
from cgworker.wire.turns import CONVERSATION_KIND


async def put(
    server: ServerFlags,
    schedule_id: ScheduleId,
    cron: Annotated[
        str,
        Flag("--cron", metavar="CRON", help="When: five fields such as '30 2 * * *', or '@every 15m'."),
    ],
    target_agent: Annotated[
        str,
        Flag(
            "--target-agent", metavar="AGENT", help="The agent that is to work the turn.", completes="taker"
        ),
    ],
    payload: PayloadFlags,
    turn_kind: Annotated[
        str, Flag("--turn-kind", metavar="KIND", help="What kind of turn it is.", completes="kind")
    ] = CONVERSATION_KIND,
    timezone: Annotated[
        str,
        Flag("--timezone", metavar="ZONE", help="The time zone of the fields, such as Europe/Berlin."),
    ] = "UTC",
    overlap: Annotated[
        Literal["queue", "skip"],
        Flag("--overlap", help="Whether to skip an instant while the last turn is open."),
    ] = "queue",
    catch_up: Annotated[
        Literal["last", "none", "all"],
        Flag("--catch-up", help="Which instants to dispatch late, if no kernel ran then."),
    ] = "last",
    jitter: Annotated[
        str | None,
        Flag("--jitter", metavar="DURATION", help="Dispatch up to so long after the instant, such as 90s."),
    ] = None,
    delay: Annotated[
        str | None,
        Flag("--delay", metavar="DURATION", help="How long each turn cannot be claimed, such as 10m."),
    ] = None,
    priority: Annotated[
        int | None, Flag("--priority", metavar="N", help="-100 to 100; an agent's higher turns come first.")
    ] = None,
    serial_key: Annotated[
        str | None,
        Flag("--serial-key", metavar="KEY", help="Of an agent's turns with it one runs at a time."),
    ] = None,
    fairness_key: Annotated[
        str | None, Flag("--fairness-key", metavar="KEY", help="Turns with different keys alternate.")
    ] = None,
    project_id: ProfilesProjectId = None,
    agent_id: ActingAgent = None,
) -> Schedule:
    """Make a schedule, or change it. It dispatches in the name of the acting agent."""
    actor = acting_agent(server, project_id, agent_id, command_name="cg schedule set")
    schedule = PutSchedule(
        requested_by=actor,
        target_agent=AgentRef(project_id=actor.project_id, agent_id=target_agent),
        cron=cron,
        timezone=timezone,
        turn_kind=turn_kind,
        input=payload.read(),
        overlap=overlap,
        catch_up=catch_up,
        jitter_seconds=0 if jitter is None else read_duration(jitter, "--jitter"),
        delay_seconds=ABSENT if delay is None else read_duration(delay, "--delay"),
        priority=ABSENT if priority is None else priority,
        serial_key=ABSENT if serial_key is None else serial_key,
        fairness_key=ABSENT if fairness_key is None else fairness_key,
    )
    async with as_actor(server, actor) as kernel:
        return await kernel.schedules.put(schedule_id, schedule)
