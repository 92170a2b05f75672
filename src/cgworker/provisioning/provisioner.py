"""`Provisioner`: works turns that ask for agents, and keeps the workers of these agents running."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
from attrs import define, evolve, field

from cgworker.client import AdmissionClient
from cgworker.credential_store import check_can_store, store_credential
from cgworker.errors import KernelRefused, KernelTrouble, UsageError
from cgworker.handlers.environment import ChildEnvironment
from cgworker.outcome import Outcome, fail, retry, succeed
from cgworker.paths import state_folder
from cgworker.profiles import ConfigFile
from cgworker.provisioning.processes import KeptProcess
from cgworker.provisioning.records import AgentRecord, AgentRecords
from cgworker.turn import Turn
from cgworker.wire.admission import CreateInvite
from cgworker.wire.refs import AgentRef
from cgworker.worker import Worker

SPAWN_KIND = "turn.provision.agent.spawn.v1"
"""The kind of a turn that asks for an agent."""

_STARTED_ROLE = "provision_launch_started"
_JOIN_USES = 10  # the same agent each time: a provisioner killed while joining joins again
_RETRY_SECONDS = 5.0
_MAX_AGENTS = 16


@define(kw_only=True)
class Provisioner:
    """Works turns of the kind `turn.provision.agent.spawn.v1` (`SPAWN_KIND`).

    `{"task": "provision", "agent": {"role": R}}` admits an agent named after the turn, starts
    `cg worker loop` for it in a process of its own, and starts it again when it ends.
    `{"task": "end", "agent": {"agent_id": A}}` ends it for good. What it has started is kept in files, so
    that after a crash a new process takes it up without admitting anyone again.

        provisioner = Provisioner(agent=..., admission=..., base_url=..., command=["sh", "answer.sh"])
        worker = Worker(kernel, lifespan=provisioner.lifespan)
        worker.add(SPAWN_KIND, provisioner)
        run(worker)

    Args:
        agent: the provisioner's own agent.
        admission: the admission service, with the operator's bearer.
        base_url: the kernel's address, for the workers.
        command: the command that works the turns of the agents; it finds the role in `CG_AGENT_ROLE`.
        roles: the roles that may be asked for; empty is any.
        max_agents: the most agents at once; a turn that asks for more fails with `too_many_agents`.
        grace_seconds: how long turns of the agents may run on when their workers are ended.
        config_file: where the profiles of the agents are kept; by default where `cg` keeps them.
        folder: where the provisioner keeps what it has started; by default below `$XDG_STATE_HOME`.
    """

    agent: AgentRef
    admission: AdmissionClient
    base_url: str
    command: Sequence[str]
    roles: Sequence[str] = ()
    max_agents: int = _MAX_AGENTS
    grace_seconds: float = 20.0
    config_file: ConfigFile = field(factory=ConfigFile.locate)
    folder: Path | None = None
    _records: AgentRecords = field(init=False)
    _tasks: anyio.abc.TaskGroup | None = field(init=False, default=None)
    _kept: dict[str, anyio.CancelScope] = field(init=False, factory=dict)
    _ended: dict[str, anyio.Event] = field(init=False, factory=dict)
    _admitting: anyio.Lock = field(init=False, factory=anyio.Lock)

    def __attrs_post_init__(self) -> None:
        own = Path(self.agent.project_id, self.agent.agent_id)
        self._records = AgentRecords(self.folder or state_folder("provisioner") / own)

    @asynccontextmanager
    async def lifespan(self, _worker: Worker) -> AsyncIterator[None]:
        """Keep the workers running while the provisioner's own worker runs; see `running`."""
        async with self.admission, self.running():
            yield

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Provisioner]:
        """Take up the agents that were started before, and keep all workers running while the block runs.

        At the end all workers are ended, at the same time, within `grace_seconds` and some seconds.

        Raises:
            UsageError: another process provides agents from the same folder.
            ProfileError: profiles cannot be kept.
        """
        check_can_store(self.config_file)
        with self._records.held():
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                try:
                    for record in self._records.all():
                        if record.profile is not None and not record.has_ended:
                            await self._keep(record)
                    yield self
                finally:
                    self._tasks = None
                    tasks.cancel_scope.cancel()

    async def __call__(self, turn: Turn) -> Outcome:
        """Provide the agent that a turn asks for, or end it.

        Args:
            turn: the turn.

        Raises:
            UsageError: `running` has not been entered.
        """
        if self._tasks is None:
            raise UsageError("a Provisioner works turns inside `async with provisioner.running()`")
        asked = turn.input if isinstance(turn.input, Mapping) else {}
        agent = asked.get("agent")
        wanted = agent if isinstance(agent, Mapping) else {}
        match asked.get("task", "provision"):
            case "provision":
                role = wanted.get("role")
                if not isinstance(role, str) or not role:
                    return fail({"error": "invalid_bootstrap", "message": "agent.role is required"})
                return await self._provide(turn, role, asked.get("work_order"))
            case "end":
                return await self._end(wanted.get("agent_id"))
        return fail({"error": "invalid_bootstrap", "message": 'task must be "provision" or "end"'})

    async def _provide(self, turn: Turn, role: str, work_order: Any) -> Outcome:
        if self.roles and role not in self.roles:
            return fail({"error": "role_not_provided", "role": role, "roles": list(self.roles)})
        agent_id = f"agent_{turn.ref.turn_id}"
        try:
            async with self._admitting:
                record = self._records.get(agent_id) or await self._invite(agent_id, role)
                if record is None:
                    return fail({"error": "too_many_agents", "max_agents": self.max_agents})
                if record.profile is None:
                    record = await self._join(record)
        except KernelRefused as refused:
            return fail({"error": "admission_refused", "message": str(refused)})
        except KernelTrouble:
            return retry(_RETRY_SECONDS)
        if not record.has_ended:
            if not await turn.records(_STARTED_ROLE):
                started = {"kind": f"{_STARTED_ROLE}.v1", "assigned_agent_id": agent_id, "role": role}
                await turn.record(started, role=_STARTED_ROLE)
            await self._keep(record)
        return succeed(self._deliverable(turn, agent_id, work_order))

    def _deliverable(self, turn: Turn, agent_id: str, work_order: Any) -> dict[str, Any]:
        """Return what the reference's supervisor reads: the new agent, and the task it was asked for."""
        new_agent = {"project_id": self.agent.project_id, "agent_id": agent_id}
        told = {"new_agent_ref": new_agent, "registered": True, "registration_mode": "agent_join_invite"}
        task_id = work_order.get("task_id") if isinstance(work_order, Mapping) else None
        return told | {"provision_turn_id": turn.ref.turn_id} | ({"task_id": task_id} if task_id else {})

    async def _invite(self, agent_id: str, role: str) -> AgentRecord | None:
        if sum(not record.has_ended for record in self._records.all()) >= self.max_agents:
            return None
        invite = CreateInvite(
            agent_id=agent_id, display_name=agent_id, description=role, single_use=False, max_uses=_JOIN_USES
        )
        created = await self.admission.create_invite(self.agent.project_id, invite)
        record = AgentRecord(agent_id=agent_id, role=role, join_code=created.join_code)
        self._records.save(record)
        return record

    async def _join(self, record: AgentRecord) -> AgentRecord:
        joined = await self.admission.redeem(record.join_code)
        profile = store_credential(self.config_file, joined, joined.invite.display_name)
        record = evolve(record, profile=profile.name)
        self._records.save(record)
        return record

    async def _end(self, agent_id: Any) -> Outcome:
        record = self._record_named(agent_id)
        if record is None:
            return fail(
                {"error": "unknown_agent", "message": "agent.agent_id is no agent of this provisioner"}
            )
        self._records.save(evolve(record, has_ended=True))
        if (scope := self._kept.get(record.agent_id)) is not None:
            scope.cancel()
            await self._ended[record.agent_id].wait()
        return succeed({"agent_id": record.agent_id, "ended": True})

    def _record_named(self, agent_id: Any) -> AgentRecord | None:
        """Return the record of that agent; the name came with a turn, and is never made a path."""
        return next((record for record in self._records.all() if record.agent_id == agent_id), None)

    async def _keep(self, record: AgentRecord) -> None:
        """Start the agent's worker, unless it is kept already, and return once it was started."""
        if self._tasks is not None and record.agent_id not in self._kept:
            await self._tasks.start(self._keep_running, record)

    async def _keep_running(
        self, record: AgentRecord, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        has_started = False

        def started() -> None:
            nonlocal has_started
            if not has_started:
                has_started = True
                task_status.started()

        ended = self._ended[record.agent_id] = anyio.Event()
        try:
            with anyio.CancelScope() as self._kept[record.agent_id]:
                await self._process_of(record).run(started)
        finally:
            del self._kept[record.agent_id], self._ended[record.agent_id]
            ended.set()

    def _process_of(self, record: AgentRecord) -> KeptProcess:
        assert record.profile is not None
        flags = {
            "--profile": record.profile,
            "--config": str(self.config_file.path),
            "--base-url": self.base_url,
            "--grace-seconds": str(self.grace_seconds),
        }
        words = [word for flag in flags.items() for word in flag]
        return KeptProcess(
            name=record.profile,
            argv=[
                sys.executable,
                "-m",
                "cgworker",
                "worker",
                "loop",
                *words,
                "--command",
                "--",
                *self.command,
            ],
            environment=ChildEnvironment().variables(os.environ, (), {"CG_AGENT_ROLE": record.role}),
            lock_path=self._records.lock_path(record.agent_id),
            grace_seconds=self.grace_seconds + 5.0,
        )
