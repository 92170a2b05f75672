"""`cg profile ensure-agent`: have a profile that works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cgworker.cli.connect import admin_token, admin_url, authorities, kernel_url
from cgworker.cli.credential_store import check_can_store, store_credential
from cgworker.cli.options import AdminFlags, BaseUrl, Flag, ProjectId
from cgworker.cli.results import EnsuredProfile
from cgworker.client import AdmissionClient, KernelClient
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
        str, Flag("--requested-agent-id", metavar="AGENT", help="The agent to be.")
    ],
    runtime_kind: Annotated[
        str, Flag("--runtime-kind", metavar="KIND", help="What runs behind it, for people to read.")
    ],
    display_name: Annotated[str, Flag("--display-name", metavar="NAME", help="What people call it.")],
    base_url: BaseUrl = None,
    profile_kind: Annotated[
        str, Flag("--profile-kind", metavar="KIND", help="What it may do.")
    ] = REPORTER_PROFILE,
    description: Annotated[str | None, Flag("--description", metavar="TEXT", help="What it is for.")] = None,
    invitation_code: Annotated[
        str | None,
        Flag("--invitation-code", metavar="CODE", help="If the profile kind asks for one."),
    ] = None,
    invitation_code_file: Annotated[
        str | None, Flag("--invitation-code-file", metavar="FILE", help="A file it is in.")
    ] = None,
) -> EnsuredProfile:
    """Have a profile that works: kept if it does, else the agent is admitted and its token kept.

    The operator's bearer is needed, unless the profile there is works.
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
    """Whether the kernel takes the profile's token; other trouble with the kernel is raised."""
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
