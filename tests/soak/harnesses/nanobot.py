"""A NanoBot, whose tool is the command of a shell."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import asdict

from cgworker.adapters.nanobot import NanobotAdapter
from cgworker.wire.converter import dumps
from tests.adapters.endpoint import calls
from tests.adapters.nanobot_agent import bot_in
from tests.soak.harnesses import ROOT, Run
from tests.soak.harnesses.chat import model_url


def adapter_for(run: Run) -> NanobotAdapter:
    """The bot, in a workspace of this run."""
    home = Path(run.ends.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))
    # The next run has the model's answer, with this command: so it finds its run in the workspace.
    (home / "workspace").mkdir()
    (home / "workspace" / "calls").write_bytes(dumps(asdict(run.calls)))
    program = shlex.join([sys.executable, "-m", "tests.soak.harnesses", "calls", str(run.square)])
    command = f"PYTHONPATH={ROOT} {program}"
    return bot_in(home, model_url(run, calls(("exec", {"command": command}))))
