"""Run `cg` commands as processes for the demo, and show them as a user would type them."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from cgworker.cli.payload import parse_json
from cgworker.cli.rendering import json_of, plain_text, screen, words
from cgworker.errors import CommonGroundError
from cgworker.worker.process.serve import watch_signals

_END_SECONDS = 20.0


class StepFailed(CommonGroundError):
    """A step of the demo failed; the message is the output of its command."""

    code = "demo_failed"


class DemoShell:
    """Runs commands with a HOME of their own.

    Args:
        home: the folder for HOME; the caller removes it.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._console = screen()
        self._environment = _environment(home)

    def say(self, text: str) -> None:
        """Print the result of a step."""
        self._console.print(words(("✓ ", "green"), text), soft_wrap=True)

    def show_answer(self, smoke: Mapping[str, Any]) -> None:
        """Print the answer that `cg smoke pair` returned."""
        terminal = smoke["terminal"]
        self.say(
            f"{terminal['turn_id']} {terminal['outcome']} after {terminal['waited_seconds']} s; "
            f"{smoke['to']} answered:"
        )
        self._console.print(json_of(smoke["terminal_payload"]))

    async def run(self, *words: str) -> Any:
        """Run a command to its end and return the result of its envelope.

        Args:
            words: the words after `cg`.

        Raises:
            StepFailed: the command failed.
        """
        self._show(words)
        done = await anyio.run_process(_argv(words), env=self._environment, stdin=None, check=False)
        envelope = parse_json(done.stdout) if done.returncode == 0 else {}
        if "result" not in envelope:
            raise StepFailed(f"cg {words[0]}: {done.stdout.decode()}{done.stderr.decode()}".strip())
        return envelope["result"]

    @asynccontextmanager
    async def running(self, *words: str) -> AsyncIterator[anyio.abc.Process]:
        """Run a command while the block runs, then end it by SIGTERM.

        Args:
            words: the words after `cg`.

        Raises:
            StepFailed: the command ended before the block did.
        """
        self._show(words)
        log = self._home / f"{words[0]}.log"
        with log.open("wb") as output:
            process = await anyio.open_process(
                _argv(words),
                env=self._environment,
                stdin=None,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches only the demo, which ends its commands in order
            )
        try:
            async with anyio.create_task_group() as background:
                background.start_soon(_fail_when_ended, process, words[0])
                yield process
                background.cancel_scope.cancel()
        except Exception:
            self._console.print(
                plain_text(log.read_text("utf-8", "replace").strip(), style="dim"), soft_wrap=True
            )
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process)

    def _show(self, argv: tuple[str, ...]) -> None:
        self._console.print(words(("$ ", "dim"), (shlex.join(("cg", *argv)), "bold")), soft_wrap=True)


@asynccontextmanager
async def ended_by_signals() -> AsyncIterator[None]:
    """Cancel the block at SIGTERM or SIGINT.

    Raises:
        StepFailed: a signal arrived.
    """
    async with anyio.create_task_group() as background:
        background.start_soon(watch_signals, lambda _: background.cancel_scope.cancel())
        yield
        background.cancel_scope.cancel()
        return
    raise StepFailed("interrupted")


async def _fail_when_ended(process: anyio.abc.Process, word: str) -> None:
    """Fail when a process ends that the demo still needs."""
    status = await process.wait()
    raise StepFailed(f"cg {word} ended by itself, with exit status {status}")


async def _end(process: anyio.abc.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    with anyio.move_on_after(_END_SECONDS) as waiting:
        await process.wait()
    if waiting.cancelled_caught:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.aclose()


def _argv(words: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "cgworker", *words]


def _environment(home: Path) -> dict[str, str]:
    """Copy the environment with another HOME, and without names of the user's kernels and databases."""
    kept = {name: value for name, value in os.environ.items() if not _names_a_server(name)}
    path = os.pathsep.join(filter(None, [str(Path(sys.executable).parent), kept.get("PATH")]))
    return {**kept, "HOME": str(home), "PATH": path}


def _names_a_server(name: str) -> bool:
    return name.startswith(("CG_", "PG", "XDG_"))
