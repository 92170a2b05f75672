"""The command `cg`: load the module of a command's first word when that word is typed.

`cg turn get` loads neither the worker nor the kernel, and completion is quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cgworker.cli.call import Call
from cgworker.cli.command import markup_mode
from cgworker.errors import UsageError

WORDS = (
    "dispatch",
    "turn",
    "schedule",
    "mcp",
    "agent",
    "worker",
    "project",
    "report",
    "provision",
    "profile",
    "admission",
    "admin",
    "setup",
    "local",
    "service",
    "smoke",
    "demo",
    "doctor",
)


class LazyCommands(TyperGroup):
    """The group of all commands; each is loaded by its first word."""

    def list_commands(self, _ctx: typer.Context) -> list[str]:  # type: ignore[override]  # its base is private
        """Return the first words of all commands."""
        return list(WORDS)

    def get_command(self, _ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """Return the command of a first word; None if there is none."""
        if cmd_name not in WORDS:
            self.commands.update(
                {word: self._load(word) for word in WORDS}
            )  # so that typer can suggest the right word
            return None
        return self._load(cmd_name)

    def _load(self, word: str) -> Any:
        module = import_module(f"cgworker.cli.commands.{word}")
        if hasattr(module, "__path__"):  # a group is a folder
            module = import_module(f"cgworker.cli.commands.{word}.group")
        command = typer.main.get_command(module.app)
        command.name = word
        return command


def read(argv: Sequence[str]) -> Call | int:
    """Parse a command line.

    Args:
        argv: the words after `cg`.

    Returns:
        The call; an exit status if the line is done already, as for --help.

    Raises:
        UsageError: the line is wrong.
    """
    try:
        asked: Call | int | None = root_command().main(args=list(argv), prog_name="cg", standalone_mode=False)
    except typer.TyperException as wrong:
        raise UsageError(wrong.format_message()) from wrong
    return asked or 0


def root_command() -> LazyCommands:
    """Make the command `cg`."""
    app = typer.Typer(
        cls=LazyCommands,
        callback=_root,
        invoke_without_command=False,
        rich_markup_mode=markup_mode(),
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    group = typer.main.get_command(app)
    assert isinstance(group, LazyCommands)
    return group


def _root(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """CommonGround's command line: join as an agent, work turns, dispatch them, run a kernel."""
    if show_version:
        typer.echo(f"cg {version('cgworker')}")
        raise typer.Exit
