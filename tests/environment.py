"""The environment of a test run: the same whoever starts it, from whatever shell.

`tests/conftest.py` imports this before anything that reads the environment. What is taken out or set here
is so for the processes that tests start as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, MutableMapping

# What decides how text looks, where it comes from and goes to, and what the project's own programs do.
_PREFIXES = ("CG_", "PG", "XDG_", "LC_", "CLICOLOR", "TYPER_", "_TYPER_", "JUPYTER_")
_NAMES = frozenset(
    {
        *("COLORTERM", "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "LANGUAGE", "LINES", "NO_COLOR"),
        *("PYTHON_COLORS", "PY_COLORS", "TERMINAL_WIDTH", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
        *(
            "PYTEST_ADDOPTS",
            "PYTEST_PLUGINS",
            "PYTHONASYNCIODEBUG",
            "PYTHONDEVMODE",
            "PYTHONIOENCODING",
            "PYTHONUNBUFFERED",
            "PYTHONWARNINGS",
        ),
        *("LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"),
    }
)
# These are meant for the tests: a PostgreSQL, a seed, the Python that the reference runs on.
_OURS = ("CG_TEST_", "CG_REFERENCE_")
_SET = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TERM": "xterm-256color", "TZ": "UTC"}
_UMASK = 0o022


def is_callers(name: str) -> bool:
    """Whether a variable of the caller's is kept from the tests."""
    if name.startswith(_OURS):
        return False
    return name.startswith(_PREFIXES) or name in _NAMES or name.lower().endswith("_proxy")


def settle(environ: MutableMapping[str, str]) -> None:
    """Take the caller's variables out, and set those that have to be there."""
    for name in [name for name in environ if is_callers(name)]:
        del environ[name]
    environ.update(_SET)


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxy variables: a tool that fetches a part of itself may need them."""
    return {name: value for name, value in environ.items() if name.lower().endswith("_proxy")}


PROXIES = proxies(os.environ)

settle(os.environ)
os.umask(_UMASK)
if hasattr(time, "tzset"):
    time.tzset()
