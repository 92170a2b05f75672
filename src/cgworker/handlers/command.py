"""Run a command as a handler: it reads `CG_CONTEXT_FILE`, writes `CG_FINAL_FILE`, and exits with a status.

The contract is command line 4 with differences 17, 24 and 25; docs/reference/command-contract.md explains it
to authors of commands.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from attrs import evolve, field, frozen

from cgworker.deprecation import use_old_names, warn_renamed
from cgworker.errors import CommandNotFound, UsageError
from cgworker.events import logger
from cgworker.handlers.child import ChildProcess, start_child
from cgworker.handlers.decision import CommandResult, FinalTooLarge
from cgworker.handlers.environment import ChildEnvironment, mask_for
from cgworker.handlers.files import make_private_folder
from cgworker.handlers.folder import CommandFiles, TurnFolder, check_writable, open_folder, remove_checkpoint
from cgworker.handlers.messages import MessagesFile
from cgworker.handlers.progress import POLL_SECONDS, ProgressFile
from cgworker.lease import Interruption, Reason
from cgworker.outcome import Failed, Outcome, retry
from cgworker.paths import state_folder
from cgworker.turn import Turn

_HAND_BACK_SECONDS = 5.0
_STOP_FILE_SECONDS = 2.0
_MAX_OUTPUT_BYTES = 4 * 1024 * 1024


def write_to_stderr(line: str) -> None:
    """Write a line of a child's output to stderr; drop it if stderr is closed.

    Args:
        line: the line, without its end.
    """
    with suppress(OSError, ValueError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


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


def _words(argv: Iterable[str]) -> tuple[str, ...]:
    return tuple(argv)


@frozen
class CommandHandler:
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

    argv: tuple[str, ...] = field(converter=_words)
    cwd: Path | None = field(default=None, kw_only=True)
    work_dir: Path | None = field(default=None, kw_only=True)
    folder_per_turn: bool = field(default=False, kw_only=True)
    files: CommandFiles = field(factory=CommandFiles, kw_only=True)
    context_after_turn_seq: int = field(default=0, kw_only=True)
    context_limit: int | None = field(default=None, kw_only=True)
    environment: ChildEnvironment = field(factory=ChildEnvironment, kw_only=True)
    final_record_role: str = field(default="deliverable", kw_only=True)
    max_payload_bytes: int = field(default=16 * 1024 * 1024 - 64 * 1024, kw_only=True)
    on_line: Callable[[str], None] = field(default=write_to_stderr, kw_only=True)
    on_exit: Callable[[Turn, CommandExit], None] = field(default=lambda _turn, _exit: None, kw_only=True)

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
        if self.cwd is not None and not self.cwd.is_dir():
            raise UsageError(f"the working directory {self.cwd} of the command is no folder")
        if any("\0" in word for word in self.argv):
            raise UsageError("a command's argument cannot contain NUL")
        search_path = self.environment.added.get("PATH", os.environ.get("PATH"))
        if not self.argv or shutil.which(self.argv[0], path=search_path) is None:
            name = self.argv[0] if self.argv else ""
            problem = "not executable" if Path(name).exists() else "No such file or directory"
            raise CommandNotFound(f"cannot run {name!r}: {problem}")

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders it writes to: the work folder and the folder of checkpoints.

        Raises:
            UsageError: this user has no folder for temporary files or for state.
        """
        return (self.work_dir or _temporary_folder(), state_folder("checkpoints"))

    def forget(self, turn: Turn) -> None:
        """Remove the checkpoint of a closed turn.

        Args:
            turn: the turn.
        """
        remove_checkpoint(turn)

    async def __call__(self, turn: Turn) -> Outcome:
        """Run the command on a turn, and return its outcome.

        Args:
            turn: the turn.
        """
        async with AsyncExitStack() as stack:
            try:
                folder = await stack.enter_async_context(open_folder(turn, self.files, self._work_dir(turn)))
                await folder.write_inputs(
                    turn, after_turn_seq=self.context_after_turn_seq, limit=self.context_limit
                )
                messages = MessagesFile(folder.messages, turn)
                await messages.write_first()
                with anyio.CancelScope(shield=True):
                    exit_code, child = await self._run(turn, folder, messages)
            except OSError as full:  # a full disk or process table is not the turn's fault
                logger.error("%s: its command cannot be started, it is handed back: %s", turn.ref, full)
                turn.no_room = full
                return evolve(retry(_HAND_BACK_SECONDS), note=f"its command cannot be started: {full}")
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
            outcome = end.outcome()
        except FinalTooLarge as too_large:
            await self._keep(too_large, turn)
            outcome = too_large.outcome(exit_code)
        report = outcome.payload if isinstance(outcome, Failed) else None
        ended = CommandExit(
            context_file=folder.context,
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
        env = self.environment.variables(os.environ, turn.secrets, folder.variables(turn))
        sink, mask = _bounded(self.on_line), mask_for(turn.secrets)
        progress = ProgressFile(folder.progress, turn, mask)
        async with (
            start_child(self.argv, env=env, cwd=self.cwd, lease=turn.lease, on_line=sink, mask=mask) as child,
            anyio.create_task_group() as background,
        ):

            def begin_to_end(interruption: Interruption) -> None:
                background.start_soon(_end_in_steps, child, folder, turn, interruption)

            with turn.on_interrupt(begin_to_end):
                exit_code = await _ended(child, progress, messages)
            if turn.interruption is not None:
                background.cancel_scope.cancel()
        await progress.record_rest()
        return exit_code, child

    async def _keep(self, too_large: FinalTooLarge, turn: Turn) -> None:
        """Keep a result that the kernel would not take, for a person to find."""
        try:
            kept = make_private_folder(state_folder("kept")) / f"{turn.fingerprint}.final.json"
            await anyio.to_thread.run_sync(shutil.move, too_large.path, kept)
            self.on_line(f"{turn.ref}: {too_large}; it was kept at {kept}")
        except OSError as full:
            self.on_line(f"{turn.ref}: {too_large}; it could not be kept: {full}")


def _temporary_folder() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as none:
        raise UsageError(f"{none.strerror}; set TMPDIR, or --work-dir, to one that can be written") from none


async def _ended(child: ChildProcess, progress: ProgressFile, messages: MessagesFile) -> int:
    """Wait for the command, and follow its progress and messages once it has run for a moment."""
    with anyio.move_on_after(POLL_SECONDS):
        return await child.wait()
    async with progress.followed(), messages.followed():
        return await child.wait()


async def _end_in_steps(
    child: ChildProcess, folder: TurnFolder, turn: Turn, interruption: Interruption
) -> None:
    """Write the stop file, then send SIGTERM, then kill the command, all within the grace."""
    grace = interruption.grace_seconds
    telling = 0 if interruption.reason is Reason.LEASE_LOST else min(_STOP_FILE_SECONDS, grace / 4)
    try:
        folder.tell_to_stop(interruption)
    except OSError as unwritable:  # its folder is gone, or the disk is full
        logger.warning("%s: there is no stop file, only signals: %s", turn.ref, unwritable)
    await anyio.sleep(telling)
    child.ask_to_end()
    await anyio.sleep(max(grace - telling, 0) * 0.75)
    child.kill()


def _bounded(on_line: Callable[[str], None]) -> Callable[[str], None]:
    """Limit the output that is passed on. The rest is read and dropped, so that the child never blocks."""
    left = _MAX_OUTPUT_BYTES

    def pass_on(line: str) -> None:
        nonlocal left
        if left <= 0:
            return
        left -= len(line) + 1
        try:
            on_line(line)
            if left <= 0:
                on_line("(further output of this command is not shown)")
        except Exception:  # a failing listener must not end the command
            left = 0
            logger.exception("a command's output could not be passed on, and is left out from here")

    return pass_on
