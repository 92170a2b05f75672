"""Run a kernel, agents and a page to look at them in one process, for `cg dev`."""

from __future__ import annotations

import os
import shutil
import webbrowser
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from importlib.util import find_spec
from typing import Self

import anyio
import anyio.abc
from attrs import frozen

from cgworker.cli.apps import load_workers
from cgworker.cli.database import open_or_print
from cgworker.cli.envelope import say
from cgworker.cli.sample_agent import NAME, sample_worker
from cgworker.cli.seeding import OperatorFiles, prepare
from cgworker.client import KernelClient
from cgworker.errors import ConflictError, UsageError
from cgworker.events import logger
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.server import KernelServer, bind, serve
from cgworker.kernel.store.agents import register_agent
from cgworker.kernel.store.credentials import issue_credential
from cgworker.kernel.store.postgres.database import Database
from cgworker.local_server import announced, find_server
from cgworker.paths import credential_path, dev_database_folder
from cgworker.private import replace_private
from cgworker.profiles import ConfigFile, Profile, kernel_url_of
from cgworker.wire.agents import AgentSpec, Provenance
from cgworker.wire.credentials import IssueCredential
from cgworker.wire.refs import AgentRef
from cgworker.wire.turns import CONVERSATION_KIND
from cgworker.worker import Worker
from cgworker.worker.offers import publish_offers

_ME = "me"
_OPERATOR = "admin-service"
_CAPACITY = 10
_RIGHTS = ("turn.resume.any", "turn.stop.any", "turn.tell.any", "turn.dispatch.any")
_CONSOLE = "cgworker.console.server"


@frozen(kw_only=True)
class DevServer:
    """A kernel with agents, on this machine, for one person.

    Attributes:
        project_id: the project.
        workers: the workers of the person's program; empty for the sample agent.
        port: the kernel's port; 0 takes a free one.
        is_fresh: whether what is kept is removed first.
        opens_browser: whether the page is opened in the browser.
    """

    project_id: str
    workers: Sequence[Worker]
    port: int
    is_fresh: bool
    opens_browser: bool

    @classmethod
    def of(
        cls, apps: Sequence[str], *, port: int, is_fresh: bool, opens_browser: bool, project_id: str | None
    ) -> Self:
        """Load the workers, and take their project.

        Args:
            apps: names of workers, each `module:worker`.
            port: the kernel's port; 0 takes a free one.
            is_fresh: whether what is kept is removed first.
            opens_browser: whether the page is opened in the browser.
            project_id: the project; None is that of the workers, or `dev`.

        Raises:
            UsageError: a worker cannot be loaded, or the workers are of several projects.
        """
        workers = load_workers(apps)
        projects = {worker.agent.project_id for worker in workers} or {project_id or "dev"}
        if len(projects) > 1 or project_id not in (None, *projects):
            raise UsageError(
                f"the workers are of the projects {', '.join(sorted(projects))}: give those of one"
            )
        return cls(
            project_id=projects.pop(),
            workers=workers,
            port=port,
            is_fresh=is_fresh,
            opens_browser=opens_browser,
        )

    async def run(self) -> None:
        """Run everything until SIGTERM or SIGINT.

        Raises:
            UsageError: the project is served on this machine already.
            CommonGroundError: the database or the address cannot be used.
        """
        if url := find_server(self.project_id):
            raise UsageError(f"{self.project_id} is served on this machine already, at {url}")
        files = OperatorFiles.of(self.project_id)
        if self.is_fresh:
            shutil.rmtree(dev_database_folder(), ignore_errors=True)
            for file in (files.service_credential, files.admin_bearer):
                file.unlink(missing_ok=True)
        config = _config(self.port)
        with bind(config.host, config.port) as listener:
            url = f"http://{config.host}:{listener.getsockname()[1]}"
            async with open_or_print(config, "cg dev") as database, anyio.create_task_group() as tasks:
                await prepare(database, self.project_id, files)
                begun = anyio.Event()

                def ready(server: KernelServer) -> None:
                    # At the end the kernel goes before the workers, which would complain of that.
                    logger.addFilter(lambda _: not server.should_exit)
                    begun.set()

                tasks.start_soon(self._run_agents, database, url, begun)
                with announced(self.project_id, url):
                    await serve(config, database, listener, ready=ready)
                tasks.cancel_scope.cancel()

    async def _run_agents(self, database: Database, url: str, begun: anyio.Event) -> None:
        await begun.wait()
        async with AsyncExitStack() as stack:
            clients: dict[str, KernelClient] = {}
            kinds = {worker.agent.agent_id: tuple(worker.handlers) for worker in self.workers}
            for agent_id, own in {_ME: (), **(kinds or {NAME: ()})}.items():
                agent = AgentRef(project_id=self.project_id, agent_id=agent_id)
                token = await _admit(database, agent, () if agent_id == _ME else {CONVERSATION_KIND, *own})
                clients[agent_id] = await stack.enter_async_context(
                    KernelClient(url, agent=agent, token=token)
                )
            _save_profile(clients[_ME])
            workers = [worker.with_kernel(clients[worker.agent.agent_id]) for worker in self.workers]
            workers = workers or [sample_worker(clients[NAME])]
            tasks = await stack.enter_async_context(anyio.create_task_group())
            for worker in workers:
                await tasks.start(worker.run)
            await self._show(clients[_ME], url, [worker.agent.agent_id for worker in workers], tasks)
            for worker in workers:  # last: the schemas of inputs take a moment to load
                if worker.handlers:
                    await publish_offers(worker)

    async def _show(
        self, kernel: KernelClient, url: str, agents: Sequence[str], tasks: anyio.abc.TaskGroup
    ) -> None:
        """Serve the console, if it is installed, and print the link and what to type next."""

        def ready(link: str) -> None:
            say(_welcome(link, url, kernel, agents))
            if self.opens_browser:
                webbrowser.open(link)

        if find_spec("cgworker.console") is None or find_spec("jinja2") is None:
            ready(f"{url}/docs")
            return
        from importlib import import_module

        tasks.start_soon(lambda: import_module(_CONSOLE).serve_console(kernel, port=0, ready=ready))


