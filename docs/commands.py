"""Write the reference of the command line from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from cgworker.cli.examples import examples_of
from cgworker.cli.root import root_command

# Flags for the server and the credential are listed once on the page, above the commands.
CONNECTION = (
    "--base-url",
    "--admin-base-url",
    "--auth-token",
    "--auth-token-file",
    "--admin-auth-token",
    "--admin-auth-token-file",
    "--ca-file",
    "--profile",
    "--config",
    "--caller-project-id",
    "--caller-agent-id",
    "--json",
)


def reference() -> str:
    """Return a section for each command, with a table of its flags."""
    group = root_command()
    return "\n\n".join(_sections(group, typer.Context(group), "cg"))


def _sections(command: Any, ctx: typer.Context, name: str) -> Iterator[str]:
    words = command.list_commands(ctx) if hasattr(command, "list_commands") else []
    if not words:
        yield _section(command, name)
    for word in words:
        found = command.get_command(ctx, word)
        yield from _sections(found, typer.Context(found, parent=ctx), f"{name} {word}")


def _section(command: Any, name: str) -> str:
    flags = [flag for flag in command.params if "--help" not in flag.opts]
    own = [flag for flag in flags if flag.opts[0] not in CONNECTION]
    shared = [flag.opts[0] for flag in flags if flag.opts[0] in CONNECTION]
    example = "```sh\n" + "\n".join(examples_of(name)) + "\n```"
    parts = [f"## `{name}`", inspect.cleandoc(command.help or ""), example, _table(own), _shared(shared)]
    return "\n\n".join(part for part in parts if part)


def _table(flags: list[Any]) -> str:
    if not flags:
        return ""
    head = "| Flag | | Default |\n| --- | --- | --- |\n"
    return head + "\n".join(map(_row, flags))


def _row(flag: Any) -> str:
    names = [flag.opts[0] if flag.opts[0].startswith("-") else None, flag.metavar]
    shown = " ".join(f"`{name}`" for name in names if name)
    meaning = " ".join((getattr(flag, "help", None) or "").split()).replace("|", "\\|")
    return f"| {shown} | {meaning} | {_default(flag)} |"


def _default(flag: Any) -> str:
    if flag.required:
        return "required"
    is_quiet = flag.default is None or flag.default is False or flag.default == "" or callable(flag.default)
    return "" if is_quiet else f"`{flag.default}`"


def _shared(names: list[str]) -> str:
    return f"Also: {', '.join(f'`{name}`' for name in names)}." if names else ""
