"""A NanoBot, whose tool is the command of a shell."""

from __future__ import annotations

import shlex
from pathlib import Path
from tempfile import TemporaryDirectory

from cgworker.adapters.nanobot import NanobotAdapter
from tests.adapters.endpoint import calls
from tests.adapters.nanobot_agent import bot_in
from tests.soak.harnesses import ROOT, Run
from tests.soak.harnesses.chat import model_url


def adapter_for(run: Run) -> NanobotAdapter:
    """The bot, in a workspace of this run."""
    program = shlex.join(run.calls.program("tests.soak.harnesses", str(run.square)))
    home = run.ends.enter_context(TemporaryDirectory(ignore_cleanup_errors=True))
    return bot_in(Path(home), model_url(run, calls(("exec", {"command": f"cd {ROOT} && {program}"}))))
