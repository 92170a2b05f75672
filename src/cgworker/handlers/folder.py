"""The files by which a worker and its command exchange a turn (docs/reference/command-contract.md)."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from attrs import frozen

from cgworker.errors import UsageError
from cgworker.events import logger
from cgworker.handlers.files import make_private_folder
from cgworker.handlers.guard import guard
from cgworker.handlers.temporary import TurnFolders
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
    """The files of one attempt at one turn; their paths are texts, which cost less than objects.

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

    folder: str
    is_new: bool
    context: str
    input: str
    final: str
    suspend: str
    failure: str
    progress: str
    messages: str
    stop: str
    checkpoint: str

    def variables(self, turn: Turn) -> dict[str, str]:
        """Return the environment variables that name the turn and its files.

        Args:
            turn: the turn.
        """
        return {
            "CG_PROJECT_ID": turn.ref.project_id,
            "CG_TURN_ID": turn.ref.turn_id,
            "CG_AGENT_ID": turn.agent.agent_id,
            "CG_CONTEXT_FILE": self.context,
            "CG_INPUT_FILE": self.input,
            "CG_FINAL_FILE": self.final,
            "CG_SUSPEND_FILE": self.suspend,
            "CG_FAILURE_FILE": self.failure,
            "CG_PROGRESS_FILE": self.progress,
            "CG_MESSAGES_FILE": self.messages,
            "CG_STOP_FILE": self.stop,
            "CG_CHECKPOINT_FILE": self.checkpoint,
        }

    async def write_inputs(self, turn: Turn, *, after_turn_seq: int = 0, limit: int | None = None) -> None:
        """Write the turn's context and input, and remove files of an earlier run.

        Args:
            turn: the turn.
            after_turn_seq: leave out the records up to this number.
            limit: the most records in the context; None is all.

        Raises:
            OSError: a file cannot be written or removed.
        """
        records = tuple([item for item in await turn.records() if item.record.turn_seq > after_turn_seq])
        context = TurnContext(turn=turn.snapshot, semantic_items=records[:limit])
        written = (self.final, self.suspend, self.failure, self.progress)
        for path in (self.context, self.input, *written, self.messages, self.stop):
            if not (self.is_new and path.startswith(self.folder + os.sep)):
                _clear(Path(path))
        write_private(self.context, dumps(context) + b"\n")
        write_private(self.input, dumps(turn.input) + b"\n")

    def tell_to_stop(self, interruption: Interruption) -> None:
        """Write the stop file atomically, with the reason as JSON.

        Args:
            interruption: the reason.

        Raises:
            OSError: it cannot be written.
        """
        write_stop_file(Path(self.stop), interruption)


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


def checkpoint_of(turn: Turn) -> Path:
    """Return the path of the file that a command may leave for the turn's next attempt."""
    return Path(_checkpoint_of(turn))


def _checkpoint_of(turn: Turn) -> str:
    return f"{state_folder('checkpoints')}{os.sep}{turn.fingerprint}.checkpoint"


def place_of_checkpoint(turn: Turn) -> str:
    """Return the path of the turn's checkpoint, whose folder is made if it is missing.

    Raises:
        OSError: the folder cannot be made.
    """
    folder = state_folder("checkpoints")
    if not os.path.isdir(folder):  # noqa: PTH112  # quicker
        make_private_folder(folder)
    return _checkpoint_of(turn)


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
    checkpoint = _checkpoint_of(turn)
    try:
        os.unlink(checkpoint)  # noqa: PTH108  # a text
    except FileNotFoundError:
        pass
    except OSError:  # the command made a folder of it
        shutil.rmtree(checkpoint, ignore_errors=True)


@asynccontextmanager
async def open_folder(
    turn: Turn, files: CommandFiles, work_dir: Path | None, folders: TurnFolders
) -> AsyncIterator[TurnFolder]:
    """Open the folder of one attempt.

    Args:
        turn: the turn.
        files: paths for files outside the folder.
        work_dir: a folder that is kept; None takes a temporary one.
        folders: makes temporary folders.

    Raises:
        OSError: the folder cannot be made or written.
    """
    checkpoint = place_of_checkpoint(turn)
    if work_dir is None:
        folder = folders.new()
        try:
            yield _turn_folder(folder, files, checkpoint, is_new=True)
        finally:
            guard.remove(folder)
    else:
        async with _kept_folder(work_dir):
            yield _turn_folder(str(work_dir), files, checkpoint, is_new=False)


def _turn_folder(folder: str, files: CommandFiles, checkpoint: str, *, is_new: bool) -> TurnFolder:
    inside = folder + os.sep
    return TurnFolder(
        folder=folder,
        is_new=is_new,
        context=str(files.context or inside + "context.json"),
        input=inside + "input.json",
        final=str(files.final or inside + "final.json"),
        suspend=str(files.suspend or inside + "suspend.json"),
        failure=str(files.failure or inside + "failure.json"),
        progress=inside + "progress.jsonl",
        messages=inside + "messages.jsonl",
        stop=inside + "stop.json",
        checkpoint=checkpoint,
    )


@asynccontextmanager
async def _kept_folder(folder: Path) -> AsyncIterator[None]:
    """Lock a folder that is kept: two turns in it would take each other's results."""
    _make_if_missing(folder)
    if sys.platform == "win32":  # Windows cannot lock a folder
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not _lock(descriptor):
            logger.warning("the work folder %s is in use by another turn: waiting for it", folder)
            while not _lock(descriptor):  # noqa: ASYNC110  # no system tells when a lock is free
                await anyio.sleep(_LOCK_RETRY_SECONDS)
        yield
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
