"""The route of work-memory reports (wire 10)."""

from __future__ import annotations

from starlette.responses import Response

from cgworker.kernel.access import authenticate
from cgworker.kernel.http.messages import path_id, read, reply
from cgworker.kernel.http.request import Request
from cgworker.kernel.long_poll.notifier import turn_topics
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.store.reports import submit_report
from cgworker.wire.refs import AgentRef
from cgworker.wire.reports import Report, SubmittedReport


async def submit(request: Request) -> Response:
    """Put work done elsewhere on record."""
    report = await read(request, Report)
    agent = AgentRef(project_id=path_id(request, "project_id"), agent_id=path_id(request, "agent_id"))
    (await authenticate(request)).require_is(agent)
    kernel = request.kernel
    submitted = await submit_report(kernel.database, agent, report)
    kernel.notifier.wake(*turn_topics(submitted.turn, agent))
    return reply(submitted)


routes: list[Operation] = [
    Operation(
        "POST",
        "/v3r1/projects/{project_id}/agents/{agent_id}/work-memory-reports",
        submit,
        takes=Report,
        gives=SubmittedReport,
    ),
]
