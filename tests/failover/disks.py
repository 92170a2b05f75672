"""A disk of one's own that can stall: a file system in a file, which `fsfreeze` lets take no more writes.

Whoever writes to it or waits for a write to be on the disk then sleeps, deaf to signals, while reads of what
is in memory go on: as with a network disk whose server is gone, or a controller that hangs.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import define


@define
class Disk:
    """A file system that is mounted at a folder."""

    folder: Path
    is_stalled: bool = False

    def stall(self) -> None:
        """Take no more writes."""
        _run("fsfreeze", "-f", self.folder)
        self.is_stalled = True

    def go_on(self) -> None:
        """Take writes again."""
        if self.is_stalled:
            _run("fsfreeze", "-u", self.folder)
            self.is_stalled = False


@contextmanager
def a_disk(folder: Path, *, megabytes: int = 700) -> Iterator[Disk]:
    """Mount a new file system at a folder; at the end, whatever happened, it goes on and is unmounted.

    Args:
        folder: where; it must not exist yet.
        megabytes: its size.
    """
    image = folder.with_suffix(".disk")
    with image.open("wb") as file:
        file.truncate(megabytes * 1024 * 1024)
    _run("mkfs.ext4", "-q", image)
    folder.mkdir()
    _run("mount", "-o", "loop", image, folder)
    disk = Disk(folder)
    try:
        yield disk
    finally:
        disk.go_on()
        _run("umount", "--lazy", folder)
        image.unlink()


def why_not(folder: Path) -> str | None:
    """Why this machine cannot have such a disk; None if it can."""
    try:
        with a_disk(folder / "try", megabytes=8) as disk:
            disk.stall()
    except (RuntimeError, OSError) as refused:
        return f"a disk in a file ({refused})"
    finally:
        with suppress(OSError):
            (folder / "try").rmdir()
    return None


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
