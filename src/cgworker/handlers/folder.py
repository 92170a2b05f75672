"""The files through which a command and its worker talk (docs: the command contract)."""

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
from cgworker.handlers.files import make_private_folder, state_folder, write_private
from cgworker.handlers.guard import guard
from cgworker.lease import Interruption
from cgworker.turn import Turn
from cgworker.wire.converter import dumps
from cgworker.wire.records import TurnContext

_LOCK_LOOK_SECONDS = 0.1


class FolderUnwritable(UsageError):
    """A work folder cannot be written: wrong from the start, or for now because of its disk."""

    def __init__(self, message: str, trouble: OSError) -> None:
        super().__init__(message)
        self.trouble = trouble


@frozen(kw_only=True)
class CommandFiles:
    """Where a command's files are to be, instead of the turn's own folder; None leaves one there."""

    context: Path | None = None
    final: Path | None = None
    suspend: Path | None = None
    failure: Path | None = None

    def check(self) -> None:
        """Make the folders of these places, and refuse a place that holds something else than a file.

        Files there are removed before a command runs.

        Raises:
            UsageError: a place is a folder, a device or the like, or its folder cannot be written.
        """
        for place in (self.context, self.final, self.suspend, self.failure):
            if place is None:
                continue
            check_writable(place.parent)
            if place.exists() and not place.is_file():
                raise UsageError(f"{place} is no regular file; name a place where a file may be made anew")


@frozen(kw_only=True)
class TurnFolder:
    """The files of one attempt at one turn; `is_new` says that nobody had the folder before."""

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
        """The variables that tell a command of its turn and its files."""
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
        """The turn's context and input; what an earlier run left behind goes away.

        Args:
            after_turn_seq: leave out the records up to this one.
            limit: at most so many records; None is all.
        """
        records = tuple(item for item in await turn.records() if item.record.turn_seq > after_turn_seq)
        context = TurnContext(turn=turn.snapshot, semantic_items=records[:limit])
        for place in (self.context, self.input, *self._written_by_the_command, self.messages, self.stop):
            if not self.is_new or place.parent != self.folder:
                _clear(place)
        write_private(self.context, dumps(context) + b"\n")
        write_private(self.input, dumps(turn.input) + b"\n")

    def tell_to_stop(self, interruption: Interruption) -> None:
        """The stop file appears at once and whole, with the reason as JSON."""
        said = dumps({"reason": interruption.reason, "note": interruption.note}) + b"\n"
        whole = self.stop.with_suffix(".tmp")
        write_private(whole, said)
        whole.replace(self.stop)


def checkpoint_of(turn: Turn) -> Path:
    """The file that a command may leave for the turn's next attempt."""
    return state_folder("checkpoints") / f"{turn.fingerprint}.checkpoint"


def check_writable(folder: Path) -> None:
    """Raise FolderUnwritable unless files can be made in the folder, which is made if it is not there."""
    try:
        _make_if_missing(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as unwritable:
        message = f"cannot write to the folder {folder}: {unwritable.strerror}; choose another one"
        raise FolderUnwritable(message, unwritable) from unwritable


def remove_checkpoint(turn: Turn) -> None:
    """The turn is closed: its checkpoint is of no more use."""
    checkpoint = checkpoint_of(turn)
    try:
        checkpoint.unlink(missing_ok=True)
    except OSError:  # the command made a folder of it
        shutil.rmtree(checkpoint, ignore_errors=True)


@asynccontextmanager
async def open_folder(turn: Turn, files: CommandFiles, work_dir: Path | None) -> AsyncIterator[TurnFolder]:
    """The folder of one attempt: `work_dir`, which stays, or a temporary one, which goes at the end.

    Raises:
        OSError: the folder cannot be made or written.
    """
    checkpoint = checkpoint_of(turn)
    if not checkpoint.parent.is_dir():
        make_private_folder(checkpoint.parent)
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
    """A folder, 0700, that goes away after the block, also if this process is killed."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    with guard.removing(folder):
        yield folder


@asynccontextmanager
async def _new_folder() -> AsyncIterator[Path]:
    with temporary_folder("cg_worker_adapter_") as folder:
        yield folder


@asynccontextmanager
async def _kept_folder(folder: Path) -> AsyncIterator[Path]:
    """A folder that stays, for one turn at a time: two in one folder would take each other's results."""
    _make_if_missing(folder)
    if sys.platform == "win32":  # where a folder cannot be locked
        yield folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not _lock(descriptor):
            logger.warning("the work folder %s is in use by another turn: waiting for it", folder)
            while not _lock(descriptor):  # noqa: ASYNC110  # no system tells when a lock is free
                await anyio.sleep(_LOCK_LOOK_SECONDS)
        yield folder
    finally:
        os.close(descriptor)  # also unlocks it


def _make_if_missing(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # one that is there keeps its mode: it is not ours


def _lock(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as unable:  # a file system without locks
        logger.debug("the work folder cannot be locked: %s", unable)
    return True


def _clear(place: Path) -> None:
    """Make room for a file; a folder that a command left there is moved aside, as it may be of value."""
    try:
        place.unlink(missing_ok=True)
    except OSError:
        if not place.is_dir():
            raise
        place.rename(place.with_name(f"{place.name}.{secrets.token_hex(4)}.old"))
