"""`cg provision serve`: provide agents, each with a worker in a process of its own.

The module loads no typer: it runs for weeks, and a child process reads its line (`parse_in_child.py`).
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Annotated

from attrs import frozen

from cgworker.cli.connect import as_actor, as_operator
from cgworker.cli.identity import acting_agent
from cgworker.cli.loop_worker import log_worker_to_stderr
from cgworker.cli.options import AdminBaseUrl, AdminFlags, Flag, HealthPort, ServerFlags
from cgworker.cli.payload import split_command
from cgworker.handlers import CommandHandler
from cgworker.profiles import ConfigFile
from cgworker.provisioning import SPAWN_KIND, Provisioner
from cgworker.worker import Worker, WorkerOptions
from cgworker.worker.process.dumpable import close_memory
from cgworker.worker.process.exit import ending_in_time
from cgworker.worker.process.gc_tuning import relax_gc
from cgworker.worker.process.pid1 import run_below_pid1
from cgworker.worker.process.serve import run_loop
from cgworker.worker.process.serve import serve as serve_workers


@frozen(kw_only=True)
class ServedProvisioner:
    """The agent that provided agents."""

    project_id: str
    agent_id: str


def serve(
    server: ServerFlags,
    role: Annotated[
        list[str] | None,
        Flag("--role", metavar="ROLE", help="A role that may be asked for; repeat for more.  [default: any]"),
    ] = None,
    max_agents: Annotated[
        int, Flag("--max-agents", min=1, metavar="N", help="The most agents at once.")
    ] = 16,
    grace_seconds: Annotated[
        float,
        Flag("--grace-seconds", min=0, metavar="S", help="How long commands may run on after SIGTERM."),
    ] = 20.0,
    admin_auth_token_file: Annotated[
        str | None,
        Flag(
            "--admin-auth-token-file",
            metavar="FILE",
            help="The file that holds the admin API's bearer.  [env: CG_ADMIN_AUTH_TOKEN_FILE]",
        ),
    ] = None,
    admin_base_url: AdminBaseUrl = None,
    health_port: HealthPort = None,
    *,
    command: Annotated[
        str,
        Flag(
            "--command",
            metavar="CMD [ARGS]...",
            help="The command that works the agents' turns; takes the rest of the line.",
        ),
    ],
) -> ServedProvisioner:
    """Provide agents until SIGTERM or SIGINT: admit each that is asked for, and keep a worker for it running.

    A worker that ends is started again. What was started before is taken up.
    """
    agent = acting_agent(server, command_name="cg provision serve")
    argv = split_command(command)
    CommandHandler(argv).check()
    admin = AdminFlags(
        admin_base_url=admin_base_url or server.base_url,
        admin_auth_token_file=admin_auth_token_file,
        ca_file=server.ca_file,
        config=server.config,
    )
    kernel = as_actor(server, agent)
    provisioner = Provisioner(
        agent=agent,
        admission=as_operator(admin, agent.project_id, to="provide agents"),
        base_url=kernel.base_url,
        command=argv,
        roles=tuple(role or ()),
        max_agents=max_agents,
        grace_seconds=grace_seconds,
        config_file=ConfigFile.locate(server.config),
    )
    worker = Worker(kernel, options=WorkerOptions(grace_seconds=grace_seconds), lifespan=provisioner.lifespan)
    worker.add(SPAWN_KIND, provisioner)
    close_memory()
    run_below_pid1()
    relax_gc()
    log_worker_to_stderr(logging.INFO)
    with ending_in_time() as ending:
        ending.watch([worker])
        run_loop([worker], partial(serve_workers, (worker,), None, health_port, ending.begin))
    return ServedProvisioner(project_id=agent.project_id, agent_id=agent.agent_id)
