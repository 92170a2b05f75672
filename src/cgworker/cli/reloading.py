"""`--reload`: run the workers in a child process, and restart it when a Python file changes."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.abc
import watchfiles

from cgworker.worker.process.serve import watch_signals

_log = logging.getLogger("cgworker")

_PAUSE_SECONDS = 1.0  # a process that is killed at each start must not busy the machine


async def serve_with_reload(argv: Sequence[str]) -> None:
    """Run a command, and restart it at each change of a Python file below the working directory.

    The command is ended by SIGTERM, and may take as long as it needs to drain. If it ended by itself, as for
    a mistake in a file, it is started again at the next change. If a signal killed it, as when memory ran
    out, it is started again after a pause.

    Args:
        argv: the command and its arguments.
    """
    over = anyio.Event()
    async with anyio.create_task_group() as background:
        await background.start(_end_at_signals, over)
        while not over.is_set():
            await _run_until_a_change(argv, over)
        background.cancel_scope.cancel()


async def _end_at_signals(over: anyio.Event, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    await watch_signals(lambda _: over.set(), task_status=task_status)


async def _run_until_a_change(argv: Sequence[str], over: anyio.Event) -> None:
    # In a session of its own: Ctrl-C reaches only this process, which then sends one SIGTERM. The child's
    # envelope goes to stderr, since stdout is for the envelope of this command.
    process = await anyio.open_process(argv, stdout=sys.stderr, stderr=None, start_new_session=True)
    try:
        async with anyio.create_task_group() as background:
            # A separate event, because watchfiles sets its stop event when it is cancelled.
            enough = anyio.Event()
            background.start_soon(_pass_on, over, enough)
            background.start_soon(_notice_a_kill, process, enough)
            changes = watchfiles.awatch(Path.cwd(), watch_filter=watchfiles.PythonFilter(), stop_event=enough)
            async for changed in changes:
                _log.info("%s changed: draining and starting again", _shown(changed))
                break
            background.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.terminate()
            await process.wait()
            await process.aclose()


async def _pass_on(first: anyio.Event, second: anyio.Event) -> None:
    await first.wait()
    second.set()


async def _notice_a_kill(process: anyio.abc.Process, enough: anyio.Event) -> None:
    """Stop waiting for a change if a signal killed the process: its files are not the cause."""
    status = await process.wait()
    if status >= 0:
        return
    _log.warning("the workers were ended by %s: starting again", signal.Signals(-status).name)
    await anyio.sleep(_PAUSE_SECONDS)
    enough.set()


def _shown(changed: set[tuple[watchfiles.Change, str]]) -> str:
    return ", ".join(sorted(Path(path).name for _, path in changed))
