"""A command as a handler: it reads `CG_CONTEXT_FILE`, writes `CG_FINAL_FILE`, and its exit status counts.

The contract is cli.md section 4 with decisions 17, 24 and 25; docs/reference/command-contract.md tells it
to people who write commands.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
from attrs import field, frozen

from cgworker.errors import CommandNotFound
from cgworker.events import logger
from cgworker.handlers.child import Child, start_child
from cgworker.handlers.environment import ChildEnvironment, mask_for
from cgworker.handlers.files import FileUnusable, make_private_folder, read_json, state_folder
from cgworker.handlers.folder import CommandFiles, TurnFolder, check_writable, checkpoint_of, open_folder
from cgworker.handlers.progress import ProgressFile
from cgworker.lease import Interruption, Reason
from cgworker.outcome import Failed, Outcome, Succeeded, retry, suspend
from cgworker.turn import Turn

HAND_BACK_STATUS = 75
"""The exit status (EX_TEMPFAIL) with which a command hands its turn back to be tried again."""

_RETRY_SECONDS = 1.0
_UNWRITABLE_SECONDS = 5.0
_STOP_FILE_SECONDS = 2.0
_MOST_OUTPUT_BYTES = 4 * 1024 * 1024


def write_to_stderr(line: str) -> None:
    """Where a child's output goes unless told otherwise."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@frozen(kw_only=True)
class CommandExit:
    """How a command ended, for who started it.

    Attributes:
        context_file: where its context was.
        exit_code: its exit status, negative for a signal.
        failure_payload: the error report, if it failed.
    """

    context_file: Path
    exit_code: int
    failure_payload: Any = None


def _words(argv: Iterable[str]) -> tuple[str, ...]:
    return tuple(argv)


@frozen
class CommandHandler:
    """Runs a command on each turn.

    Args:
        argv: the command and its arguments; not run through a shell.
        cwd: its working directory; by default this process's.
        work_dir: a folder for its files that is kept; by default a temporary one a turn.
        folder_per_turn: make a folder below `work_dir` for each turn, for several turns at once.
        files: other places for single files.
        context_after_turn_seq: leave the records up to this one out of its context file.
        environment: how its environment is made; secrets of CommonGround never get into it.
        final_record_role: role of the final record.
        most_payload_bytes: a final file larger than this is a typed failure, and kept aside.
        on_line: gets each line it writes; by default they go to stderr.
        on_exit: told how it ended, before the outcome is settled.
    """

    argv: tuple[str, ...] = field(converter=_words)
    cwd: Path | None = field(default=None, kw_only=True)
    work_dir: Path | None = field(default=None, kw_only=True)
    folder_per_turn: bool = field(default=False, kw_only=True)
    files: CommandFiles = field(factory=CommandFiles, kw_only=True)
    context_after_turn_seq: int = field(default=0, kw_only=True)
    environment: ChildEnvironment = field(factory=ChildEnvironment, kw_only=True)
    final_record_role: str = field(default="deliverable", kw_only=True)
    most_payload_bytes: int = field(default=16 * 1024 * 1024 - 64 * 1024, kw_only=True)
    on_line: Callable[[str], None] = field(default=write_to_stderr, kw_only=True)
    on_exit: Callable[[Turn, CommandExit], None] = field(default=lambda _turn, _exit: None, kw_only=True)

    def check(self) -> None:
        """Refuse now what could not run later; the worker asks before it claims (decision 17).

        Raises:
            CommandNotFound: the command does not exist or is not executable.
            UsageError: its work folder cannot be written.
        """
        if self.work_dir is not None:
            check_writable(self.work_dir)
        search_path = {**os.environ, **self.environment.added}.get("PATH")
        if not self.argv or shutil.which(self.argv[0], path=search_path) is None:
            name = self.argv[0] if self.argv else ""
            problem = "not executable" if Path(name).exists() else "No such file or directory"
            raise CommandNotFound(f"cannot run {name!r}: {problem}")

    def forget(self, turn: Turn) -> None:
        """The turn is closed: its checkpoint is of no more use."""
        checkpoint_of(turn).unlink(missing_ok=True)

    async def __call__(self, turn: Turn) -> Outcome:
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(open_folder(turn, self.files, self._work_dir(turn)))
                await folder.write_inputs(turn, after_turn_seq=self.context_after_turn_seq)
            except OSError as unwritable:  # a full disk is not the turn's fault
                logger.error("%s: its files cannot be written, it is handed back: %s", turn.ref, unwritable)
                return retry(_UNWRITABLE_SECONDS)
            with anyio.CancelScope(shield=True):
                exit_code, tail = await self._run(turn, folder)
            outcome = self._read_outcome(exit_code, tail, folder, turn)
            report = outcome.payload if isinstance(outcome, Failed) else None
            self.on_exit(
                turn,
                CommandExit(context_file=folder.context, exit_code=exit_code, failure_payload=report),
            )
            return outcome

    def _work_dir(self, turn: Turn) -> Path | None:
        if self.work_dir is not None and self.folder_per_turn:
            return self.work_dir / turn.ref.turn_id
        return self.work_dir

    # ------------------------------------------------------------ running it

    async def _run(self, turn: Turn, folder: TurnFolder) -> tuple[int, tuple[str, ...]]:
        secrets = turn.secrets
        env = self.environment.variables(os.environ, secrets, folder.variables(turn))
        sink = _bounded(self.on_line)
        progress = ProgressFile(folder.progress, turn)
        async with (
            start_child(
                self.argv, env=env, cwd=self.cwd, lease=turn.lease, on_line=sink, mask=mask_for(secrets)
            ) as child,
            anyio.create_task_group() as beside,
        ):

            def begin_to_end(interruption: Interruption) -> None:
                beside.start_soon(_end_in_steps, child, folder, interruption)

            beside.start_soon(progress.follow)
            with turn.on_interrupt(begin_to_end):
                exit_code = await child.wait()
            beside.cancel_scope.cancel()
        if turn.interruption is None or turn.interruption.reason is not Reason.LEASE_LOST:
            await progress.record_new()
        return exit_code, child.tail

    # ------------------------------------------------------------ what it decided (first match)

    def _read_outcome(self, exit_code: int, tail: Sequence[str], folder: TurnFolder, turn: Turn) -> Outcome:
        if exit_code == HAND_BACK_STATUS:
            return retry(_RETRY_SECONDS)
        if exit_code != 0:
            return _failed("worker_command_failed", exit_code, tail, folder)
        if os.path.lexists(folder.suspend):
            return self._read_suspend(exit_code, tail, folder)
        if os.path.lexists(folder.final):
            return self._read_final(exit_code, tail, folder, turn)
        return _failed("worker_command_missing_final", exit_code, tail, folder)

    def _read_suspend(self, exit_code: int, tail: Sequence[str], folder: TurnFolder) -> Outcome:
        try:
            said = read_json(folder.suspend, self.most_payload_bytes)
            reason, note = _reason_and_note(said)
        except FileUnusable as unusable:
            return _failed("worker_suspend_invalid", exit_code, tail, folder, message=str(unusable))
        return suspend(reason, note)

    def _read_final(self, exit_code: int, tail: Sequence[str], folder: TurnFolder, turn: Turn) -> Outcome:
        try:
            size = os.lstat(folder.final).st_size
            if size > self.most_payload_bytes:
                return self._too_large(size, exit_code, folder, turn)
            return Succeeded(read_json(folder.final, self.most_payload_bytes), self.final_record_role)
        except FileUnusable as unusable:
            return _failed("worker_final_invalid", exit_code, tail, folder, message=str(unusable))

    def _too_large(self, size: int, exit_code: int, folder: TurnFolder, turn: Turn) -> Outcome:
        kept = make_private_folder(state_folder("kept")) / f"{turn.fingerprint}.final.json"
        shutil.move(folder.final, kept)
        self.on_line(f"{turn.ref}: the final payload is too large for the kernel and was kept at {kept}")
        message = f"the final payload has {size} bytes, at most {self.most_payload_bytes} are allowed"
        return Failed({"error": "result_too_large", "child_exit_code": exit_code, "message": message})


