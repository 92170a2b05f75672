"""`cg agent join`: become an agent by an invite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cgworker.cli.connect import admin_url, authorities, kernel_url
from cgworker.cli.options import (
    AdminBaseUrl,
    Argument,
    BaseUrl,
    CaFile,
    ConfigPath,
    Flag,
)
from cgworker.cli.problems import reset_code
from cgworker.cli.results import JoinedAgent
from cgworker.client import AdmissionClient
from cgworker.credential_store import check_can_store, store_credential
from cgworker.errors import KernelRefused, UsageError
from cgworker.profiles import ConfigFile, non_blank
from cgworker.wire.absent import Absent


async def join(
    server_url: Annotated[
        str | None,
        Argument(metavar="[SERVER_URL]", help="The address of the kernel and its admission service."),
    ] = None,
    join_code: Annotated[
        str | None, Argument(metavar="[JOIN_CODE]", help="The invite's code (cgjoin_...).")
    ] = None,
    join_code_flag: Annotated[
        str | None, Flag("--join-code", metavar="CODE", help="The invite's code, as a flag.")
    ] = None,
    base_url: BaseUrl = None,
    admin_base_url: AdminBaseUrl = None,
    ca_file: CaFile = None,
    config: ConfigPath = None,
) -> JoinedAgent:
    """Become an agent by an invite, and keep its token, its profile and --ca-file on this machine."""
    code = _one_code(join_code, join_code_flag)
    config_file = ConfigFile.locate(config)
    check_can_store(config_file)
    kernel_address = non_blank(server_url) or kernel_url(base_url, config)
    admin_address = non_blank(server_url) or admin_url(admin_base_url, base_url, config_file.read())
    trusted = authorities(ca_file, config_file.read())
    async with AdmissionClient(admin_address, ca_file=trusted) as admission:
        try:
            joined = await admission.redeem(code)
        except KernelRefused as refused:
            raise reset_code(refused, "join_failed") from refused
    if not isinstance(joined.kernel_base_url, Absent):
        kernel_address = non_blank(base_url) or joined.kernel_base_url
    profile = store_credential(config_file, joined, joined.invite.display_name)
    found = {"base_url": kernel_address, "admin_base_url": admin_address}
    if trusted is not None:
        found["ca_file"] = str(_absolute(trusted))
    config_file.update(lambda content: content.update(found))
    return JoinedAgent(
        profile=profile.name,
        project_id=profile.project_id,
        agent_id=profile.agent_id,
        base_url=kernel_address,
        admin_base_url=admin_address,
        credential_id=joined.profile.credential_id,
    )


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()


def _one_code(positional: str | None, flag: str | None) -> str:
    positional, flag = non_blank(positional), non_blank(flag)
    if positional and flag and positional != flag:
        raise UsageError("join code positional value conflicts with --join-code")
    code = positional or flag
    if code is None:
        raise UsageError("cg agent join requires a join code")
    return code
