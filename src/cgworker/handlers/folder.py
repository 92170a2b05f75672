"""The files through which a command and its worker talk (docs: the command contract)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from cgworker.errors import UsageError
from cgworker.handlers.files import make_private_folder, state_folder, write_private
from cgworker.handlers.guard import guard
from cgworker.lease import Interruption
from cgworker.turn import Turn
from cgworker.wire.converter import dumps
from cgworker.wire.records import TurnContext


@frozen(kw_only=True)
class CommandFiles:
    """Where a command's files are to be, instead of the turn's own folder; None leaves one there."""

    context: Path | None = None
    final: Path | None = None
    suspend: Path | None = None
    failure: Path | None = None


@frozen(kw_only=True)
class TurnFolder:
    """The files of one attempt at one turn."""

    folder: Path
    context: Path
    input: Path
    final: Path
    suspend: Path
    failure: Path
    progress: Path
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
            "CG_STOP_FILE": str(self.stop),
            "CG_CHECKPOINT_FILE": str(self.checkpoint),
        }

    async def write_inputs(self, turn: Turn, *, after_turn_seq: int = 0) -> None:
        """The turn's context and input; what an earlier run left behind goes away.

        Args:
            after_turn_seq: leave out the records up to this one.
        """
        records = tuple(item for item in await turn.records() if item.record.turn_seq > after_turn_seq)
        context = TurnContext(turn=turn.snapshot, semantic_items=records)
        for left_over in (self.final, self.suspend, self.failure, self.progress, self.stop):
            left_over.unlink(missing_ok=True)
        write_private(self.context, dumps(context) + b"\n")
        write_private(self.input, dumps(turn.input) + b"\n")

    def tell_to_stop(self, interruption: Interruption) -> None:
        """The stop file appears at once and whole, with the reason as JSON."""
        said = dumps({"reason": interruption.reason, "note": interruption.note}) + b"\n"
        whole = self.stop.with_suffix(".tmp")
        write_private(whole, said)
        whole.rename(self.stop)


def checkpoint_of(turn: Turn) -> Path:
    """The file that a command may leave for the turn's next attempt."""
    return state_folder("checkpoints") / f"{turn.fingerprint}.checkpoint"


def check_writable(folder: Path) -> None:
    """Raise UsageError unless files can be made in the folder, which is made if it is not there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as unwritable:
        raise UsageError(
            f"cannot write to the work folder {folder}: {unwritable.strerror}; choose another one"
        ) from unwritable


@contextmanager
def open_folder(turn: Turn, files: CommandFiles, work_dir: Path | None) -> Iterator[TurnFolder]:
    """The folder of one attempt: `work_dir`, which stays, or a temporary one, which goes at the end.

    Raises:
        OSError: the folder cannot be made or written.
    """
    make_private_folder(checkpoint_of(turn).parent)
    with _kept(work_dir) if work_dir else temporary_folder("cg_worker_adapter_") as folder:
        yield TurnFolder(
            folder=folder,
            context=files.context or folder / "context.json",
            input=folder / "input.json",
            final=files.final or folder / "final.json",
            suspend=files.suspend or folder / "suspend.json",
            failure=files.failure or folder / "failure.json",
            progress=folder / "progress.jsonl",
            stop=folder / "stop.json",
            checkpoint=checkpoint_of(turn),
        )


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder, 0700, that goes away with the block, or with this process if that is killed."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    with guard.removing(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _kept(folder: Path) -> Iterator[Path]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # one that is there keeps its mode: it is not ours
    yield folder
