"""A NanoBot with a scripted model; it looks things up by the commands of a shell."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nanobot.agent.tools.mcp  # noqa: F401  # takes seconds, which are no part of a test's turn

from cgworker.adapters.nanobot import NanobotAdapter
from tests.adapters.killed import STAGES, Script
from tests.adapters.scripted_model import Lookup, model_url


def lookups(folder: Path) -> Lookup:
    """Commands that note themselves in the script's file."""

    def lookup(what: str) -> tuple[str, dict[str, str]]:
        notes = "; ".join(f"echo look {what} {stage} >> {folder}/calls" for stage in STAGES)
        return "exec", {"command": f"{notes}; echo {what} is 7"}

    return lookup


def scripted(script: Script) -> NanobotAdapter:
    """The bot, in a workspace and home of this process."""
    home = script.folder / f"bot-{os.getpid()}"
    home.mkdir(exist_ok=True)
    return bot_in(home, model_url(script, lookups(script.folder)))


def bot_in(home: Path, url: str) -> NanobotAdapter:
    """A bot with its config and workspace in this folder, and a model at this address."""
    config = home / "nanobot.json"
    provider = {"apiKey": "none", "apiBase": url}
    defaults = {"model": "scripted", "provider": "custom"}
    config.write_text(json.dumps({"agents": {"defaults": defaults}, "providers": {"custom": provider}}))
    return NanobotAdapter(config_path=config, workspace=home / "workspace")
