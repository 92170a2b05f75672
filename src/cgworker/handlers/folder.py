"""The files by which a worker and its command exchange a turn (docs/reference/command-contract.md)."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
from attrs import frozen

from cgworker.errors import UsageError
from cgworker.events import logger
from cgworker.handlers.files import make_private_folder
from cgworker.handlers.guard import guard
from cgworker.lease import Interruption
from cgworker.paths import state_folder
from cgworker.private import write_private
from cgworker.turn import Turn
from cgworker.wire.converter import dumps
from cgworker.wire.records import TurnContext

_LOCK_RETRY_SECONDS = 0.1


class FolderUnwritable(UsageError):
    """A work folder cannot be written, for good or for now.

    Args:
        message: what is wrong.
        trouble: the error of the system, which tells whether it may pass.
    """

    def __init__(self, message: str, trouble: OSError) -> None:
        super().__init__(message)
        self.trouble = trouble


@frozen(kw_only=True)
class CommandFiles:
    """Paths for a command's files outside the turn's folder; None leaves a file in the folder.

    Attributes:
        context: the path of CG_CONTEXT_FILE.
        final: the path of CG_FINAL_FILE.
        suspend: the path of CG_SUSPEND_FILE.
        failure: the path of CG_FAILURE_FILE.
    """

    context: Path | None = None
    final: Path | None = None
    suspend: Path | None = None
    failure: Path | None = None

    def check(self) -> None:
        """Check that the files can be written; makes their folders.

        Files at these paths are removed before a command runs.

        Raises:
            UsageError: a path is a folder, a device or the like, or its folder cannot be written.
        """
        for path in (self.context, self.final, self.suspend, self.failure):
            if path is None:
                continue
            check_writable(path.parent)
            if path.exists() and not path.is_file():
                raise UsageError(f"{path} is no regular file; name a place where a file may be made anew")


@frozen(kw_only=True)
class TurnFolder:
    """The files of one attempt at one turn.

    Attributes:
        folder: the folder.
        is_new: whether the folder was made for this attempt.
        context: the turn and its records, for the command to read.
        input: the turn's input, for the command to read.
        final: the result, which the command writes.
        suspend: the reason for a suspension, which the command writes.
        failure: an error report, which the command writes.
        progress: process records, which the command appends.
        messages: messages to the turn, for the command to read.
        stop: the request to stop, which appears when the turn is interrupted.
        checkpoint: state for the turn's next attempt, which the command writes.
    """

    folder: Path
    is_new: bool
    context: Path
    input: Path
    final: Path
    suspend: Path
    failure: Path
    progress: Path
    messages: Path
    stop: Path
    checkpoint: Path

    def variables(self, turn: Turn) -> dict[str, str]:
        """Return the environment variables that name the turn and its files.

        Args:
            turn: the turn.
        """
        return {
            "CG_PROJECT_ID": turn.ref.project_id,
            "CG_TURN_ID": turn.ref.turn_id,
            "CG_AGENT_ID": turn.agent.agent_id,
            "CG_CONTEXT_FILE": str(self.context),
            "CG_INPUT_FILE": str(self.input),
            "CG_FINAL_FILE": str(self.final),
            "CG_SUSPEND_FILE": str(self.suspend),
            "CG_FAILURE_FILE": str(self.failure),
            "CG_PROGRESS_FILE": str(self.progress),
            "CG_MESSAGES_FILE": str(self.messages),
            "CG_STOP_FILE": str(self.stop),
            "CG_CHECKPOINT_FILE": str(self.checkpoint),
        }

    @property
    def _written_by_the_command(self) -> tuple[Path, ...]:
        return (self.final, self.suspend, self.failure, self.progress)

    async def write_inputs(self, turn: Turn, *, after_turn_seq: int = 0, limit: int | None = None) -> None:
        """Write the turn's context and input, and remove files of an earlier run.

        Args:
            turn: the turn.
            after_turn_seq: leave out the records up to this number.
            limit: the most records in the context; None is all.

        Raises:
            OSError: a file cannot be written or removed.
        """
        records = tuple(item for item in await turn.records() if item.record.turn_seq > after_turn_seq)
        context = TurnContext(turn=turn.snapshot, semantic_items=records[:limit])
        for path in (self.context, self.input, *self._written_by_the_command, self.messages, self.stop):
            if not self.is_new or path.parent != self.folder:
                _clear(path)
        write_private(self.context, dumps(context) + b"\n")
        write_private(self.input, dumps(turn.input) + b"\n")

    def tell_to_stop(self, interruption: Interruption) -> None:
        """Write the stop file atomically, with the reason as JSON.

        Args:
            interruption: the reason.

        Raises:
            OSError: it cannot be written.
        """
        write_stop_file(self.stop, interruption)


def write_stop_file(path: Path, interruption: Interruption) -> None:
    """Write a stop file atomically, with the reason as JSON.

    Args:
        path: the file.
        interruption: the reason.

    Raises:
        OSError: it cannot be written.
    """
    complete = path.with_suffix(".tmp")
    write_private(complete, dumps({"reason": interruption.reason, "note": interruption.note}) + b"\n")
    complete.replace(path)


def temporary_files() -> Path:
    """Return the folder for temporary files.

    Raises:
        UsageError: there is none that can be written.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as none:
        raise UsageError(f"{none.strerror}; set TMPDIR, or --work-dir, to one that can be written") from none


