"""An agent offered to AG-UI clients, with the protocol's own client in JavaScript."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import KernelClient, Turn, Worker
from tests.adapters import test_ag_ui as shared
from tests.journeys.conftest import working

CLIENT = "@ag-ui/client@1.0.0"
PROGRAM = Path(__file__).with_name("ag_ui_client.mjs")

anyio_backend = shared.anyio_backend
kernel = shared.kernel
door = shared.door
desk = shared.desk


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client, from npm."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not on the PATH: AG-UI is NOT tested with its JavaScript client")
    folder = tmp_path_factory.mktemp("ag-ui")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--fetch-retries=0", CLIENT]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=100)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failed:
        pytest.skip(f"npm cannot install {CLIENT}: AG-UI is NOT tested with its JavaScript client: {failed}")
    shutil.copy(PROGRAM, folder / PROGRAM.name)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_the_javascript_client_reads_the_events_and_answers_an_interrupt(
    folder: Path, door: KernelClient, desk: KernelClient
) -> None:
    """Text piece by piece, a tool call, the state, the question, and the result of the run that resumes."""
    worker = Worker(desk, options=shared.OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> dict[str, Any]:
        count = await turn.ask(int, f"How many {turn.input['text']}?", key="count")
        await turn.once("tool:order:1#1", lambda: "ordered")
        await turn.record({"cart": [turn.input["text"]]}, "state")
        async with turn.stream() as out:
            await out.write(f"{count} ")
            await out.flush()
            await out.write("bells.")
        return {"count": count}

    async with shared.offered(door, bearer="s3cret") as url, working(worker):
        argv = ["node", PROGRAM.name, url, "s3cret"]
        with anyio.fail_after(60):
            ran = await anyio.run_process(argv, cwd=folder, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    seen = json.loads(ran.stdout)
    assert (seen["error"], seen["result"], seen["state"]) == (None, {"count": 3}, {"cart": ["bells"]})
    assert [each["message"] for each in seen["interrupts"]] == ["How many bells?"]
    assert seen["deltas"] == ["3 ", "bells."]
    roles = [message["role"] for message in seen["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant"]
    assert seen["messages"][2]["content"] == "ordered"
