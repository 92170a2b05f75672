"""Routes about credentials (wire 6.2)."""

from __future__ import annotations

from starlette.responses import Response

from cgworker.errors import ConflictError
from cgworker.kernel.access import authenticate
from cgworker.kernel.http.messages import path_id, read, reply, require_same
from cgworker.kernel.http.request import Request
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.store.agents import get_agent
from cgworker.kernel.store.callers import Caller
from cgworker.kernel.store.credentials import (
    issue_credential,
    list_credentials,
    require_credential,
    revoke_credential,
)
from cgworker.wire.credentials import Credentials, IssueCredential, IssuedCredential, RevokedCredential
from cgworker.wire.refs import AgentRef

_ISSUE, _REVOKE = "agent.credential.issue.any", "agent.credential.revoke.any"


async def issue(request: Request) -> Response:
    """Issue a credential; the grant is needed even for oneself."""
    body = await read(request, IssueCredential)
    agent, caller = await _path_agent_and_caller(request)
    database = request.kernel.database
    if not caller.holds(_ISSUE):
        await get_agent(database, agent)
        caller.require_grant(_ISSUE)
    return reply(await issue_credential(database, agent, body, issued_by=caller.agent.agent_id))


async def revoke(request: Request) -> Response:
    """Revoke a credential, one's own or with the grant another's; a body is ignored."""
    credential_id = path_id(request, "credential_id")
    agent, caller = await _path_agent_and_caller(request)
    database = request.kernel.database
    if caller.agent != agent and not caller.holds(_REVOKE):
        await require_credential(database, agent, credential_id)
        caller.require_grant(_REVOKE)
    return reply(RevokedCredential(credential=await revoke_credential(database, agent, credential_id)))


async def all_of(request: Request) -> Response:
    """All credentials of an agent, one's own or with either grant another's."""
    agent, caller = await _path_agent_and_caller(request)
    database = request.kernel.database
    if caller.agent != agent:
        await get_agent(database, agent)
        if not (caller.holds(_ISSUE) or caller.holds(_REVOKE)):
            raise ConflictError(f"caller missing grant: {_ISSUE} or {_REVOKE}")
    return reply(Credentials(credentials=await list_credentials(database, agent)))


async def _path_agent_and_caller(request: Request) -> tuple[AgentRef, Caller]:
    agent = AgentRef(project_id=path_id(request, "project_id"), agent_id=path_id(request, "agent_id"))
    caller = await authenticate(request)
    require_same(caller.agent.project_id, agent.project_id, "caller project must match path project")
    return agent, caller


_A = "/v3r1/projects/{project_id}/agents/{agent_id}"
routes: list[Operation] = [
    Operation("POST", _A + "/credentials:issue", issue, takes=IssueCredential, gives=IssuedCredential),
    Operation("POST", _A + "/credentials/{credential_id}:revoke", revoke, gives=RevokedCredential),
    Operation("GET", _A + "/credentials", all_of, gives=Credentials),
]
