"""`cg dev` and `cg top`: something to look at, by one command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Cg

DESK = """
from cgworker import Turn, Worker

desk = Worker.from_profile("dev/desk")

@desk.turn("turn.conversation.v1")
async def shout(turn: Turn) -> str:
    return turn.input["task"].upper()
"""


@contextmanager
def developing(folder: Path, *argv: str) -> Iterator[str]:
    """Run `cg dev` until the block ends, by Ctrl-C; yield what it printed."""
    with subprocess.Popen(
        [sys.executable, "-m", "cgworker", "dev", *argv],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        shown = ""
        for line in process.stderr:
            shown += line
            if "Ctrl-C" in line:
                break
        try:
            yield shown
        finally:
            process.send_signal(signal.SIGINT)
            process.stderr.read()
        assert process.wait(30) in (0, 130), shown
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # nothing of its group is left


@pytest.mark.slow
def test_one_command_brings_a_kernel_an_agent_and_a_link(cg: Cg) -> None:
    """What was asked is kept over a restart, with the person's own worker; `--fresh` begins anew."""
    (cg.home / "desk.py").write_text(DESK)
    with developing(cg.home) as shown:
        assert "Look:  http://127.0.0.1:" in shown
        assert 'cg ask hello "Is anybody there?"' in shown
        answer = cg("ask", "hello", "Is anybody there?").result
        assert answer["final_payload"] == {"text": "Hello! You said: Is anybody there?"}
        seen = json.loads(cg("top").stdout)
        assert [agent["agent_id"] for agent in seen["agents"] if agent["agent_id"] == "hello"]
        assert seen["newest"][0]["turn_id"] == answer["turn_id"]
        assert cg("doctor").result["healthy"]  # it looks where the profile's project is served
        again = cg("dev")
        assert "is served on this machine already" in again.stderr
    with developing(cg.home, "desk:desk") as shown:
        assert "cg ask desk" in shown
        assert "cg dev desk:desk" not in shown  # that is what was typed
        assert cg("ask", "desk", "hi").result["final_payload"] == "HI"
        assert len(cg("turn", "list").result["items"]) == 2
    with developing(cg.home, "--fresh"):
        assert cg("turn", "list").result["items"] == []
