"""Make functions commands of `cg`.

A command takes its flags as keyword arguments and returns its result; it prints nothing and catches nothing.
A group of flags (`options.py`) is one argument. typer parses the line into a `Call`, which runs the function
(`call.py`); the function does not know typer.
"""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from importlib.util import find_spec
from itertools import takewhile
from typing import Annotated, Any, Literal, get_type_hints

import attrs
import typer
from typer.core import TyperCommand, TyperGroup

from cgworker.cli.call import Call, do, fail
from cgworker.cli.envelope import say, write_failure
from cgworker.cli.examples import examples_of
from cgworker.cli.options import Argument, Completion, Flag

Program = typer.Typer
"""A command, or a group of commands, that can be added to another group."""


class PlainHelp(TyperCommand):
    """A command whose help shows words in brackets, such as `[env: PG_DSN]`, which rich reads as markup."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, with an example at its end."""
        self._format_help(ctx, formatter)
        write_examples(examples_of(ctx.command_path), formatter, is_framed=self.rich_markup_mode is not None)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the flags that a shell may complete a word with."""
        return [_as_shells_show(item) for item in super().shell_complete(ctx, incomplete)]

    def _format_help(self, ctx: Any, formatter: Any) -> None:
        if self.rich_markup_mode is None:
            return super().format_help(ctx, formatter)
        return super(PlainHelp, _as_rich_draws(self)).format_help(ctx, formatter)


def _as_rich_draws(command: Any) -> Any:
    """Copy a command for help on a terminal.

    There typer breaks lines where the source does, reads brackets as markup, and gives each flag a value.
    """
    shown = copy(command)
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    shown.help = _escaped("\n\n".join(" ".join(each.split("\n")) for each in paragraphs))
    shown.get_params = lambda ctx: [_flag_as_rich_draws(flag) for flag in command.get_params(ctx)]
    return shown


def _flag_as_rich_draws(flag: Any) -> Any:
    shown = copy(flag)
    shown.help = _escaped(flag.help)
    if getattr(flag, "is_flag", False):
        shown.metavar = ""  # typer writes <bool>, as if it took a value
    return shown


def _escaped(text: str | None) -> str | None:
    from rich.markup import escape  # only help on a terminal needs rich

    return None if text is None else escape(text)


class Group(TyperGroup):
    """A word with commands below it, whose help ends with an example of each."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, with examples at its end."""
        is_framed = self.rich_markup_mode is not None
        TyperGroup.format_help(_as_rich_draws(self) if is_framed else self, ctx, formatter)
        write_examples(examples_of(ctx.command_path), formatter, is_framed=is_framed)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the words that a shell may complete a word with, each with its first sentence."""
        items = super().shell_complete(ctx, incomplete)
        for item in items:
            if (command := self.get_command(ctx, item.value)) is not None:
                item.help = command.get_short_help_str(200)  # typer's own ends within a word's reach
        return [_as_shells_show(item) for item in items]


def _as_shells_show(item: Any) -> Any:
    """Give a word that a shell completes a description that every shell can show."""
    from cgworker.cli.completion import description_of  # only a shell needs it

    item.help = description_of(item.help or "")
    return item


def write_examples(examples: Sequence[str], formatter: Any, *, is_framed: bool) -> None:
    """Write command lines below a help, unbroken, so that they can be copied.

    Args:
        examples: the lines.
        formatter: takes the help's text.
        is_framed: whether rich draws the help, which goes to the terminal and not to the formatter.
    """
    if not examples:
        return
    heading = "Examples:" if len(examples) > 1 else "Example:"
    if not is_framed:
        formatter.write("\n".join(["", heading, *(f"  {line}" for line in examples), ""]))
        return
    from cgworker.cli.rendering import Unbroken, screen  # only help on a terminal needs rich

    console = screen()
    console.print(f" {heading}", style="dim")
    for line in examples:
        console.print(Unbroken(f"   {line}"), crop=False)


class RestOfLine(PlainHelp):
    """A command whose --command takes the rest of the line, also words like its flags (command line 4)."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Quote the rest of the line as the option's value; `payload.split_command` splits it again."""
        if "--command" in args:
            start = args.index("--command") + 1
            words = args[start:]
            if words[:1] == ["--"]:
                words = words[1:]
            elif flags := self._own_flags_in(words):
                say(_WARNING.format(flags=", ".join(flags), command=words[0]))
            args = [*args[:start], *([shlex.join(words)] if words else [])]
        return super().parse_args(ctx, args)

    def _own_flags_in(self, words: Sequence[str]) -> list[str]:
        """Return flags of this command among the words of the other, up to a `--`."""
        own = {name for flag in self.params for name in (*flag.opts, *flag.secondary_opts)}
        names = (word.partition("=")[0] for word in takewhile(lambda word: word != "--", words))
        return list(dict.fromkeys(name for name in names if name in own))


_WARNING = (
    "warning: {flags} after --command goes to {command}, not to cg: put it before --command, "
    "or write `--command -- {command} ...` if it is meant so"
)

_CONNECTION = "Connection"
_AS_JSON = "as_json"
_JSON = Annotated[bool, Flag("--json", help="Print one line of JSON, even on a terminal.")]


def group(help: str) -> Program:
    """Make a word that has commands below it, such as `cg turn`.

    Args:
        help: what the commands are for.

    Returns:
        The group, without commands as yet.
    """
    return typer.Typer(
        cls=Group, help=help, callback=lambda: None, add_completion=False, rich_markup_mode=markup_mode()
    )


