"""How a function becomes a command of `cg`.

A command takes its flags as keyword arguments and returns its result; it prints nothing and catches
nothing. Groups of flags (`options.py`) come as one argument each.
"""

from __future__ import annotations

import inspect
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import attrs
import typer
from typer.core import TyperCommand

from cgworker.cli.envelope import write_failure, write_result
from cgworker.cli.problems import Problem, problem_of


class RestOfLine(TyperCommand):
    """A command whose --command takes the rest of the line, whatever it looks like (cli.md 4)."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Hand the rest to the option as one word, quoted; `words_of` takes it apart again."""
        if "--command" in args:
            start = args.index("--command") + 1
            words = args[start + 1 :] if args[start : start + 1] == ["--"] else args[start:]
            args = [*args[:start], *([shlex.join(words)] if words else [])]
        return super().parse_args(ctx, args)


def words_of(rest: str) -> tuple[str, ...]:
    """The words of a --command."""
    return tuple(shlex.split(rest))


Work = TypeVar("Work", bound=Callable[..., Any])

_AS_JSON = "as_json"
_JSON = Annotated[bool, typer.Option("--json", help="One line of JSON, also on a terminal.")]


def group(help: str) -> typer.Typer:
    """A word with commands under it."""
    return typer.Typer(help=help, callback=lambda: None, add_completion=False, rich_markup_mode=markup_mode())


def markup_mode() -> Literal["rich"] | None:
    """Help in frames and colours on a terminal, plain elsewhere."""
    return "rich" if sys.stdout.isatty() else None


def command(
    app: typer.Typer, name: str, *, has_json_flag: bool = True, **settings: Any
) -> Callable[[Work], Work]:
    """Make the function the command `name` of `app`; its docstring is the help.

    A parameter `as_json` of it is no flag: it is told whether `--json` was given.
    What it returns is printed: as the JSON envelope, or for people on a terminal (`views.py`). A result
    with an `exit_status` ends `cg` with it.

    Args:
        has_json_flag: whether `--json` asks for the envelope; a command may need the word for itself.
    """

    def register(work: Work) -> Work:
        app.command(name, **settings)(_callback(work, has_json_flag))
        return work

    return register


def program(app: typer.Typer, name: str, **settings: Any) -> Callable[[Work], Work]:
    """Make the function a command that prints for itself, such as a server.

    It has no envelope; what ends it is one line on stderr (cli.md 1).
    """

    def register(work: Work) -> Work:
        def run(**flags: Any) -> int:
            try:
                _run(work, flags, use_uvloop=find_spec("uvloop") is not None)
            except Exception as raised:
                return fail(raised, write_failure)
            return 0

        app.command(name, **settings)(_spread(work, run))
        return work

    return register


def fail(raised: Exception, write: Callable[[Problem], None]) -> int:
    """Tell why a command failed, with a traceback if the fault is our own; the exit status."""
    problem = problem_of(raised)
    if problem.is_ours:
        traceback.print_exception(raised, file=sys.stderr)
    write(problem)
    return 1


def _callback(work: Callable[..., Any], has_json_flag: bool) -> Callable[..., int]:
    def run_and_print(json: bool = False, **flags: Any) -> int:
        asked = {"as_json": json} if _AS_JSON in inspect.signature(work).parameters else {}
        result = _run(work, {**flags, **asked})
        write_result(result, as_json=json)
        return int(getattr(result, "exit_status", 0))

    json_flag = inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_JSON)
    return _spread(work, run_and_print, **({"json": json_flag} if has_json_flag else {}))


def _run(work: Callable[..., Any], flags: dict[str, Any], *, use_uvloop: bool = False) -> Any:
    """Call the command; uvloop serves requests faster, but takes longer to start than most commands run."""
    if not inspect.iscoroutinefunction(work):
        return work(**flags)
    import anyio  # not needed to print a version or a help text

    return anyio.run(partial(work, **flags), backend_options={"use_uvloop": use_uvloop})


def _spread(
    work: Callable[..., Any], run: Callable[..., Any], **added: inspect.Parameter
) -> Callable[..., Any]:
    """`run` with the flags of `work` as its signature, its groups spread out."""
    groups = _groups_of(work)

    def callback(**flags: Any) -> Any:
        gathered = {
            name: kind(**{each.name: flags.pop(each.name) for each in attrs.fields(kind)})
            for name, kind in groups.items()
        }
        return run(**gathered, **flags)

    parameters = [*_flags_of(work, groups), *added.values()]
    callback.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    callback.__annotations__ = {}
    callback.__doc__ = work.__doc__
    return callback


def _groups_of(work: Callable[..., Any]) -> Mapping[str, type]:
    hints = get_type_hints(work)
    return {name: hints[name] for name in inspect.signature(work).parameters if attrs.has(hints[name])}


def _flags_of(work: Callable[..., Any], groups: Mapping[str, type]) -> list[inspect.Parameter]:
    hints = get_type_hints(work, include_extras=True)
    flags: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(work).parameters.items():
        if name == _AS_JSON:
            continue
        if name in groups:
            flags += _fields_of(groups[name])
        else:
            flags.append(_flag(name, hints[name], parameter.default))
    return flags


def _fields_of(kind: type) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [_flag(each.name, hints[each.name], each.default) for each in attrs.fields(kind)]


def _flag(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if default is attrs.NOTHING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
