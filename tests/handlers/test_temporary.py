"""The temporary folders of turns."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgworker.handlers.guard import guard
from cgworker.handlers.temporary import TurnFolders


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TurnFolders]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = TurnFolders()
    yield found
    found.close()


def test_folders_that_somebody_tidied_up_are_made_anew(folders: TurnFolders) -> None:
    first = Path(folders.new())
    shutil.rmtree(first.parent)
    assert Path(folders.new()).is_dir()


def test_no_folder_is_made_in_a_link_that_took_the_place_of_theirs(
    folders: TurnFolders, tmp_path: Path
) -> None:
    parent = Path(folders.new()).parent
    shutil.rmtree(parent)
    (tmp_path / "other").mkdir()
    parent.symlink_to(tmp_path / "other")
    assert Path(folders.new()).parent != parent
    assert not list((tmp_path / "other").iterdir())


def test_no_folder_is_made_in_one_of_another_user(
    folders: TurnFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = Path(folders.new()).parent
    other = os.geteuid() + 1
    monkeypatch.setattr("os.geteuid", lambda: other)
    assert Path(folders.new()).parent != parent


def test_no_folder_is_left_when_they_are_closed(folders: TurnFolders, tmp_path: Path) -> None:
    made = [Path(folders.new()) for _ in range(2)]
    (made[0] / "final.json").write_text("true")
    folders.close()
    guard.close()  # it removes what it was told of before it ends
    assert not list(tmp_path.iterdir())
