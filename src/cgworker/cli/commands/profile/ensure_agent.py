"""`cg profile ensure-agent`: make a profile unless there is one that works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cgworker.cli.connect import admin_token, admin_url, authorities, kernel_url
from cgworker.cli.options import AdminFlags, BaseUrl, Flag, ProjectId
from cgworker.cli.results import EnsuredProfile
from cgworker.client import AdmissionClient, KernelClient
from cgworker.credential_store import check_can_store, store_credential
from cgworker.errors import KernelRefused, ProfileError, UnauthorizedError, UsageError
from cgworker.profiles import ConfigFile, Profile, non_blank, read_profile_token
from cgworker.wire.admission import REPORTER_PROFILE, RequestCredentialToken
from cgworker.wire.refusals import Refusal

# The refusals of a credential that will never work again (wire 3).
_STALE = (
    Refusal.CREDENTIAL_UNKNOWN,
    Refusal.CREDENTIAL_SECRET_WRONG,
    Refusal.CREDENTIAL_NOT_ACTIVE,
    Refusal.CREDENTIAL_EXPIRED,
    Refusal.CREDENTIAL_ENDED_MEANWHILE,
)


async def ensure_agent(
    admin: AdminFlags,
    profile: Annotated[
        str, Flag("--profile", metavar="PROJECT/AGENT", help="The profile's name: <project>/<agent>.")
    ],
    project_id: ProjectId,
    requested_agent_id: Annotated[
        str, Flag("--requested-agent-id", metavar="AGENT", help="The id of the agent.")
    ],
    runtime_kind: Annotated[
        str, Flag("--runtime-kind", metavar="KIND", help="The kind of program behind the agent, for people.")
    ],
    display_name: Annotated[
        str, Flag("--display-name", metavar="NAME", help="The agent's name, for people.")
    ],
    base_url: BaseUrl = None,
    profile_kind: Annotated[
        str,
        Flag("--profile-kind", metavar="KIND", help="The kind of profile, which decides the agent's grants."),
    ] = REPORTER_PROFILE,
    description: Annotated[
        str | None, Flag("--description", metavar="TEXT", help="What the agent is for.")
    ] = None,
    invitation_code: Annotated[
        str | None,
        Flag("--invitation-code", metavar="CODE", help="A code, if the kind of profile needs one."),
    ] = None,
    invitation_code_file: Annotated[
        str | None, Flag("--invitation-code-file", metavar="FILE", help="The file that holds the code.")
    ] = None,
) -> EnsuredProfile:
    """Keep a profile that works, or else admit the agent and make its profile.

    Without a working profile, the operator's bearer is needed.
    """
    if profile.strip() != f"{project_id}/{requested_agent_id}":
        raise UsageError("profile does not match requested agent")
    if not (non_blank(runtime_kind) and non_blank(display_name)):
        raise UsageError("--runtime-kind and --display-name must be non-empty")
    request = RequestCredentialToken(
        request_id=f"profile-bootstrap:{project_id}:{requested_agent_id}:{profile_kind}:{runtime_kind}",
        requested_agent_id=requested_agent_id,
        display_name=display_name,
        runtime_kind=runtime_kind,
        description=description,
        profile_kind=profile_kind,
        invitation_code=_read_code(invitation_code, invitation_code_file),
    )
    config_file = ConfigFile.locate(admin.config)
    config = config_file.read()
    trusted = authorities(admin.ca_file, config)
    existing = config.profiles.get(profile.strip())
    if existing and await _works(existing, kernel_url(base_url, admin.config, project_id), trusted):
        return _ensured(existing)
    token = admin_token(admin, config, project_id)
    if token is None:
        message = "Admin Service bearer token is required to ensure an Agent profile"
        raise ProfileError("profile_auth_required", message, status=401)
    check_can_store(config_file)
    address = admin_url(admin.admin_base_url, base_url, config, project_id)
    async with AdmissionClient(address, token=token, ca_file=trusted) as admission:
        try:
            admitted = await admission.request_token(project_id, request)
        except KernelRefused as refused:
            if refused.status != UnauthorizedError.status:
                raise
            raise ProfileError("profile_auth_required", refused.message, status=401) from refused
    return _ensured(store_credential(config_file, admitted, display_name))


async def _works(profile: Profile, base_url: str, ca_file: str | Path | None) -> bool:
    """Whether the kernel accepts the profile's token; other failures are raised."""
    try:
        token = read_profile_token(profile)
        async with KernelClient(base_url, agent=profile.agent, token=token, ca_file=ca_file) as kernel:
            await kernel.agents.get(profile.agent)
    except ProfileError as unusable:
        if unusable.code != "profile_stale":
            raise
        return False
    except KernelRefused as refused:
        if Refusal.of(refused) not in _STALE:
            raise
        return False
    return True


def _read_code(code: str | None, path: str | None) -> str | None:
    if code is not None and path is not None:
        raise UsageError("give --invitation-code or --invitation-code-file, not both")
    return non_blank(code if path is None else Path(path).expanduser().read_text("utf-8"))


def _ensured(profile: Profile) -> EnsuredProfile:
    return EnsuredProfile(
        profile=profile.name,
        project_id=profile.project_id,
        agent_id=profile.agent_id,
        credential_id=profile.credential_id,
    )
