"""The temporary folders of turns: emptied, and used again."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cgworker.handlers.guard import Guard, guard
from cgworker.handlers.temporary import TurnFolders

no_windows = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TurnFolders]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = TurnFolders()
    yield found
    found.close()


def with_a_turns_files(folders: TurnFolders) -> Path:
    folder = Path(folders.take())
    for name, text in (("context.json", "{}\n"), ("input.json", "7\n"), ("messages.jsonl", "")):
        os.close(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600))
        (folder / name).write_text(text)
    (folder / "final.json").write_text("true")
    return folder


@no_windows
def test_the_next_turn_gets_the_inodes_of_the_last_one_and_nothing_else(folders: TurnFolders) -> None:
    first = with_a_turns_files(folders)
    inodes = {path.name: path.stat().st_ino for path in first.iterdir() if path.name != "final.json"}
    folders.give_back(str(first))
    assert not first.exists()
    second = Path(folders.take())
    assert {path.name: path.stat().st_ino for path in second.iterdir()} == inodes
    assert [path.stat().st_size <= 1 for path in second.iterdir()] == [True] * 3


def _link(folder: Path) -> None:
    os.link(folder / "context.json", folder.parent / "kept")


def _open_up(folder: Path) -> None:
    (folder / "context.json").chmod(0o644)


def _replace(folder: Path) -> None:
    (folder / "context.json").unlink()
    (folder / "context.json").symlink_to(folder.parent / "kept")


@no_windows
@pytest.mark.parametrize("change", [_link, _open_up, _replace])
def test_a_file_that_the_command_changed_is_made_anew(
    folders: TurnFolders, change: Callable[[Path], None]
) -> None:
    folder = with_a_turns_files(folders)
    kept = folder.parent / "kept"
    kept.write_text("{}\n") if change is _replace else None
    change(folder)
    folders.give_back(str(folder))
    assert sorted(path.name for path in Path(folders.take()).iterdir()) == ["input.json", "messages.jsonl"]
    assert change is _open_up or kept.read_text() == "{}\n"


def _add_folder(folder: Path) -> None:
    (folder / "more").mkdir()


def _add_many(folder: Path) -> None:
    for number in range(20):
        (folder / str(number)).touch()


def _add_large(folder: Path) -> None:
    (folder / "large").write_bytes(b"\0" * 100_000)


def _remove_all(folder: Path) -> None:
    shutil.rmtree(folder)


@no_windows
@pytest.mark.parametrize(
    "change", [_add_folder, _add_many, _add_large, _remove_all, lambda folder: folder.chmod(0o755)]
)
def test_a_folder_that_is_not_quickly_emptied_is_left_to_the_guard(
    folders: TurnFolders, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    removed = list[str]()
    monkeypatch.setattr(Guard, "remove", lambda _, folder: removed.append(folder))
    folder = with_a_turns_files(folders)
    change(folder)
    folders.give_back(str(folder))
    taken = folders.take()
    assert str(folder) in removed
    assert taken not in removed
    assert not list(Path(taken).iterdir())


def test_folders_that_somebody_tidied_up_are_made_anew(folders: TurnFolders) -> None:
    first = with_a_turns_files(folders)
    folders.give_back(str(first))
    shutil.rmtree(first.parent)
    assert Path(folders.take()).is_dir()


def test_no_folder_is_left_when_they_are_closed(folders: TurnFolders, tmp_path: Path) -> None:
    for _ in range(2):
        with_a_turns_files(folders)
    folders.close()
    guard.close()  # it removes what it was told of before it ends
    assert not list(tmp_path.iterdir())
