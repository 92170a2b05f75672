"""Declare flags, and the flags that several commands share: single ones as types, and groups as classes.

A command takes a group as one parameter; `add_command` makes its fields single flags. Declarations are data
and do not load typer: a process that runs for weeks has its line parsed by a child (`parse_in_child.py`).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from attrs import field, frozen

Completion = Literal["profile", "project", "agent", "taker", "kind", "turn", "schedule"]
"""What a shell can complete: names that the config file or the kernel knows. A taker takes turns."""


@frozen
class Flag:
    """A flag of a command.

    Attributes:
        name: the flag as it is typed, such as `--turn-id`.
        metavar: the name of its value in the help; None for the type's.
        help: what the flag does.
        min: the smallest number allowed; None for no limit.
        max: the largest number allowed; None for no limit.
        completes: what a shell completes its value with (`completion.py`); None for nothing.
    """

    name: str
    metavar: str | None = field(default=None, kw_only=True)
    help: str = field(kw_only=True)
    min: float | None = field(default=None, kw_only=True)
    max: float | None = field(default=None, kw_only=True)
    completes: Completion | None = field(default=None, kw_only=True)


@frozen(kw_only=True)
class Argument:
    """Words of a command that have no flag.

    Attributes:
        metavar: their name in the help.
        help: what they are.
        completes: what a shell completes them with (`completion.py`); None for nothing.
    """

    metavar: str
    help: str
    completes: Completion | None = None


ProjectId = Annotated[str, Flag("--project-id", metavar="PROJECT", help="The project.", completes="project")]
AgentId = Annotated[str, Flag("--agent-id", metavar="AGENT", help="The agent.", completes="agent")]
RequestedBy = Annotated[
    str, Flag("--requested-by", metavar="AGENT", help="The agent that makes the request.")
]
ProfilesAgent = Annotated[
    str | None,
    Flag(
        "--requested-by",
        metavar="AGENT",
        help="The agent that makes the request.  [default: the profile's]",
        completes="agent",
    ),
]
MaybeRequestedBy = Annotated[
    str | None,
    Flag("--requested-by", metavar="AGENT", help="The agent that makes the request.  [default: the agent]"),
]
MaybeProjectId = Annotated[
    str | None,
    Flag("--project-id", metavar="PROJECT", help="The project.  [default: cg-demo]", completes="project"),
]
ProfilesProjectId = Annotated[
    str | None,
    Flag(
        "--project-id", metavar="PROJECT", help="The project.  [default: the profile's]", completes="project"
    ),
]
RequestId = Annotated[
    str | None,
    Flag("--request-id", metavar="KEY", help="The requester's own id for this request."),
]
DispatchKey = Annotated[
    str | None,
    Flag(
        "--dispatch-key", metavar="KEY", help="Repeating the command with the same key gives the same turn."
    ),
]
ScheduleId = Annotated[
    str,
    Argument(metavar="SCHEDULE", help="The schedule, such as nightly-report.", completes="schedule"),
]
ActingAgent = Annotated[
    str | None,
    Flag(
        "--agent-id",
        metavar="AGENT",
        help="The agent to act as.  [default: the profile's agent]",
        completes="agent",
    ),
]
TargetAgent = Annotated[
    str | None,
    Flag("--target-agent", metavar="AGENT", help="Only turns of this agent.", completes="taker"),
]
ExitStatus = Annotated[bool, Flag("--exit-status", help="Exit with 1 unless the turn has succeeded.")]
MaybeTurnKind = Annotated[
    str | None, Flag("--turn-kind", metavar="KIND", help="Only of this kind.", completes="kind")
]
ClaimFile = Annotated[
    str, Flag("--claim-file", metavar="FILE", help="The claim, as `cg worker claim next` wrote it.")
]
ClaimOutFile = Annotated[
    str | None, Flag("--claim-out-file", metavar="FILE", help="Write the claim there, for you alone.")
]
Capacity = Annotated[
    int | None, Flag("--capacity", min=1, metavar="N", help="How many turns the agent may run at once.")
]
Capabilities = Annotated[
    list[str] | None,
    Flag("--capability", metavar="KIND", help="A kind of turn the agent can do; repeat for more."),
]
Grants = Annotated[
    list[str] | None, Flag("--grant", metavar="GRANT", help="A grant for the agent; repeat for more.")
]
Limit = Annotated[int | None, Flag("--limit", min=1, metavar="N", help="Show at most N.")]
PageLimit = Annotated[int, Flag("--limit", min=1, metavar="N", help="Show at most N.")]
EnabledOnly = Annotated[bool, Flag("--enabled-only", help="Only agents that are enabled.")]
AcceptsWorkOnly = Annotated[bool, Flag("--accepts-work-only", help="Only agents that accept work.")]
AfterLedgerSeq = Annotated[
    int, Flag("--after-ledger-seq", metavar="N", help="Only events after this number.")
]
FollowSeconds = Annotated[
    float, Flag("--wait-seconds", min=0, metavar="S", help="Wait up to S seconds for the first event.")
]
TimeoutSeconds = Annotated[
    float, Flag("--timeout-seconds", min=0, metavar="S", help="Give up after S seconds.")
]
PollIntervalMs = Annotated[
    int,
    Flag(
        "--poll-interval-ms",
        min=1,
        metavar="MS",
        help="The pause between requests to a kernel without long polls.",
    ),
]
ContextAfter = Annotated[
    int, Flag("--context-after-turn-seq", metavar="N", help="Only records after this number.")
]
ContextLimit = Annotated[int, Flag("--context-limit", min=1, metavar="N", help="At most N records.")]
RenewInterval = Annotated[
    float | None,
    Flag("--renew-interval-seconds", min=0.01, metavar="S", help="Renew leases at least every S seconds."),
]
HealthPort = Annotated[
    int | None,
    Flag(
        "--health-port",
        min=0,
        max=65535,
        metavar="N",
        help="Answer /healthz and /readyz on this port of 127.0.0.1; 0: a free one.",
    ),
]
PgDsn = Annotated[
    str | None,
    Flag(
        "--pg-dsn",
        metavar="DSN",
        help="The database.  [env: PG_DSN; default: the embedded PostgreSQL]",
    ),
]
ConfigPath = Annotated[
    str | None,
    Flag(
        "--config",
        metavar="FILE",
        help="The config file.  [env: CG_CONFIG_PATH; default: ~/.config/commonground/config.json]",
    ),
]
BaseUrl = Annotated[
    str | None,
    Flag(
        "--base-url",
        metavar="URL",
        help="The kernel.  [env: CG_BASE_URL; default: the config's, that of `cg local run`, http://127.0.0.1:8000]",
    ),
]
AdminBaseUrl = Annotated[
    str | None,
    Flag(
        "--admin-base-url",
        metavar="URL",
        help="The admission service.  [env: CG_ADMIN_BASE_URL; default: the config's, the kernel's]",
    ),
]
AdminBearerFile = Annotated[
    str | None,
    Flag(
        "--admin-auth-token-file",
        metavar="FILE",
        help="The file with the admin API's bearer.  [default: the project's own]",
    ),
]
AdminServiceFile = Annotated[
    str | None,
    Flag(
        "--admin-service-token-file",
        metavar="FILE",
        help="The file with admin-service's credential.  [default: the project's own]",
    ),
]


CaFile = Annotated[
    str | None,
    Flag(
        "--ca-file",
        metavar="FILE",
        help="Trust only the certificate authorities in it.  [env: CG_CA_FILE]",
    ),
]


# ---------------------------------------------------------------- connections: the last flags of a help


@frozen(kw_only=True)
class KernelFlags:
    """The flags that name a kernel, and a credential for it."""

    is_connection: ClassVar[bool] = True
    base_url: BaseUrl = None
    auth_token: Annotated[
        str | None,
        Flag(
            "--auth-token", metavar="TOKEN", help="The agent's credential.  [env: CG_AGENT_CREDENTIAL_TOKEN]"
        ),
    ] = field(default=None, repr=False)
    auth_token_file: Annotated[
        str | None,
        Flag(
            "--auth-token-file",
            metavar="FILE",
            help="The file that holds it.  [env: CG_AGENT_CREDENTIAL_TOKEN_FILE]",
        ),
    ] = None
    ca_file: CaFile = None
    config: ConfigPath = None


@frozen(kw_only=True)
class ServerFlags(KernelFlags):
    """The flags that name a kernel, and the agent to act as."""

    profile: Annotated[
        str | None,
        Flag(
            "--profile",
            metavar="PROJECT/AGENT",
            help="The profile to act as.  [default: the only one]",
            completes="profile",
        ),
    ] = None


@frozen(kw_only=True)
class CallerFlags:
    """The flags that name the agent of `--auth-token`, for commands that only read."""

    is_connection: ClassVar[bool] = True
    caller_project_id: Annotated[
        str | None,
        Flag(
            "--caller-project-id",
            metavar="PROJECT",
            help="The project of the agent of --auth-token.  [env: CG_CALLER_PROJECT_ID]",
        ),
    ] = None
    caller_agent_id: Annotated[
        str | None,
        Flag(
            "--caller-agent-id", metavar="AGENT", help="The agent of --auth-token.  [env: CG_CALLER_AGENT_ID]"
        ),
    ] = None


@frozen(kw_only=True)
class AdminFlags:
    """The flags that name an admission service, and the operator's bearer for it."""

    is_connection: ClassVar[bool] = True
    admin_base_url: AdminBaseUrl = None
    admin_auth_token: Annotated[
        str | None,
        Flag(
            "--admin-auth-token", metavar="TOKEN", help="The admin API's bearer.  [env: CG_ADMIN_AUTH_TOKEN]"
        ),
    ] = field(default=None, repr=False)
    admin_auth_token_file: Annotated[
        str | None,
        Flag(
            "--admin-auth-token-file",
            metavar="FILE",
            help="The file that holds it.  [env: CG_ADMIN_AUTH_TOKEN_FILE]",
        ),
    ] = None
    ca_file: CaFile = None
    config: ConfigPath = None


@frozen(kw_only=True)
class OperatorFlags:
    """The flags that name a kernel, for its project's admin-service or another agent with the grants."""

    is_connection: ClassVar[bool] = True
    base_url: BaseUrl = None
    profile: Annotated[
        str | None,
        Flag("--profile", metavar="PROJECT/AGENT", help="Act as this profile, not as admin-service."),
    ] = None
    admin_service_token_file: AdminServiceFile = None
    ca_file: CaFile = None
    config: ConfigPath = None


@frozen(kw_only=True)
class ListenFlags:
    """The flags that name a server's address and its database."""

    pg_dsn: PgDsn = None
    host: Annotated[str | None, Flag("--host", metavar="ADDRESS", help="The address to listen on.")] = None
    port: Annotated[
        int | None,
        Flag("--port", min=0, max=65535, metavar="N", help="The port to listen on; 0: a free one."),
    ] = None
    log_level: Annotated[str | None, Flag("--log-level", metavar="LEVEL", help="The log level.")] = None
