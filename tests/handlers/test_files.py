"""Reading what a child left, with care."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from cgworker.handlers.files import FileUnusable, make_private_folder, read_json, read_regular
from cgworker.private import write_private


def test_private_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """0600 in 0700 folders, also where the folder was there before."""
    folder = tmp_path / "a"
    folder.mkdir(mode=0o755)
    write_private(make_private_folder(folder) / "f", b"x")
    assert (folder.stat().st_mode & 0o777, (folder / "f").stat().st_mode & 0o777) == (0o700, 0o600)


def test_writing_does_not_follow_a_link(tmp_path: Path) -> None:
    """A link that stands where the file should be is replaced, and what it points to is left alone."""
    (tmp_path / "target").write_text("precious")
    (tmp_path / "f").symlink_to(tmp_path / "target")
    write_private(tmp_path / "f", b"x")
    assert (tmp_path / "target").read_text() == "precious"
    assert not (tmp_path / "f").is_symlink()


def test_links_fifos_and_folders_are_not_read(tmp_path: Path) -> None:
    """They could point elsewhere, or never end."""
    (tmp_path / "target").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("link", "fifo", "folder"):
        with pytest.raises(FileUnusable):
            read_regular(tmp_path / name, 100)
    with pytest.raises(FileUnusable, match="regular"):
        read_regular(Path("/dev/zero"), 100)


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """With both sizes."""
    (tmp_path / "f").write_bytes(b"1" * 101)
    with pytest.raises(FileUnusable, match="101 bytes, at most 100"):
        read_regular(tmp_path / "f", 100)


def test_a_small_file_needs_no_large_buffer(tmp_path: Path) -> None:
    """However large it might have been: each command's result is read so."""
    (tmp_path / "f").write_bytes(b"1")
    tracemalloc.start()
    try:
        assert read_regular(tmp_path / "f", 16 * 1024 * 1024) == b"1"
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("data", [b"", b"{oops", b"\xff\xfe", b"NaN", b"[" * 100_000, b'"\\ud800"'])
def test_what_is_not_json_is_unusable(tmp_path: Path, data: bytes) -> None:
    """Whatever is wrong with it."""
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(FileUnusable, match="not valid JSON"):
        read_json(tmp_path / "f", 1_000_000, str)