def single() -> Program:
    """Make a word that is one command, such as `cg dispatch`; that command is to be added to it."""
    return typer.Typer(add_completion=False, rich_markup_mode=markup_mode())


def markup_mode() -> Literal["rich"] | None:
    """Choose help with frames and colours on a terminal, and plain help elsewhere."""
    return "rich" if sys.stdout.isatty() else None


def add_command(
    app: typer.Typer,
    name: str,
    work: Callable[..., Any],
    *,
    has_json_flag: bool = True,
    cls: type[PlainHelp] = PlainHelp,
) -> None:
    """Make a function a command of a group.

    The function's parameters are the flags, and its docstring is the help. A parameter `as_json` is no flag:
    it says whether `--json` was given. The result is printed as the JSON envelope, or for people on a
    terminal (`views.py`). A result with an `exit_status` ends `cg` with it.

    Args:
        app: the group.
        name: the command's word.
        work: the function.
        has_json_flag: whether `--json` asks for the envelope; a command may need the word for itself.
        cls: how typer reads the command's line.
    """
    app.command(name, cls=cls)(_callback(work, has_json_flag))


def add_program(
    app: typer.Typer, name: str, work: Callable[..., Any], *, cls: type[PlainHelp] = PlainHelp
) -> None:
    """Make a function that prints for itself, such as a server, a command of a group.

    It has no envelope: a failure is one line on stderr (command line 1).

    Args:
        app: the group.
        name: the command's word.
        work: the function; it returns the exit status, or None for 0.
        cls: how typer reads the command's line.
    """

    def run(**flags: Any) -> int:
        try:
            return int(do(work, flags, use_uvloop=find_spec("uvloop") is not None) or 0)
        except Exception as raised:
            return fail(raised, write_failure)

    app.command(name, cls=cls)(_spread(work, run))


def _callback(work: Callable[..., Any], has_json_flag: bool) -> Callable[..., Call]:
    def called(json: bool = False, **flags: Any) -> Call:
        asked = {_AS_JSON: json} if _AS_JSON in inspect.signature(work).parameters else {}
        return Call(work, {**flags, **asked}, as_json=json)

    json_flag = inspect.Parameter(
        "json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_as_typer_reads(_JSON)
    )
    return _spread(work, called, **({"json": json_flag} if has_json_flag else {}))


def _spread(
    work: Callable[..., Any], run: Callable[..., Any], **added: inspect.Parameter
) -> Callable[..., Any]:
    """Give `run` the flags of `work` as its signature, with the fields of each group as single flags."""
    groups = _groups_of(work)

    def callback(**flags: Any) -> Any:
        gathered = {
            name: kind(**{each.name: flags.pop(each.name) for each in attrs.fields(kind)})
            for name, kind in groups.items()
        }
        return run(**gathered, **flags)

    own, connection = _flags_of(work, groups)
    parameters = [*own, *added.values(), *connection]
    callback.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    callback.__annotations__ = {}
    callback.__doc__ = work.__doc__
    callback.__module__ = work.__module__
    return callback


def _groups_of(work: Callable[..., Any]) -> Mapping[str, type]:
    hints = get_type_hints(work)
    return {name: hints[name] for name in inspect.signature(work).parameters if attrs.has(hints[name])}


def _flags_of(
    work: Callable[..., Any], groups: Mapping[str, type]
) -> tuple[list[inspect.Parameter], list[inspect.Parameter]]:
    """Return the function's own flags, and those that name a server and a caller."""
    hints = get_type_hints(work, include_extras=True)
    own: list[inspect.Parameter] = []
    connection: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(work).parameters.items():
        if name == _AS_JSON:
            continue
        if name not in groups:
            own.append(_flag(name, hints[name], parameter.default))
        elif getattr(groups[name], "is_connection", False):
            connection += _fields_of(groups[name], panel=_CONNECTION)
        else:
            own += _fields_of(groups[name])
    return own, connection


def _fields_of(kind: type, *, panel: str | None = None) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [_flag(each.name, hints[each.name], each.default, panel) for each in attrs.fields(kind)]


def _flag(name: str, annotation: Any, default: Any, panel: str | None = None) -> inspect.Parameter:
    default = inspect.Parameter.empty if default is attrs.NOTHING else default
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=_as_typer_reads(annotation, panel))


def _as_typer_reads(annotation: Any, panel: str | None = None) -> Any:
    match getattr(annotation, "__metadata__", ()):
        case [Flag() as flag]:
            declared: Any = typer.Option(
                flag.name,
                metavar=flag.metavar,
                help=flag.help,
                min=flag.min,
                max=flag.max,
                rich_help_panel=panel,
                autocompletion=_completer(flag.completes),
            )
        case [Argument() as argument]:
            declared = typer.Argument(
                metavar=argument.metavar, help=argument.help, autocompletion=_completer(argument.completes)
            )
        case _:
            return annotation
    return Annotated[annotation.__origin__, declared]


def _completer(kind: Completion | None) -> Callable[[typer.Context, str], list[tuple[str, str]]] | None:
    """Return the function that a shell asks for a value's completions."""
    if kind is None:
        return None

    def complete(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        from cgworker.cli.completion import candidates  # only a shell needs it

        return list(candidates(kind, ctx.params, incomplete, command=ctx.command.name or ""))

    return complete