def checkpoint_of(turn: Turn) -> Path:
    """Return the path of the file that a command may leave for the turn's next attempt."""
    return state_folder("checkpoints") / f"{turn.fingerprint}.checkpoint"


def place_of_checkpoint(turn: Turn) -> Path:
    """Return the path of the turn's checkpoint, whose folder is made if it is missing.

    Raises:
        OSError: the folder cannot be made.
    """
    checkpoint = checkpoint_of(turn)
    if not checkpoint.parent.is_dir():
        make_private_folder(checkpoint.parent)
    return checkpoint


def check_writable(folder: Path) -> None:
    """Check that files can be made in a folder, which is made if it is missing.

    Args:
        folder: the folder.

    Raises:
        FolderUnwritable: it cannot be made or written.
    """
    try:
        _make_if_missing(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as unwritable:
        message = f"cannot write to the folder {folder}: {unwritable.strerror}; choose another one"
        raise FolderUnwritable(message, unwritable) from unwritable


def remove_checkpoint(turn: Turn) -> None:
    """Remove the checkpoint of a closed turn.

    Args:
        turn: the turn.
    """
    checkpoint = checkpoint_of(turn)
    try:
        checkpoint.unlink(missing_ok=True)
    except OSError:  # the command made a folder of it
        shutil.rmtree(checkpoint, ignore_errors=True)


@asynccontextmanager
async def open_folder(turn: Turn, files: CommandFiles, work_dir: Path | None) -> AsyncIterator[TurnFolder]:
    """Open the folder of one attempt.

    Args:
        turn: the turn.
        files: paths for files outside the folder.
        work_dir: a folder that is kept; None makes a temporary one, which is removed after the block.

    Raises:
        OSError: the folder cannot be made or written.
    """
    checkpoint = place_of_checkpoint(turn)
    async with _kept_folder(work_dir) if work_dir else _new_folder() as folder:
        yield TurnFolder(
            folder=folder,
            is_new=work_dir is None,
            context=files.context or folder / "context.json",
            input=folder / "input.json",
            final=files.final or folder / "final.json",
            suspend=files.suspend or folder / "suspend.json",
            failure=files.failure or folder / "failure.json",
            progress=folder / "progress.jsonl",
            messages=folder / "messages.jsonl",
            stop=folder / "stop.json",
            checkpoint=checkpoint,
        )


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Make a folder with mode 0700, and remove it after the block, even if this process is killed.

    Args:
        prefix: the beginning of its name.

    Raises:
        OSError: it cannot be made.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    with guard.removing(folder):
        yield folder


@asynccontextmanager
async def _new_folder() -> AsyncIterator[Path]:
    with temporary_folder("cg_worker_adapter_") as folder:
        yield folder


@asynccontextmanager
async def _kept_folder(folder: Path) -> AsyncIterator[Path]:
    """Lock a folder that is kept: two turns in it would take each other's results."""
    _make_if_missing(folder)
    if sys.platform == "win32":  # Windows cannot lock a folder
        yield folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not _lock(descriptor):
            logger.warning("the work folder %s is in use by another turn: waiting for it", folder)
            while not _lock(descriptor):  # noqa: ASYNC110  # no system tells when a lock is free
                await anyio.sleep(_LOCK_RETRY_SECONDS)
        yield folder
    finally:
        os.close(descriptor)  # also unlocks it


def _make_if_missing(folder: Path) -> None:
    folder.mkdir(
        mode=0o700, parents=True, exist_ok=True
    )  # an existing folder keeps its mode: it is the user's


def _lock(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as unable:  # a file system without locks
        logger.debug("the work folder cannot be locked: %s", unable)
    return True


def _clear(path: Path) -> None:
    """Remove a file. A folder at its path is renamed, since a command may have left results in it."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        if not path.is_dir():
            raise
        path.rename(path.with_name(f"{path.name}.{secrets.token_hex(4)}.old"))
