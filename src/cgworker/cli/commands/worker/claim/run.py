"""`cg worker claim run`: keep the lease of a claim while a command settles the turn (command line 4.5)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import anyio
from attrs import evolve, frozen

from cgworker import signals
from cgworker.cli.connect import as_claim_holder
from cgworker.cli.context_page import read_claimed_context
from cgworker.cli.options import (
    AgentId,
    Argument,
    ClaimOutFile,
    ContextAfter,
    ContextLimit,
    Flag,
    ProjectId,
    RenewInterval,
    ServerFlags,
)
from cgworker.cli.payload import bare, check_place, write_json_file
from cgworker.cli.worker_results import (
    ClaimRun,
    ContextNotRead,
    NothingClaimed,
)
from cgworker.client import KernelClient
from cgworker.errors import CommonGroundError, UsageError
from cgworker.handlers import CommandHandler
from cgworker.handlers.base_command import write_to_stderr
from cgworker.handlers.child import ChildProcess, start_child
from cgworker.handlers.environment import ChildEnvironment, mask_for
from cgworker.handlers.temporary import temporary_folder
from cgworker.lease import Lease, monotonic
from cgworker.lifecycle import TurnState
from cgworker.renewal import RenewalHooks, RenewalResult, keep_renewed
from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import dumps
from cgworker.wire.refs import AgentRef, ClaimToken
from cgworker.worker.process.dumpable import close_memory
from cgworker.worker.process.serve import watch_signals

_END_SECONDS = 5.0


async def run(
    server: ServerFlags,
    project_id: ProjectId,
    agent_id: AgentId,
    context_after_turn_seq: ContextAfter = 0,
    context_limit: ContextLimit = 100,
    claim_out_file: ClaimOutFile = None,
    context_out_file: Annotated[
        str | None, Flag("--context-out-file", metavar="FILE", help="Write the context to this file.")
    ] = None,
    renew_interval_seconds: RenewInterval = None,
    argv: Annotated[
        list[str] | None, Argument(metavar="-- CMD [ARGS]...", help="The command to run.")
    ] = None,
) -> ClaimRun | NothingClaimed | ContextNotRead:
    """Claim a turn, and run a command that settles the turn itself.

    The lease is renewed only while the command runs: a turn that it does not settle is queued again when the
    lease has ended. cg exits with the command's status.
    """
    if not argv:
        raise UsageError("claim run requires a command after --")
    close_memory()
    CommandHandler(argv).check()
    for path in (claim_out_file, context_out_file):
        check_place(path)
    agent = AgentRef(project_id=project_id, agent_id=agent_id)
    if signals.take_deferred():
        return NothingClaimed()
    async with as_claim_holder(server, agent) as kernel:
        asked_at = monotonic()
        claim = (await kernel.claims.claim(agent)).claimed
        if claim is None:
            return NothingClaimed()
        with _files(claim_out_file, context_out_file) as files:
            write_json_file(str(files.claim), bare(claim))
            read = await read_claimed_context(kernel, claim, context_after_turn_seq, context_limit)
            if isinstance(read, ContextNotRead):
                return evolve(read, claim_file=str(files.claim))
            write_json_file(str(files.context), read.context)
            length = claim.lease_seconds if isinstance(claim.lease_seconds, float) else None
            work = _Work(kernel, Lease(claim, asked_at, length), files, renew_interval_seconds)
            exit_code = await work.run(argv)
    return ClaimRun(
        project_id=claim.project_id,
        turn_id=claim.turn_id,
        agent_id=claim.agent_id,
        claim=bare(claim),
        claim_file=str(files.claim),
        context_file=str(files.context),
        child_exit_code=exit_code,
        lease_lost=work.lost is not None,
        lease_error=ABSENT if work.lost is None else work.lost,
    )


@frozen
class _Files:
    claim: Path
    context: Path


@contextmanager
def _files(claim: str | None, context: str | None) -> Iterator[_Files]:
    """Yield the paths of the two files: those of the flags, or else in a temporary folder."""
    with temporary_folder("cg_worker_claim_run_") as folder:
        yield _Files(
            Path(claim).expanduser() if claim else folder / "claim.json",
            Path(context).expanduser() if context else folder / "context.json",
        )


class _Work:
    """Runs the command and renews its lease.

    Attributes:
        lost: why the lease was lost; None if it was not.
    """

    def __init__(
        self, kernel: KernelClient, lease: Lease, files: _Files, renew_interval_seconds: float | None
    ) -> None:
        self._kernel = kernel
        self._lease = lease
        self._files = files
        self._renew_interval_seconds = renew_interval_seconds
        self.lost: str | None = None

    async def run(self, argv: Sequence[str]) -> int:
        """Run the command, renew the lease until it ends, and return its status, negative for a signal."""
        claim = self._lease.claim
        async with (
            start_child(
                argv,
                env=self._environment(),
                lease=self._lease,
                on_line=write_to_stderr,
                mask=mask_for((claim.token, *self._kernel.secrets)),
            ) as child,
            anyio.create_task_group() as background,
        ):

            def end_on_signal(force: bool) -> None:
                background.start_soon(_end, child, 0.0 if force else _END_SECONDS)

            def end_on_loss(reason: str) -> None:
                background.start_soon(self._end_unless_settled, child, reason)

            await background.start(watch_signals, end_on_signal)
            async with keep_renewed(self._lease, self._hooks(end_on_loss)):
                exit_code = await child.wait()
            await self._note_unseen_loss()
            background.cancel_scope.cancel()
        return exit_code

    def _environment(self) -> dict[str, str]:
        claim = self._lease.claim
        own = {
            "CG_PROJECT_ID": claim.project_id,
            "CG_TURN_ID": claim.turn_id,
            "CG_AGENT_ID": claim.agent_id,
            "CG_CLAIM_FILE": str(self._files.claim),
            "CG_CONTEXT_FILE": str(self._files.context),
            "CG_CLAIM_TOKEN": dumps(bare(claim)).decode(),
        }
        return ChildEnvironment(settles_itself=True).variables(os.environ, (), own)

    def _hooks(self, lost: Callable[[str], None]) -> RenewalHooks:
        return RenewalHooks(
            renew=self._renew, lost=lost, stop=lambda: None, max_seconds=self._renew_interval_seconds
        )

    async def _renew(self, claim: ClaimToken) -> RenewalResult:
        renewal = await self._kernel.claims.renew(claim)
        return RenewalResult(renewal.server_time, renewal.expires_at, bool(renewal.stop_requested))

    async def _end_unless_settled(self, child: ChildProcess, reason: str) -> None:
        """End the command, unless it has settled the turn itself, which ends the lease as well."""
        if not await self._is_settled():
            self.lost = reason
            await _end(child)

    async def _note_unseen_loss(self) -> None:
        """Note a loss that this stopped process did not see; the guard has ended the command."""
        is_over = self._lease.clock() >= self._lease.fence_at
        if self.lost is None and is_over and not await self._is_settled():
            self.lost = "it ran out before it could be renewed"

    async def _is_settled(self) -> bool:
        try:
            state = (await self._kernel.turns.get(self._lease.claim.turn)).state
        except CommonGroundError:
            return False
        return state in (TurnState.CLOSED, TurnState.SUSPENDED)


async def _end(child: ChildProcess, grace_seconds: float = _END_SECONDS) -> None:
    child.ask_to_end()
    await anyio.sleep(grace_seconds)
    child.kill()
