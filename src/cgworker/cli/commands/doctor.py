"""`cg doctor`: check everything between this machine and its kernel, and advise."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from cgworker.cli.command import Program, add_command, single
from cgworker.cli.connect import authorities, kernel_url
from cgworker.cli.options import ServerFlags
from cgworker.cli.problems import problem_of
from cgworker.cli.progress import progress
from cgworker.cli.results import Diagnosis, DoctorCheck
from cgworker.client import KernelClient
from cgworker.errors import KernelOverloaded, KernelRefused, ProfileError
from cgworker.profiles import ConfigFile, Profile, non_blank, read_profile_token

_MAX_SKEW_SECONDS = 5.0
_SKEW_ADVICE = "Set this machine's clock, or the server's. Leases do not depend on it; expiry times shown do."


async def doctor(server: ServerFlags) -> Diagnosis:
    """Check the config, the database of PG_DSN, the profiles, their tokens, the server and the clocks."""
    with progress("looking"):
        checks = [check async for check in _checks(server)]
    return Diagnosis(healthy=all(check.healthy for check in checks), checks=tuple(checks))


async def _checks(server: ServerFlags) -> AsyncIterator[DoctorCheck]:
    yield (config := await _check("config", partial(_inspect_config, server)))
    if not config.healthy:
        return
    if non_blank(os.environ.get("PG_DSN")) and find_spec("asyncpg"):
        yield await _check("database", _inspect_database)
    profiles = _profiles(server)
    for profile in profiles:
        yield await _check(f"token of {profile.name}", partial(_inspect_token, profile))
    projects = {profile.project_id for profile in profiles}
    url = kernel_url(server.base_url, server.config, projects.pop() if len(projects) == 1 else None)
    async with KernelClient(url, ca_file=_trusted(server)) as kernel:
        yield (reached := await _check("server", partial(_inspect_server, kernel)))
        if not reached.healthy:
            return
        yield await check_clock(kernel)
    for profile in profiles:
        yield await _check(f"agent {profile.name}", partial(_inspect_agent, server, profile))


async def _check(name: str, inspect: Callable[[], Awaitable[str]]) -> DoctorCheck:
    """Run one check: `inspect` returns what is right, or raises what is wrong."""
    try:
        return DoctorCheck(name=name, healthy=True, message=await inspect())
    except Exception as raised:
        problem = problem_of(raised)
        return DoctorCheck(name=name, healthy=False, message=problem.message, advice=problem.advice)


async def _inspect_config(server: ServerFlags) -> str:
    config_file = ConfigFile.locate(server.config)
    try:
        config = config_file.read()
    except ProfileError as broken:
        msg = f"{config_file.path} is no config: {broken}; mend it, or move it away and join again"
        raise ProfileError(broken.code, msg, status=broken.status) from broken
    if name := non_blank(server.profile):
        config.profile(name)
    if not config_file.path.exists():
        return f"{config_file.path} does not exist: the defaults hold"
    names = ", ".join(config.profiles) or "none yet (`cg agent join URL CODE` makes one)"
    return f"{config_file.path}; profiles: {names}"


def _profiles(server: ServerFlags) -> Sequence[Profile]:
    """Return the profile of --profile, or all profiles."""
    config = ConfigFile.locate(server.config).read()
    name = non_blank(server.profile)
    return [config.profile(name)] if name else list(config.profiles.values())


async def _inspect_token(profile: Profile) -> str:
    read_profile_token(profile)
    return f"{profile.token_file} is readable by you alone"


async def _inspect_database() -> str:
    """Check the database that a kernel started in this environment would use."""
    from cgworker.kernel.config import KernelConfig  # these need the extra `kernel`
    from cgworker.kernel.store.postgres.connect import describe_server

    try:
        return await describe_server(KernelConfig.from_env())
    except KernelOverloaded as away:
        raise KernelRefused(str(away), code="setup_pg_unavailable", status=503) from away


async def _inspect_server(kernel: KernelClient) -> str:
    readiness = await kernel.readyz()
    lease = readiness.get("claim_timeout_seconds")
    return f"{kernel.base_url} is ready, with its database; a lease lasts {lease} s"


async def check_clock(kernel: KernelClient) -> DoctorCheck:
    """Compare this machine's clock with the Date header of the server's answer.

    Args:
        kernel: the kernel.

    Raises:
        CommonGroundError: the server does not answer.
    """
    answer = await kernel.send("GET", "/healthz")
    if "date" not in answer.headers:
        return DoctorCheck(name="clock", healthy=True, message="the server does not tell the time")
    skew = (datetime.now(UTC) - parsedate_to_datetime(answer.headers["date"])).total_seconds()
    if abs(skew) <= _MAX_SKEW_SECONDS:
        return DoctorCheck(name="clock", healthy=True, message="agrees with the server's")
    direction = "ahead of" if skew > 0 else "behind"
    message = f"is {abs(skew):.0f} s {direction} the server's"
    return DoctorCheck(name="clock", healthy=False, message=message, advice=_SKEW_ADVICE)


def _trusted(server: ServerFlags) -> str | Path | None:
    return authorities(server.ca_file, ConfigFile.locate(server.config).read())


async def _inspect_agent(server: ServerFlags, profile: Profile) -> str:
    base_url = kernel_url(server.base_url, server.config, profile.project_id)
    token = read_profile_token(profile)
    async with KernelClient(base_url, agent=profile.agent, token=token, ca_file=_trusted(server)) as kernel:
        agent = await kernel.agents.get(profile.agent)
    if not agent.accepts_work:
        return "the kernel accepts its token; it takes no turns"
    kinds = ", ".join(agent.capabilities) or "no kind of turn"
    return f"the kernel accepts its token; it takes {kinds}, {agent.capacity} at once"


app: Program = single()
add_command(app, "doctor", doctor)