def _config(port: int) -> KernelConfig:
    own = {
        "CG_HOST": "127.0.0.1",
        "CG_PORT": str(port),
        "CG_LOG_LEVEL": "warning",
        "CG_POSTGRES_FOLDER": str(dev_database_folder()),
    }
    environ = {name: value for name, value in os.environ.items() if name != "PG_DSN"}
    return KernelConfig.from_env({**environ, **own})


async def _admit(database: Database, agent: AgentRef, kinds: Iterable[str]) -> str:
    """Register the agent unless it is there, and issue a credential; return its token."""
    spec = AgentSpec(
        agent_id=agent.agent_id,
        role="dev",
        capacity=_CAPACITY,
        capabilities=tuple(kinds),
        grants=_RIGHTS if agent.agent_id == _ME else (),
    )
    operator = AgentRef(project_id=agent.project_id, agent_id=_OPERATOR)
    with suppress(ConflictError):  # it was registered at an earlier start
        await register_agent(database, operator, spec, Provenance(kind="cg dev", external_ref="cg dev"))
    issued = await issue_credential(database, agent, IssueCredential(), issued_by=_OPERATOR)
    return issued.token


def _save_profile(kernel: KernelClient) -> None:
    """Keep the person's credential, in the place of that of an earlier start."""
    assert kernel.agent is not None
    path = credential_path(kernel.agent.project_id, kernel.agent.agent_id, "dev")
    replace_private(path, kernel.secrets[0] + "\n")
    ConfigFile.locate().save_profile(
        Profile(
            project_id=kernel.agent.project_id,
            agent_id=kernel.agent.agent_id,
            display_name="Me",
            token_file=path,
            status="ready",
        )
    )


def _welcome(link: str, url: str, kernel: KernelClient, agents: Sequence[str]) -> str:
    """Say what runs, and what to type next."""
    assert kernel.agent is not None
    config = ConfigFile.locate().read()
    flags = "" if len(config.profiles) == 1 else f" --profile {kernel.agent}"
    if kernel_url_of(config, kernel.agent.project_id) != url:
        flags += f" --base-url {url}"
    second = f'cg ask {NAME} "Please ask me something"' if NAME in agents else "cg top"
    page = (
        "" if "/login" in link else "  (`pip install 'cgworker[console]'` shows turns and questions there)\n"
    )
    own = (
        ""
        if NAME not in agents
        else "Your own agent: `cg dev desk:desk` runs the worker `desk` of desk.py.\n  "
    )
    return f"""
  {", ".join(agents)} of project {kernel.agent.project_id} at {url}
  Look:  {link}
{page}
  Next, in another terminal:

    cg ask {agents[0]} "Is anybody there?"{flags}
    {second}{flags}
    cg turn list{flags}

  {own}Ctrl-C ends everything; what happened is kept.
"""
