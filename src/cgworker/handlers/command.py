"""Run a command as a handler: it reads `CG_CONTEXT_FILE`, writes `CG_FINAL_FILE`, and exits with a status.

The contract is command line 4 with differences 17, 24 and 25; docs/reference/command-contract.md explains it
to authors of commands.
"""

from __future__ import annotations

import copy
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from attrs import field, frozen

from cgworker.deprecation import use_old_names, warn_renamed
from cgworker.handlers.base_command import (
    BaseCommandHandler,
    bounded,
    end_in_steps,
    hand_back_after_guard,
    hand_back_for_room,
)
from cgworker.handlers.child import ChildProcess, start_child
from cgworker.handlers.decision import CommandResult, FinalTooLarge
from cgworker.handlers.environment import mask_for
from cgworker.handlers.folder import CommandFiles, TurnFolder, check_writable, open_folder
from cgworker.handlers.messages import MessagesFile
from cgworker.handlers.progress import POLL_SECONDS, ProgressFile
from cgworker.handlers.temporary import TurnFolders
from cgworker.lease import Interruption
from cgworker.outcome import Failed, Outcome
from cgworker.paths import state_folder
from cgworker.turn import Turn


@frozen(kw_only=True)
class CommandExit:
    """How a command ended.

    Attributes:
        context_file: the path of its context file.
        exit_code: its exit status, negative for a signal.
        failure_payload: the error report; None if it did not fail.
        left_others: whether it left processes in its group, which were then ended.
    """

    context_file: Path
    exit_code: int
    failure_payload: Any = None
    left_others: bool = False


