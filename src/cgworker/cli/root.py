"""The command `cg`: load the module of a command's first word when that word is typed.

`cg turn get` loads neither the worker nor the kernel, and completion is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer

from cgworker.cli.call import Call
from cgworker.cli.command import Group, markup_mode
from cgworker.errors import UsageError

GROUPS: Mapping[str, Sequence[str]] = {
    "Ask": ("ask", "dispatch", "turn", "top", "console", "schedule", "mcp"),
    "Work": ("worker", "agent"),
    "Begin": ("dev", "demo", "doctor", "profile"),
    "Manage a project": ("project", "admission", "provision", "report", "setup", "admin", "smoke"),
    "Run a kernel": ("local", "service"),
}
"""The first words of all commands, as the help groups them."""

WORDS = tuple(word for words in GROUPS.values() for word in words)


class LazyCommands(Group):
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

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        """Write the plain help's list of commands, a section for each group."""
        for heading, words in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(word, self._load(word).get_short_help_str(60)) for word in words])

    def _load(self, word: str) -> Any:
        module = import_module(f"cgworker.cli.commands.{word}")
        if hasattr(module, "__path__"):  # a group is a folder
            module = import_module(f"cgworker.cli.commands.{word}.group")
        command: Any = typer.main.get_command(module.app)
        command.name = word
        command.rich_help_panel = next(heading for heading, words in GROUPS.items() if word in words)
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
    root = root_command()
    if list(argv[:1]) == ["help"]:
        argv = [*argv[1:], "--help"]
    if sys.stdout.isatty() and _ends_at_a_group(root, argv):
        argv = [*argv, "--help"]
    try:
        call: Call | int | None = root.main(args=list(argv), prog_name="cg", standalone_mode=False)
    except typer.TyperException as wrong:
        raise UsageError(wrong.format_message().replace("Value error, ", "")) from wrong  # pydantic's words
    return call or 0


def _ends_at_a_group(root: LazyCommands, argv: Sequence[str]) -> bool:
    """Whether a person typed `cg` or a group alone, which asks for its help."""
    command: Any = root
    for word in argv:
        if not isinstance(command, Group) or word.startswith("-"):
            return False
        command = command.get_command(None, word)  # type: ignore[arg-type]  # no command needs the context
    return isinstance(command, Group)


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
    """CommonGround's command line: ask agents, work their turns, run a kernel."""
    if show_version:
        typer.echo(f"cg {version('cgworker')}")
        raise typer.Exit
