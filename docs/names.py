"""Write the reference of the public Python names from their signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from itertools import chain
from typing import Any

from attrs import NOTHING

import cgworker
import cgworker.testing

_INNER_BASES = (
    "cgworker.durable_turn",
    "cgworker.interruptible",
    "cgworker.worker.hooks",
    "cgworker.worker.registry",
)
_SECTIONS = ("Args:", "Attributes:", "Returns:", "Raises:")


def reference() -> str:
    """Return a section for each public name of `cgworker`."""
    return "\n\n".join(_section(name, getattr(cgworker, name)) for name in cgworker.__all__)


def testing_reference() -> str:
    """Return a section for each public name of `cgworker.testing`."""
    return "\n\n".join(_section(name, getattr(cgworker.testing, name)) for name in cgworker.testing.__all__)


def kernel_calls() -> str:
    """Return a section for each noun of `KernelClient`, with all its calls, and one for `send`."""
    nouns = [_noun(name, cls) for name, cls in _nouns()]
    send = cgworker.KernelClient.send
    return "\n\n".join([*nouns, "## kernel.send", _call("kernel.send", send), _prose(send)])


def _nouns() -> Iterator[tuple[str, type]]:
    kernel = cgworker.KernelClient("http://127.0.0.1:8000")
    for name, found in vars(kernel).items():
        if not name.startswith("_") and type(found).__module__.startswith("cgworker.client."):
            yield name, type(found)


def _noun(name: str, cls: type) -> str:
    parts = [f"## kernel.{name}", _prose(cls)]
    for method, found in inspect.getmembers(cls, inspect.isfunction):
        if not method.startswith("_"):
            parts += [f"### {name}.{method}", _call(f"kernel.{name}.{method}", found), _prose(found)]
    return "\n\n".join(parts)


def _section(name: str, found: Any) -> str:
    if inspect.isclass(found):
        return "\n\n".join([f"### {name}", _call(name, found), _prose(found), *_members(found)])
    if inspect.isfunction(found):
        return "\n\n".join([f"### {name}", _call(name, found), _prose(found)])
    return f"### {name}\n\n`{_short(str(found))}`"


def _call(name: str, found: Any) -> str:
    """Return the signature; if it is too long for one line, with one parameter on each."""
    if inspect.isclass(found) and issubclass(found, Enum):
        return "\n".join(f"- `{each.value}`" for each in found)
    signature = inspect.signature(found)
    shown = list(_parameters(signature))
    returned = signature.return_annotation
    arrow = "" if inspect.isclass(found) or returned is signature.empty else f" -> {_short(str(returned))}"
    prefix = "async " if inspect.iscoroutinefunction(found) else ""
    one_line = f"{prefix}{name}({', '.join(shown)}){arrow}"
    if len(one_line) > 100:
        one_line = f"{prefix}{name}(\n    " + ",\n    ".join(shown) + f",\n){arrow}"
    return f"```text\n{one_line}\n```"


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    """Return the parameters as they are written, with `*` before the keyword-only ones."""
    is_named = False
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            is_named = True
        elif parameter.kind is parameter.KEYWORD_ONLY and not is_named:
            is_named = True
            yield "*"
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        yield f"{star}{parameter.name}{_hint(parameter.annotation)}{_default(parameter.default)}"


def _hint(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return f": {_short(annotation if isinstance(annotation, str) else inspect.formatannotation(annotation))}"


def _default(default: Any) -> str:
    """Return a default as it is written; leave out one whose text is a memory address."""
    if default is inspect.Parameter.empty:
        return ""
    spelled = repr(default)
    return " = ..." if " at 0x" in spelled or default is NOTHING else f" = {_short(spelled)}"


def _members(cls: type) -> Iterator[str]:
    """Yield the public methods and properties, one line each, also those of private base classes."""
    bases = [base for base in cls.__mro__[1:] if base.__module__ in _INNER_BASES]
    lines = []
    for name, found in chain.from_iterable(vars(each).items() for each in (cls, *bases)):
        if name.startswith("_"):
            continue
        member = found.__func__ if isinstance(found, classmethod | staticmethod) else found
        if isinstance(member, property):
            lines.append(f"- `{name}`: {_first_line(member.fget)}")
        elif inspect.isfunction(member):
            words = [p for p in inspect.signature(member).parameters if p not in ("self", "cls")]
            prefix = "async " if inspect.iscoroutinefunction(member) else ""
            lines.append(f"- `{prefix}{name}({', '.join(words)})`: {_first_line(member)}")
    if lines:
        yield "\n".join(lines)


def _first_line(found: Any) -> str:
    return inspect.cleandoc(found.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def _prose(found: Any) -> str:
    """Return the docstring, with its sections as lists."""
    text = inspect.cleandoc(found.__doc__ or "")
    for section in _SECTIONS:
        text = re.sub(rf"^{section}\n((?:    .*\n?|\n(?=    ))*)", _as_list, text, flags=re.MULTILINE)
    return text.strip()


def _as_list(section: re.Match[str]) -> str:
    entries = inspect.cleandoc(section[1].rstrip())
    entries = re.sub(r"\n {4,}", " ", entries)
    items = [re.sub(r"^([\w, ]+): ", r"`\1`: ", line) for line in entries.splitlines() if line]
    return f"{section[0].partition(':')[0]}:\n\n" + "\n".join(f"- {item}" for item in items) + "\n"


def _short(text: str) -> str:
    """Return type names without their modules."""
    return re.sub(r"\b(?:cgworker|collections\.abc|typing|pathlib|anyio|httpx)\.(?:[a-z_]+\.)*", "", text)
