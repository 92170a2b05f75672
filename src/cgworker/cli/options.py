"""Flags that several commands share: single ones as annotated types, and groups as frozen classes.

A command takes a group as one parameter; `command()` spreads it into its flags. What is said of them here is
data, and loads no typer: a process that runs for weeks has its line read by another (`apart.py`).
"""

from __future__ import annotations

from typing import Annotated

from attrs import field, frozen


@frozen
class Flag:
    """A flag as `typer.Option` takes it, for modules that shall not load typer.

    Attributes:
        name: as it is typed.
        metavar: what stands for its value in the help.
        help: what it is for.
        min: the least number.
        max: the greatest number.
    """

    name: str
    metavar: str | None = field(default=None, kw_only=True)
    help: str = field(kw_only=True)
    min: float | None = field(default=None, kw_only=True)
    max: float | None = field(default=None, kw_only=True)


@frozen(kw_only=True)
class Argument:
    """Words without a flag, as `typer.Argument` takes them."""

    metavar: str
    help: str


ProjectId = Annotated[str, Flag("--project-id", metavar="PROJECT", help="The project.")]
TurnId = Annotated[str, Flag("--turn-id", metavar="TURN", help="The turn, such as T-7.")]
AgentId = Annotated[str, Flag("--agent-id", metavar="AGENT", help="The agent.")]
RequestedBy = Annotated[str, Flag("--requested-by", metavar="AGENT", help="The agent that asks for it.")]
MaybeRequestedBy = Annotated[
    str | None,
    Flag("--requested-by", metavar="AGENT", help="The agent that asks for it, if another."),
]
MaybeProjectId = Annotated[
    str | None, Flag("--project-id", metavar="PROJECT", help="The project.  [default: cg-demo]")
]
ProfilesProjectId = Annotated[
    str | None,
    Flag("--project-id", metavar="PROJECT", help="The project.  [default: the profile's]"),
]
RequestId = Annotated[
    str | None,
    Flag("--request-id", metavar="KEY", help="What the requester calls this request."),
]
DispatchKey = Annotated[
    str | None,
    Flag("--dispatch-key", metavar="KEY", help="What makes a repeat the same turn."),
]
ActingAgent = Annotated[
    str | None,
    Flag("--agent-id", metavar="AGENT", help="Whom you act as.  [default: the profile's agent]"),
]
MaybeTurnKind = Annotated[str | None, Flag("--turn-kind", metavar="KIND", help="Only of this kind.")]
ClaimFile = Annotated[
    str, Flag("--claim-file", metavar="FILE", help="The claim, as `cg worker claim next` wrote it.")
]
ClaimOutFile = Annotated[
    str | None, Flag("--claim-out-file", metavar="FILE", help="Write the claim there, for you alone.")
]
Capacity = Annotated[
    int | None, Flag("--capacity", min=1, metavar="N", help="How many turns it may run at once.")
]
Capabilities = Annotated[
    list[str] | None,
    Flag("--capability", metavar="KIND", help="A kind of turn it can do; repeat for more."),
]
Grants = Annotated[
    list[str] | None, Flag("--grant", metavar="GRANT", help="A right to give it; repeat for more.")
]
Limit = Annotated[int | None, Flag("--limit", min=1, metavar="N", help="At most so many.")]
PageLimit = Annotated[int, Flag("--limit", min=1, metavar="N", help="At most so many.")]
EnabledOnly = Annotated[bool, Flag("--enabled-only", help="Only agents that are enabled.")]
AcceptsWorkOnly = Annotated[bool, Flag("--accepts-work-only", help="Only agents that accept work.")]
AfterLedgerSeq = Annotated[int, Flag("--after-ledger-seq", metavar="N", help="Only events after this one.")]
FollowSeconds = Annotated[
    float, Flag("--wait-seconds", min=0, metavar="S", help="Wait so long for the first event.")
]
TimeoutSeconds = Annotated[
    float, Flag("--timeout-seconds", min=0, metavar="S", help="Give up after so long.")
]
PollIntervalMs = Annotated[
    int,
    Flag(
        "--poll-interval-ms", min=1, metavar="MS", help="How often to ask a kernel that does not wait itself."
    ),
]
ContextAfter = Annotated[
    int, Flag("--context-after-turn-seq", metavar="N", help="Only records after this one.")
]
ContextLimit = Annotated[int, Flag("--context-limit", min=1, metavar="N", help="At most so many records.")]
RenewInterval = Annotated[
    float | None,
    Flag("--renew-interval-seconds", min=0.01, metavar="S", help="Renew leases sooner than they need."),
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
        help="Trust the authorities in it, and no others.  [env: CG_CA_FILE]",
    ),
]


@frozen(kw_only=True)
class KernelFlags:
    """Which kernel, and a credential for it."""

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
            help="The file it is in.  [env: CG_AGENT_CREDENTIAL_TOKEN_FILE]",
        ),
    ] = None
    ca_file: CaFile = None
    config: ConfigPath = None


@frozen(kw_only=True)
class ServerFlags(KernelFlags):
    """Which kernel, and as whom."""

    profile: Annotated[
        str | None,
        Flag("--profile", metavar="PROJECT/AGENT", help="A profile of the config file to act as."),
    ] = None


@frozen(kw_only=True)
class CallerFlags:
    """Whose credential `--auth-token` is, for commands that only read."""

    caller_project_id: Annotated[
        str | None,
        Flag("--caller-project-id", metavar="PROJECT", help="[env: CG_CALLER_PROJECT_ID]"),
    ] = None
    caller_agent_id: Annotated[
        str | None,
        Flag("--caller-agent-id", metavar="AGENT", help="[env: CG_CALLER_AGENT_ID]"),
    ] = None


@frozen(kw_only=True)
class AdminFlags:
    """Which admission service, and the operator's bearer for it."""

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
            help="The file it is in.  [env: CG_ADMIN_AUTH_TOKEN_FILE]",
        ),
    ] = None
    ca_file: CaFile = None
    config: ConfigPath = None


@frozen(kw_only=True)
class OperatorFlags:
    """Which kernel, as its project's admin-service, or as another agent with the rights it takes."""

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
    """Where a server listens, and on which database."""

    pg_dsn: PgDsn = None
    host: Annotated[str | None, Flag("--host", metavar="ADDRESS", help="The address to listen on.")] = None
    port: Annotated[
        int | None,
        Flag("--port", min=0, max=65535, metavar="N", help="The port to listen on; 0: a free one."),
    ] = None
    log_level: Annotated[str | None, Flag("--log-level", metavar="LEVEL", help="How much is logged.")] = None
