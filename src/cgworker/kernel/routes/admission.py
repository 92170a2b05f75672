"""Routes of admission, under /admin/v1 (admission 4, difference 13)."""

from __future__ import annotations

import hmac
import math
from functools import wraps

from attrs import evolve
from starlette.responses import Response

from cgworker.errors import ConflictError, ForbiddenError, InvalidRequest, KernelRefused, UnauthorizedError
from cgworker.kernel.addresses import source_of
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.http.messages import path_id, read, reply
from cgworker.kernel.http.rate_limit import Throttle
from cgworker.kernel.http.request import Request
from cgworker.kernel.invitation_codes import Invitations
from cgworker.kernel.long_poll.notifier import feed_topic
from cgworker.kernel.openapi.operation import Endpoint, Operation
from cgworker.kernel.store.admission import admit, redeem_invite, require_project
from cgworker.kernel.store.admission_profiles import PROFILE_KINDS, Admission
from cgworker.kernel.store.agent_specs import check_new_id
from cgworker.kernel.store.invites import create_invite, list_invites, revoke_invite
from cgworker.wire.admission import (
    WORKER_PROFILE,
    Admitted,
    CreatedInvite,
    CreateInvite,
    InviteList,
    Joined,
    RedeemInvite,
    RequestCredentialToken,
    RevokedInvite,
)

OPERATOR = "local-admin-service"
"""The user in whose name requests with the admin bearer act."""


_BEARER = ("bearer",)


def admission_routes(
    config: KernelConfig,
    *,
    project_id: str,
    bearer: str,
    invitations: Invitations | None = None,
    kernel_base_url: str | None = None,
) -> list[Operation]:
    """Create the routes of an admission service.

    Args:
        config: the kernel's settings.
        project_id: the one project of the service.
        bearer: the admin API's token.
        invitations: codes that admit conversation workers; None admits them by join invites alone.
        kernel_base_url: the kernel's URL for agents that join; None means the URL at which they join.
    """
    service = _Admission(config, project_id, bearer, invitations, kernel_base_url)
    project = "/admin/v1/projects/{project_id}"
    return [
        Operation(
            "POST",
            f"{project}/agent-credential-tokens:request",
            _coded(service.request_token),
            takes=RequestCredentialToken,
            gives=Admitted,
            identified_by=_BEARER,
            identify=service.identify,
        ),
        Operation(
            "POST",
            f"{project}/agent-join-invites",
            _coded(service.create_invite),
            takes=CreateInvite,
            gives=CreatedInvite,
            identified_by=_BEARER,
            identify=service.identify,
        ),
        Operation(
            "GET",
            f"{project}/agent-join-invites",
            _coded(service.list_invites),
            gives=InviteList,
            identified_by=_BEARER,
        ),
        Operation(
            "POST",
            f"{project}/agent-join-invites/{{invite_id}}:revoke",
            _coded(service.revoke_invite),
            gives=RevokedInvite,
            identified_by=_BEARER,
        ),
        *(
            Operation(
                "POST",
                path,
                _coded(service.redeem),
                takes=RedeemInvite,
                gives=Joined,
                identified_by=(),
                identify=None,
            )
            for path in ("/admin/v1/agent-joins:redeem", "/admin/v1/byoa/join:redeem")
        ),
    ]


