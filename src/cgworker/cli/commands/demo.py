"""`cg demo`: go from nothing to an answered turn, by the commands that a user would type.

Every step is a `cg` process. All have a temporary HOME, so that the demo does not touch the user's profiles
or databases.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Annotated

import anyio

from cgworker.cli.command import Program, RestOfLine, add_program, single
from cgworker.cli.demo_shell import DemoShell, ended_by_signals
from cgworker.cli.options import Flag
from cgworker.cli.payload import split_command
from cgworker.client import KernelClient
from cgworker.errors import KernelTrouble

_EXAMPLE = Path("examples/conversation_worker/worker_runtime.py")
_ECHO = ("sh", "-c", 'cp "$CG_INPUT_FILE" "$CG_FINAL_FILE"')
_START_SECONDS = 60.0


async def demo(
    command: Annotated[
        str,
        Flag(
            "--command",
            metavar="CMD [ARGS]...",
            help="The command that answers the turn; takes the rest of the line.  "
            "[default: the example, or an echo]",
        ),
    ] = "",
) -> None:
    """Start a kernel, let a worker join it, give it a turn, show the answer, and clean up."""
    runtime = split_command(command) or _default_runtime()
    with tempfile.TemporaryDirectory(prefix="cg-demo-") as home:
        shell = DemoShell(Path(home))
        async with ended_by_signals(), _kernel(shell) as url:
            await _admit(shell, url)
            async with shell.running(
                "worker", "loop", "--profile", "cg-demo/worker-1", "--command", *runtime
            ):
                smoke = await shell.run("smoke", "pair", "--from", "cg-demo/requester", "--to", "worker-1")
                shell.show_answer(smoke)
    shell.say("everything is ended and removed")


async def _admit(shell: DemoShell, url: str) -> None:
    """Let a worker join by an invite, and a requester by the operator's bearer."""
    invite = await shell.run(
        "admission", "invite", "create", "--project-id", "cg-demo", "--agent-id", "worker-1"
    )
    shell.say(f"worker-1 is invited: {invite['join_command']}")
    joined = await shell.run("agent", "join", url, invite["join_code"])
    shell.say(f"this machine has the profile {joined['profile']}")
    ensured = await shell.run(
        "profile", "ensure-agent", "--profile", "cg-demo/requester", "--project-id", "cg-demo",
        "--requested-agent-id", "requester", "--runtime-kind", "demo.v1", "--display-name", "Requester",
    )  # fmt: skip
    shell.say(f"and the profile {ensured['profile']}")


@asynccontextmanager
async def _kernel(shell: DemoShell) -> AsyncIterator[str]:
    """Run a kernel on the embedded PostgreSQL and a free port, and yield its address."""
    port = str(_free_port())
    url = f"http://127.0.0.1:{port}"
    began_at = monotonic()
    async with shell.running(
        "local", "run", "--project-id", "cg-demo", "--host", "127.0.0.1", "--port", port
    ):
        await _until_ready(url)
        shell.say(f"a kernel is ready at {url} after {monotonic() - began_at:.1f} s, on its own PostgreSQL")
        yield url


async def _until_ready(url: str) -> None:
    """Wait until the kernel answers."""
    async with KernelClient(url) as kernel:
        with anyio.fail_after(_START_SECONDS):
            while True:
                try:
                    await kernel.readyz()
                except KernelTrouble:
                    await anyio.sleep(0.05)
                else:
                    return


def _default_runtime() -> tuple[str, ...]:
    """Return the example's command inside the repository, and an echo elsewhere."""
    return ("python", str(_EXAMPLE)) if _EXAMPLE.exists() else _ECHO


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


app: Program = single()
add_program(app, "demo", demo, cls=RestOfLine)