async def _end_in_steps(child: Child, folder: TurnFolder, interruption: Interruption) -> None:
    """Tell it by the stop file, then ask it by SIGTERM, then end it: all within the grace given."""
    grace = interruption.grace_seconds
    telling = 0 if interruption.reason is Reason.LEASE_LOST else min(_STOP_FILE_SECONDS, grace / 4)
    folder.tell_to_stop(interruption)
    await anyio.sleep(telling)
    child.ask_to_end()
    await anyio.sleep(max(grace - telling, 0) * 0.75)
    child.kill()


def _reason_and_note(said: Any) -> tuple[str, str | None]:
    if not isinstance(said, dict):
        raise FileUnusable("worker suspend file must contain a JSON object")
    reason, note = said.get("reason"), said.get("note")
    if reason is None or reason == "":
        reason = "worker_suspended"
    if not isinstance(reason, str) or not reason.strip():
        raise FileUnusable("worker suspend reason must be a non-empty string")
    if not isinstance(note, str | None):
        raise FileUnusable("worker suspend note must be a string or null")
    return reason.strip(), note


def _failed(
    error: str, exit_code: int, tail: Sequence[str], folder: TurnFolder, message: str | None = None
) -> Failed:
    """The error report: what we know, overlaid by what the command says in its failure file."""
    report: dict[str, Any] = {"error": error, "child_exit_code": exit_code}
    if tail:
        report["stderr_tail"] = list(tail)
    if message is not None:
        report["message"] = message
        return Failed(report)
    try:
        said = read_json(folder.failure, _MOST_OUTPUT_BYTES)
    except FileNotFoundError:
        return Failed(report)
    except FileUnusable as unusable:
        return Failed({**report, "message": f"the failure file was not used: {unusable}"})
    return Failed({**report, **said} if isinstance(said, Mapping) else {**report, "details": said})


def _bounded(on_line: Callable[[str], None]) -> Callable[[str], None]:
    """Pass on so many bytes of output; the rest is read and dropped, so that the child never blocks."""
    left = _MOST_OUTPUT_BYTES

    def pass_on(line: str) -> None:
        nonlocal left
        if left <= 0:
            return
        left -= len(line) + 1
        on_line(line)
        if left <= 0:
            on_line("(further output of this command is not shown)")

    return pass_on
