"""`cg doctor`: looks at everything between this machine and its kernel, and says what to do."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from cgworker.cli.command import add_command, single
from cgworker.cli.connect import authorities, kernel_url
from cgworker.cli.options import ServerFlags
from cgworker.cli.problems import problem_of
from cgworker.cli.progress import progress
from cgworker.cli.results import Check, Diagnosis
from cgworker.client import KernelClient
from cgworker.errors import KernelOverloaded, KernelRefused, ProfileError
from cgworker.profiles import ConfigFile, Profile, non_blank, read_profile_token

_MOST_SKEW_SECONDS = 5.0
_SKEW_ADVICE = "Set this machine's clock, or the server's. Leases do not depend on it; expiry times shown do."


async def doctor(server: ServerFlags) -> Diagnosis:
    """Check the config, the database of PG_DSN, the profiles, their tokens, the server and the clocks."""
    with progress("looking"):
        checks = [check async for check in _checks(server)]
    return Diagnosis(healthy=all(check.healthy for check in checks), checks=tuple(checks))


async def _checks(server: ServerFlags) -> AsyncIterator[Check]:
    yield (config := await _look("config", partial(_at_config, server)))
    if not config.healthy:
        return
    if non_blank(os.environ.get("PG_DSN")) and find_spec("asyncpg"):
        yield await _look("database", _at_database)
    profiles = _profiles(server)
    for profile in profiles:
        yield await _look(f"token of {profile.name}", partial(_at_token, profile))
    async with KernelClient(kernel_url(server.base_url, server.config), ca_file=_trusted(server)) as kernel:
        yield (reached := await _look("server", partial(_at_server, kernel)))
        if not reached.healthy:
            return
        yield await check_clock(kernel)
    for profile in profiles:
        yield await _look(f"agent {profile.name}", partial(_at_agent, server, profile))


async def _look(name: str, at: Callable[[], Awaitable[str]]) -> Check:
    """What looking at something finds; what it raises is what is wrong with it."""
    try:
        return Check(name=name, healthy=True, message=await at())
    except Exception as raised:
        problem = problem_of(raised)
        return Check(name=name, healthy=False, message=problem.message, advice=problem.advice)


async def _at_config(server: ServerFlags) -> str:
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
    """The profile asked for, or all there are."""
    config = ConfigFile.locate(server.config).read()
    name = non_blank(server.profile)
    return [config.profile(name)] if name else list(config.profiles.values())


async def _at_token(profile: Profile) -> str:
    read_profile_token(profile)
    return f"{profile.token_file} is readable by you alone"


async def _at_database() -> str:
    """What a kernel started in this environment would use."""
    from cgworker.kernel.store.postgres.connect import server_version  # it needs the extra `kernel`

    try:
        return f"PostgreSQL {await server_version(os.environ['PG_DSN'])} answers at PG_DSN"
    except KernelOverloaded as away:
        raise KernelRefused(str(away), code="setup_pg_unavailable", status=503) from away


async def _at_server(kernel: KernelClient) -> str:
    said_of_itself = await kernel.readyz()
    lease = said_of_itself.get("claim_timeout_seconds")
    return f"{kernel.base_url} is ready, with its database; a lease lasts {lease} s"


async def check_clock(kernel: KernelClient) -> Check:
    """Compare this clock with the date that the server puts on its answers."""
    answer = await kernel.send("GET", "/healthz")
    if "date" not in answer.headers:
        return Check(name="clock", healthy=True, message="the server does not tell the time")
    skew = (datetime.now(UTC) - parsedate_to_datetime(answer.headers["date"])).total_seconds()
    if abs(skew) <= _MOST_SKEW_SECONDS:
        return Check(name="clock", healthy=True, message="agrees with the server's")
    direction = "ahead of" if skew > 0 else "behind"
    message = f"is {abs(skew):.0f} s {direction} the server's"
    return Check(name="clock", healthy=False, message=message, advice=_SKEW_ADVICE)


def _trusted(server: ServerFlags) -> str | Path | None:
    return authorities(server.ca_file, ConfigFile.locate(server.config).read())


async def _at_agent(server: ServerFlags, profile: Profile) -> str:
    base_url = kernel_url(server.base_url, server.config, profile.project_id)
    token = read_profile_token(profile)
    async with KernelClient(base_url, agent=profile.agent, token=token, ca_file=_trusted(server)) as kernel:
        agent = await kernel.agents.get(profile.agent)
    if not agent.accepts_work:
        return "the kernel accepts its token; it takes no turns"
    kinds = ", ".join(agent.capabilities) or "no kind of turn"
    return f"the kernel accepts its token; it takes {kinds}, {agent.capacity} at once"


app = single()
add_command(app, "doctor", doctor)
