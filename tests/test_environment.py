"""What stands in the caller's environment decides nothing: the tests make their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import settle
from tests.measured import unmeasured

ROOT = Path(__file__).parent.parent
CALLERS = {
    "a dumb terminal": {"TERM": "dumb"},
    "no terminal": {"TERM": ""},
    "no colours": {"NO_COLOR": "1"},
    "colours": {"FORCE_COLOR": "1", "PY_COLORS": "1", "GITHUB_ACTIONS": "true"},
    "a narrow window": {"COLUMNS": "20", "LINES": "5", "TERMINAL_WIDTH": "20"},
    "the C locale": {"LANG": "C", "LC_ALL": "C"},
    "a locale that is not there": {"LANG": "xx_YY.ISO-8859-1", "LC_ALL": "", "LANGUAGE": "xx"},
    "another time zone": {"TZ": "Pacific/Chatham"},
    "proxies": {
        **dict.fromkeys(("http_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:1"),
        "no_proxy": "",
    },
    "a PostgreSQL": {
        "PGHOST": "127.0.0.1",
        "PGPORT": "1",
        "PGUSER": "nobody",
        "PGPASSWORD": "x",
        "PGSSLMODE": "require",
        "PGDATABASE": "none",
        "PGSERVICE": "none",
        "PG_DSN": "postgresql://127.0.0.1:1/none",
    },
    "our own variables": {
        "CG_BASE_URL": "http://127.0.0.1:1",
        "CG_CONFIG_PATH": "/nowhere",
        "XDG_CONFIG_HOME": "/nowhere",
        "XDG_STATE_HOME": "/nowhere",
        "XDG_DATA_HOME": "/nowhere",
    },
}


@pytest.mark.parametrize("name", CALLERS)
def test_the_tests_see_the_same_environment(name: str) -> None:
    """Whatever the caller's is: nothing of it is left."""
    plain, theirs = {"PATH": "/bin"}, {"PATH": "/bin", **CALLERS[name]}
    settle(plain)
    settle(theirs)
    assert theirs == plain


TOGETHER = {
    "quiet": [
        name for name in CALLERS if name not in ("no terminal", "colours", "a locale that is not there")
    ],
    "loud": ["no terminal", "colours", "a locale that is not there"],
}


@pytest.mark.parametrize("shell", TOGETHER)
def test_the_terminals_tests_pass_in_any_shell(shell: str) -> None:
    """They depend most on what a shell says: colours, pictures, widths. All at once that can be."""
    pytest_of_terminal = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    theirs = {name: value for caller in TOGETHER[shell] for name, value in CALLERS[caller].items()}
    ran = subprocess.run(
        [*pytest_of_terminal, "tests/cli/test_terminal.py"],
        cwd=ROOT,
        env={**unmeasured(), **theirs},
        umask=0o077,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
