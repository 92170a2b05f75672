"""Read the secrets that adapters send to other services: an API key or a token, from a file or a variable."""

from __future__ import annotations

import os
from pathlib import Path

from cgworker.errors import UsageError
from cgworker.private import check_private


def read_key(file: Path | None, variable: str | None) -> str | None:
    """Read a secret from a file; without a file, from an environment variable.

    Args:
        file: the file; None means that there is none.
        variable: the name of the variable; None means that there is none.

    Returns:
        The secret; None if neither is given, or the variable is not set.

    Raises:
        UsageError: the file cannot be read or is empty, or others may read or write it (ProfileError).
    """
    if file is None:
        return (os.environ.get(variable) or None) if variable else None
    try:
        check_private(file)
        secret = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as unreadable:
        raise UsageError(f"the file of the secret cannot be read: {file}: {unreadable}") from unreadable
    if not secret:
        raise UsageError(f"the file of the secret is empty: {file}")
    return secret
