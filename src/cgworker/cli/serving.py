"""Run servers: a kernel, a kernel with its admission service, or an admission service alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack

from attrs import evolve, frozen

from cgworker.cli.database import open_or_print
from cgworker.cli.envelope import say
from cgworker.cli.options import ListenFlags
from cgworker.cli.seeding import OperatorFiles, prepare
from cgworker.errors import ProfileError
from cgworker.kernel.app import Kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.invitation_codes import Invitations
from cgworker.kernel.memory import keep_freed_memory
from cgworker.kernel.routes.admission import admission_routes
from cgworker.kernel.server import KernelServer, Routes, bind, serve
from cgworker.kernel.store.seed import has_projects, project_status
from cgworker.local_server import announced
from cgworker.private import read_secret
from cgworker.profiles import DEFAULT_BASE_URL, non_blank
from cgworker.worker.process.gc_tuning import relax_gc


@frozen(kw_only=True)
class AdmissionSetup:
    """The project that an admission service admits agents to, and its secrets.

    Attributes:
        project_id: the project.
        files: the operator's secrets.
        invitations: invitation codes for conversation workers; None for none.
        kernel_base_url: the kernel's address, which a joining agent is given; None to give none.
    """

    project_id: str
    files: OperatorFiles
    invitations: Invitations | None = None
    kernel_base_url: str | None = None

    @classmethod
    def of(
        cls,
        project_id: str | None,
        service_file: str | None,
        bearer_file: str | None,
        *,
        invitations: str | None = None,
    ) -> AdmissionSetup:
        """Take the setup from flags, or else from the environment, or else from the defaults of cg-demo.

        Args:
            project_id: the value of --project-id, if it is given.
            service_file: the value of --admin-service-token-file, if it is given.
            bearer_file: the value of --admin-auth-token-file, if it is given.
            invitations: the value of --invite-config-json, if it is given.

        Raises:
            UsageError: the file of invitation codes cannot be used.
        """
        project = non_blank(project_id) or _env("CG_PROJECT_ID") or "cg-demo"
        files = OperatorFiles.of(
            project,
            service_credential=non_blank(service_file) or _env("CG_ADMIN_SERVICE_TOKEN_FILE"),
            admin_bearer=non_blank(bearer_file) or _env("CG_ADMIN_AUTH_TOKEN_FILE"),
        )
        codes = non_blank(invitations) or _env("CG_ADMIN_INVITE_CONFIG_JSON")
        return cls(project_id=project, files=files, invitations=Invitations.load(codes) if codes else None)

    async def routes(self, kernel: Kernel) -> Routes:
        """Make the admission service's routes.

        Args:
            kernel: the kernel they are served with.

        Raises:
            NotFoundError: the project is not prepared (project_not_seeded).
            ProfileError: there is no usable bearer (admin_auth_token_file_invalid).
        """
        bearer = read_secret(self.files.admin_bearer)
        if bearer is None:
            (await project_status(kernel.database, self.project_id)).require_ready()
            message = f"there is no admin API bearer in {self.files.admin_bearer}"
            raise ProfileError("admin_auth_token_file_invalid", message, status=422)
        return admission_routes(
            kernel.config,
            project_id=self.project_id,
            bearer=bearer,
            invitations=self.invitations,
            kernel_base_url=self.kernel_base_url,
        )


# The variables of an admission service alone, in place of the kernel's (command line 3), and their defaults.
_ADMISSION_VARIABLES = {
    "CG_HOST": ("CG_ADMIN_HOST", "127.0.0.1"),
    "CG_PORT": ("CG_ADMIN_PORT", "8001"),
    "CG_LOG_LEVEL": ("CG_ADMIN_LOG_LEVEL", "info"),
}


def config_of(listen: ListenFlags, environ: Mapping[str, str] = os.environ) -> KernelConfig:
    """Read the configuration from the environment; flags take precedence.

    Args:
        listen: the flags.
        environ: the environment variables.

    Raises:
        UsageError: a flag or variable has a value that cannot be used.
    """
    given = {
        "PG_DSN": non_blank(listen.pg_dsn),
        "CG_HOST": non_blank(listen.host),
        "CG_PORT": None if listen.port is None else str(listen.port),
        "CG_LOG_LEVEL": non_blank(listen.log_level),
    }
    return KernelConfig.from_env({**environ, **{name: text for name, text in given.items() if text}})


def admission_environ() -> dict[str, str]:
    """Return the environment with the variables of an admission service in place of the kernel's."""
    own = {name: _env(ours) or default for name, (ours, default) in _ADMISSION_VARIABLES.items()}
    return {**os.environ, **own}


