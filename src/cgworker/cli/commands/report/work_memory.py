"""`cg report work-memory`: record work that was done elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

from cgworker.cli.connect import as_actor
from cgworker.cli.options import AgentId, Flag, ProjectId, RequestId, ServerFlags
from cgworker.cli.payload import read_json
from cgworker.errors import UsageError
from cgworker.wire.refs import AgentRef
from cgworker.wire.reports import SubmittedReport


async def work_memory(
    server: ServerFlags,
    project_id: ProjectId,
    agent_id: AgentId,
    manifest_file: Annotated[str, Flag("--manifest-file", metavar="FILE", help="The report as JSON.")],
    request_id: RequestId = None,
) -> SubmittedReport:
    """Submit a work-memory report. Repeating it with the same content changes nothing."""
    manifest = _read_manifest(manifest_file, request_id)
    actor = AgentRef(project_id=project_id, agent_id=agent_id)
    async with as_actor(server, actor) as kernel:
        return await kernel.reports.submit(actor, manifest)


def _read_manifest(path: str, request_id: str | None) -> dict[str, Any]:
    manifest = read_json(path)
    if not isinstance(manifest, dict):
        raise ValueError("work-memory manifest must be a JSON object")
    if "meta" in manifest:
        raise ValueError("work-memory manifest must not include meta: it is read by agents, not by auditors")
    if request_id is None:
        return manifest
    if manifest.get("request_id") not in (None, request_id):
        raise UsageError("--request-id does not match manifest request_id")
    return {**manifest, "request_id": request_id}
