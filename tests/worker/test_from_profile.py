"""`Worker.from_profile` reads the profile when it is needed, not when the program is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from cgworker import Worker
from cgworker.errors import ProfileError
from cgworker.private import replace_private
from cgworker.profiles import ConfigFile, Profile


def test_a_program_is_imported_without_its_profile(tmp_path: Path) -> None:
    """Its handlers are added and its agent is known; running it says what is missing."""
    config = tmp_path / "config.json"
    desk = Worker.from_profile("acme/desk", config_path=config)
    desk.add("turn.conversation.v1", lambda turn: turn.input)
    assert str(desk.agent) == "acme/desk"
    assert repr(desk) == "Worker(acme/desk by its profile)"
    with pytest.raises(ProfileError, match="acme/desk"):
        _ = desk.kernel
    replace_private(tmp_path / "token", "secret\n")
    ConfigFile(config).save_profile(
        Profile(project_id="acme", agent_id="desk", token_file=tmp_path / "token")
    )
    assert desk.kernel.agent == desk.agent
    assert desk.kernel is desk.kernel
    assert "http://" in repr(desk)
