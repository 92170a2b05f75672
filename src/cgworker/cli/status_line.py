"""Show the state of this process's workers in one line on the terminal, below their log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cgworker import events
from cgworker.events import Event
from cgworker.lease import monotonic
from cgworker.printable import printable
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.worker import Worker

_REFRESHES_PER_SECOND = 2


@contextmanager
def status_line(workers: Sequence[Worker], *, as_json: bool) -> Iterator[None]:
    """Show the line on stderr while the block runs, if stderr is a terminal, and remove it at the end.

    Args:
        workers: the workers, before they run.
        as_json: the output is for a program, so that no line is shown even on a terminal.
    """
    if as_json or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)  # a log line can be copied in one piece
    if console.is_dumb_terminal:
        yield
        return
    counts = Counts()
    for worker in workers:
        worker.listen(counts.note)
    line = Live(
        get_renderable=lambda: Text(counts.text(), style="dim", no_wrap=True, overflow="ellipsis"),
        console=console,
        refresh_per_second=_REFRESHES_PER_SECOND,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )
    with line, _logging_above():
        yield


@contextmanager
def _logging_above() -> Iterator[None]:
    """Send log lines through the stream that `Live` puts in place of stderr, to keep them above the line."""
    moved = [
        (handler, handler.setStream(sys.stderr))
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.__stderr__
    ]
    try:
        yield
    finally:
        for handler, before in moved:
            if before is not None:
                handler.setStream(before)


class Counts:
    """Counts turns and troubles by the events of workers."""

    def __init__(self) -> None:
        self._renewed_at: dict[TurnRef, float] = {}
        self._waiting: set[TurnRef] = set()
        self._done_count = 0
        self._failed_count = 0
        self._troubles: dict[AgentRef | TurnRef, str] = {}

    def text(self) -> str:
        """Return the line: turns running, done, failed and waiting, then a trouble or the next renewal."""
        counts = (
            f"{len(self._renewed_at)} running · {self._done_count} done · {self._failed_count} failed"
            f" · {len(self._waiting)} waiting"
        )
        renewals = tuple(self._renewed_at.values())  # copied in one operation: another thread draws
        if troubles := tuple(self._troubles.values()):
            return f"{counts} · trouble with the kernel: {printable(troubles[-1], keep='')}"
        if not renewals:
            return counts
        return f"{counts} · renewal in {max(min(renewals) - monotonic(), 0):.0f} s"

    def note(self, event: Event) -> None:
        """Count an event."""
        match event:
            case events.ClaimingFailed():
                self._troubles[event.agent] = event.error
            case events.ClaimingRecovered():
                self._troubles.pop(event.agent, None)
            case events.RenewalFailed():
                self._troubles[event.turn] = event.error
            case events.TurnClaimed():
                self._waiting.discard(event.turn)
                self._renewed_at[event.turn] = monotonic() + event.renewal_seconds
            case events.LeaseRenewed() if event.turn in self._renewed_at:
                self._troubles.pop(event.turn, None)
                self._renewed_at[event.turn] = monotonic() + event.renewal_seconds
            case events.TurnSettled():
                self._let_go(event.turn)
                self._count(event)
            case events.TurnGivenUp():
                self._let_go(event.turn)
            case events.TurnResumed():
                self._waiting.discard(event.turn)

    def _let_go(self, turn: TurnRef) -> None:
        self._renewed_at.pop(turn, None)
        self._troubles.pop(turn, None)

    def _count(self, settled: events.TurnSettled) -> None:
        match settled.outcome:
            case "suspended":
                self._waiting.add(settled.turn)
            case "failed":
                self._failed_count += 1
            case _:
                self._done_count += 1