class _Admission:
    def __init__(
        self,
        config: KernelConfig,
        project_id: str,
        bearer: str,
        invitations: Invitations | None,
        kernel_base_url: str | None,
    ) -> None:
        self._project_id = project_id
        self._authorization = f"Bearer {bearer}".encode()
        self._invitations = invitations
        self._kernel_base_url = kernel_base_url
        self._redeems = Throttle(config.redeems_per_minute)
        self._trusted_proxies = config.trusted_proxies

    async def request_token(self, request: Request) -> Response:
        """Admit an agent and issue its credential."""
        body = await read(request, RequestCredentialToken)
        self._require_bearer(request)
        admission = self._approve(_admission_of(body, path_id(request, "project_id")), body.invitation_code)
        kernel = request.kernel
        admitted = await admit(kernel.database, admission)
        kernel.notifier.wake(feed_topic(self._project_id))
        return reply(admitted)

    async def create_invite(self, request: Request) -> Response:
        """Invite an agent; the code is shown this once."""
        body = await read(request, CreateInvite)
        self._require_bearer(request)
        require_project(path_id(request, "project_id"), self._project_id)
        database = request.kernel.database
        return reply(await create_invite(database, self._project_id, _trimmed(body), issued_by=OPERATOR))

    async def list_invites(self, request: Request) -> Response:
        """All invites of the project, newest first."""
        self._require_bearer(request)
        require_project(path_id(request, "project_id"), self._project_id)
        database = request.kernel.database
        return reply(InviteList(invites=await list_invites(database, self._project_id)))

    async def revoke_invite(self, request: Request) -> Response:
        """Make an invite's code useless."""
        invite_id = path_id(request, "invite_id")
        self._require_bearer(request)
        require_project(path_id(request, "project_id"), self._project_id)
        database = request.kernel.database
        return reply(RevokedInvite(invite=await revoke_invite(database, self._project_id, invite_id)))

    async def redeem(self, request: Request) -> Response:
        """Join with a code; the code is the authority."""
        wait_seconds = self._redeems.take(source_of(request, self._trusted_proxies))
        if wait_seconds:
            return _too_many(wait_seconds)
        body = await read(request, RedeemInvite)
        code = _required(body.join_code, "join_code")
        kernel = request.kernel
        joined = await redeem_invite(kernel.database, self._project_id, code)
        kernel.notifier.wake(feed_topic(self._project_id))
        if self._kernel_base_url is not None:
            joined = evolve(joined, kernel_base_url=self._kernel_base_url)
        return reply(joined)

    async def identify(self, request: Request) -> None:
        """Raise UnauthorizedError unless the request has the admin bearer."""
        self._require_bearer(request)

    def _require_bearer(self, request: Request) -> None:
        """Compare the whole header, scheme included, in constant time."""
        given = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, self._authorization):
            raise UnauthorizedError("Admin Service bearer auth is required")

    def _approve(self, admission: Admission, invitation_code: str | None) -> Admission:
        """Approve reporters by the admin bearer alone; require an invitation for workers."""
        require_project(admission.project_id, self._project_id)
        if admission.profile_kind != WORKER_PROFILE:
            return admission
        needs = "BYOA conversation worker profile requires an"
        if self._invitations is None:
            raise ConflictError(f"{needs} invitation validator", code="invitation_validator_required")
        code = (invitation_code or "").strip()
        if not code:
            raise ForbiddenError(f"{needs} invitation_code", code="invitation_code_required")
        invitation = self._invitations.approve(
            code, project_id=admission.project_id, profile_kind=admission.profile_kind
        )
        return evolve(admission, approved_by=invitation.issued_by_user_id, invite_id=invitation.invite_id)


# ---------------------------------------------------------------- the rules of requests


def _admission_of(body: RequestCredentialToken, project_id: str) -> Admission:
    """Return the trimmed request; of a worker, the requested role and capabilities are ignored."""
    admission = Admission(
        request_id=_required(body.request_id, "request_id"),
        project_id=project_id,
        agent_id=_required(body.requested_agent_id, "requested_agent_id"),
        display_name=_required(body.display_name, "display_name"),
        runtime_kind=_required(body.runtime_kind, "runtime_kind"),
        requested_role=_required(body.requested_role, "requested_role"),
        requested_capabilities=_required_capabilities(body.requested_capabilities),
        profile_kind=_required(body.profile_kind, "profile_kind"),
        description=_optional(body.description),
        approved_by=OPERATOR,
    )
    if body.creator_user_id is not None:
        _required(body.creator_user_id, "creator_user_id")
    if admission.profile_kind not in PROFILE_KINDS:
        raise ConflictError(f"unsupported BYOA profile_kind: {admission.profile_kind}")
    check_new_id(admission.agent_id, at=("body", "requested_agent_id"))
    if admission.profile_kind == WORKER_PROFILE:
        return evolve(admission, requested_role="", requested_capabilities=())
    return admission


def _trimmed(body: CreateInvite) -> CreateInvite:
    return evolve(
        body,
        agent_id=_required(body.agent_id, "agent_id"),
        profile_kind=_required(body.profile_kind, "profile_kind"),
        runtime_kind=_required(body.runtime_kind, "runtime_kind"),
        display_name=None if body.display_name is None else _required(body.display_name, "display_name"),
        description=_optional(body.description),
    )


def _required_capabilities(capabilities: tuple[str, ...]) -> tuple[str, ...]:
    if not capabilities:
        raise ConflictError("requested_capabilities must not be empty")
    return tuple(sorted({_required(capability, "requested_capabilities") for capability in capabilities}))


def _required(text: str, name: str) -> str:
    if not text.strip():
        raise ConflictError(f"{name} must be non-empty")
    return text.strip()


def _optional(text: str | None) -> str | None:
    return (text or "").strip() or None


# ---------------------------------------------------------------- answers


def _coded(endpoint: Endpoint) -> Endpoint:
    """Wrap an endpoint so that its refusals have a stable code too (admission 3); a 422 is unchanged."""

    @wraps(endpoint)
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except InvalidRequest:
            raise
        except KernelRefused as refused:
            body = {"error": type(refused).__name__, "code": refused.code, "message": refused.message}
            return reply(body, status=refused.status)

    return answer


def _too_many(wait_seconds: float) -> Response:
    body = {
        "error": "TooManyRequestsError",
        "code": "too_many_requests",
        "message": "too many join codes were tried from here, wait a little",
    }
    return reply(body, status=429, headers={"retry-after": str(math.ceil(wait_seconds))})