@frozen
class CommandHandler(BaseCommandHandler):
    """Runs a command on each turn.

    Args:
        argv: the command and its arguments; no shell interprets them.
        cwd: its working directory; the default is that of this process.
        work_dir: a folder for its files, which are kept; the default is a temporary folder for each turn.
        folder_per_turn: make a folder below `work_dir` for each turn, for turns that run at once.
        files: other paths for single files.
        context_after_turn_seq: leave the records up to this number out of its context file; the default is 0.
        context_limit: the most records in its context file; the default, None, is all.
        environment: how its environment is made; it never holds secrets of CommonGround.
        final_record_role: the role of the final record; the default is "deliverable".
        max_payload_bytes: a larger final file fails the turn with `result_too_large`, and is kept.
        on_line: receives each line of its output; the default writes it to stderr.
        on_exit: is called with how it ended, before the outcome is settled.
    """

    work_dir: Path | None = field(default=None, kw_only=True)
    folder_per_turn: bool = field(default=False, kw_only=True)
    files: CommandFiles = field(factory=CommandFiles, kw_only=True)
    on_exit: Callable[[Turn, CommandExit], None] = field(default=lambda _turn, _exit: None, kw_only=True)

    _folders: TurnFolders | None = field(init=False, default=None, repr=False, eq=False)
    _old_max_payload_bytes: int | None = field(
        default=None, alias="most_payload_bytes", kw_only=True, repr=False, eq=False
    )

    def __attrs_post_init__(self) -> None:
        use_old_names(self)

    @property
    def most_payload_bytes(self) -> int:
        """The old name of `max_payload_bytes`; deprecated."""
        warn_renamed("CommandHandler.most_payload_bytes", "max_payload_bytes")
        return self.max_payload_bytes

    def check(self) -> None:
        """Check that the command can run; the worker does so before it claims (difference 17).

        Raises:
            CommandNotFound: the command does not exist or is not executable.
            UsageError: one of its folders or files cannot be used, or an argument cannot be passed on.
        """
        if self.work_dir is not None:
            check_writable(self.work_dir)
        self.files.check()
        super().check()

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders it writes to: the work folder and the folder of checkpoints.

        Raises:
            UsageError: this user has no folder for temporary files or for state.
        """
        return super().folders if self.work_dir is None else (self.work_dir, state_folder("checkpoints"))

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[CommandHandler]:
        """Yield the handler with one folder for the temporary folders of its turns.

        A worker does this for its run.
        """
        opened, folders = copy.copy(self), TurnFolders()
        object.__setattr__(opened, "_folders", folders)
        try:
            yield opened
        finally:
            folders.close()

    async def __call__(self, turn: Turn) -> Outcome:
        """Run the command on a turn, and return its outcome.

        Args:
            turn: the turn.
        """
        if self._folders is None:
            async with self.opened() as opened:
                return await opened(turn)
        opening = open_folder(turn, self.files, self._work_dir(turn), self._folders)
        async with AsyncExitStack() as stack:
            try:
                folder = await stack.enter_async_context(opening)
                await folder.write_inputs(
                    turn, after_turn_seq=self.context_after_turn_seq, limit=self.context_limit
                )
                messages = MessagesFile(folder.messages, turn)
                await messages.write_first()
                with anyio.CancelScope(shield=True):
                    exit_code, child = await self._run(turn, folder, messages)
            except OSError as full:
                return hand_back_for_room(turn, full)
            return await self._decide(turn, folder, exit_code, child)

    async def _decide(self, turn: Turn, folder: TurnFolder, exit_code: int, child: ChildProcess) -> Outcome:
        end = CommandResult(
            exit_code,
            child.tail,
            folder,
            mask=mask_for(turn.secrets),
            max_payload_bytes=self.max_payload_bytes,
            final_record_role=self.final_record_role,
        )
        try:
            handed_back = hand_back_after_guard(turn, child) if end.is_failure else None
            outcome = handed_back or end.outcome()
        except FinalTooLarge as too_large:
            await self.keep(too_large, turn)
            outcome = too_large.outcome(exit_code)
        report = outcome.payload if isinstance(outcome, Failed) else None
        ended = CommandExit(
            context_file=Path(folder.context),
            exit_code=exit_code,
            failure_payload=report,
            left_others=child.left_others,
        )
        self.on_exit(turn, ended)
        return outcome

    def _work_dir(self, turn: Turn) -> Path | None:
        if self.work_dir is not None and self.folder_per_turn:
            return self.work_dir / turn.ref.turn_id
        return self.work_dir

    # ------------------------------------------------------------ running it

    async def _run(self, turn: Turn, folder: TurnFolder, messages: MessagesFile) -> tuple[int, ChildProcess]:
        secrets = turn.secrets
        env = self.environment.variables(os.environ, secrets, folder.variables(turn))
        sink, mask = bounded(self.on_line), mask_for(secrets)
        child_of_turn = start_child(
            self.argv,
            env=env,
            cwd=self.cwd,
            lease=turn.lease,
            on_line=sink,
            mask=mask,
            reads_in_wait=True,
        )
        progress = ProgressFile(folder.progress, turn, mask)
        async with child_of_turn as child:
            exit_code = await _ended(child, turn)
            if exit_code is None:
                exit_code = await _followed(child, turn, folder, progress, messages)
        await progress.record_rest()
        return exit_code, child


async def _ended(child: ChildProcess, turn: Turn) -> int | None:
    """Wait for a moment for the command's end; most commands need nothing else. None if it goes on."""
    with anyio.move_on_after(POLL_SECONDS) as moment, turn.on_interrupt(lambda _: moment.cancel()):
        return await child.wait()
    return None


async def _followed(
    child: ChildProcess, turn: Turn, folder: TurnFolder, progress: ProgressFile, messages: MessagesFile
) -> int:
    """Wait for the command's end, follow its progress and messages, and end it if the turn is interrupted."""
    async with anyio.create_task_group() as background:

        def begin_to_end(interruption: Interruption) -> None:
            background.start_soon(end_in_steps, child, folder.tell_to_stop, turn, interruption)

        with turn.on_interrupt(begin_to_end):
            async with progress.followed(), messages.followed():
                exit_code = await child.wait()
        background.cancel_scope.cancel()
    return exit_code
