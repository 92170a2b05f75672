"""The packages behind the adapters are optional: what to say where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from cgworker.errors import UsageError


def require(package: str, extra: str) -> None:
    """Refuse to go on without the package.

    Args:
        package: as it is imported.
        extra: the extra of cgworker that brings it.

    Raises:
        UsageError: it is not installed; the message says what to type.
    """
    if find_spec(package) is None:
        raise UsageError(f"this needs the package {package}: pip install 'cgworker[{extra}]'")