async def run_service(config: KernelConfig) -> None:
    """Run a kernel until SIGTERM or SIGINT.

    Args:
        config: its configuration.

    Raises:
        CommonGroundError: the database or the address cannot be used.
    """
    with bind(config.host, config.port) as listener:
        async with open_or_print(config, "cg service run") as database:
            if not await has_projects(database):
                say("No project is prepared yet: `cg setup project seed --project-id PROJECT` does that.")
            await serve(config, database, listener, ready=_tune_memory)


async def run_local(config: KernelConfig, admission: AdmissionSetup, base_url: str | None) -> None:
    """Prepare a project, and run a kernel with its admission service (difference 15).

    Args:
        config: the kernel's configuration.
        admission: the project and its secrets.
        base_url: the address that clients reach; None is the one it listens at.

    Raises:
        CommonGroundError: the database or the address cannot be used.
    """
    with bind(config.host, config.port) as listener:
        port = listener.getsockname()[1]
        async with open_or_print(config, "cg local run") as database:
            await prepare(database, admission.project_id, admission.files)
            base_url = base_url or f"http://{_reachable(config.host)}:{port}"
            say(
                f"Starting CommonGround local server project={admission.project_id} base_url={base_url} "
                f"host={config.host} port={port} paths=/v3r1,/admin/v1"
            )
            with ExitStack() as stack:

                def begun(server: KernelServer) -> None:
                    stack.enter_context(announced(admission.project_id, base_url))
                    _tune_memory(server)

                await serve(config, database, listener, more_routes=admission.routes, ready=begun)


def _reachable(host: str) -> str:
    """Return the host of a URL at which this machine reaches a server that listens there."""
    if host in ("0.0.0.0", "::"):  # only compared
        return "127.0.0.1" if host == "0.0.0.0" else "[::1]"
    return f"[{host}]" if ":" in host else host


async def run_admission(config: KernelConfig, admission: AdmissionSetup, base_url: str | None) -> None:
    """Run an admission service alone, on a database that a kernel serves as well.

    Args:
        config: the configuration.
        admission: the project and its secrets.
        base_url: the kernel's address, which a joining agent is given; None to give none.

    Raises:
        CommonGroundError: the database or the address cannot be used.
    """
    # The kernel reclaims ended leases; a second reaper would only read the same rows.
    config = evolve(config, claim_reaper_interval_seconds=0)
    admission = evolve(admission, kernel_base_url=base_url)
    with bind(config.host, config.port) as listener:
        async with open_or_print(config, "cg admission run") as database:
            say(
                f"Starting CommonGround admission service project={admission.project_id} "
                f"base_url={base_url or DEFAULT_BASE_URL} host={config.host} "
                f"port={listener.getsockname()[1]} paths=/admin/v1"
            )
            await serve(config, database, listener, more_routes=admission.routes, has_kernel_routes=False)


def _tune_memory(_: KernelServer) -> None:
    """Relax the garbage collector, as most objects of a started kernel stay, and keep freed memory."""
    relax_gc()
    keep_freed_memory()


def _env(name: str) -> str | None:
    return non_blank(os.environ.get(name))
