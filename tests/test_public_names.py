"""One list says what is public."""

from __future__ import annotations

import ast
import builtins
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

import cgworker
import cgworker.testing
from cgworker import errors
from tests.pages import PAGES, ROOT, blocks


def test_the_list_is_what_can_be_imported_and_what_type_checkers_see() -> None:
    """`__all__`, what is looked up on demand, and what is imported for type checkers name the same."""
    tree = ast.parse(inspect.getsource(cgworker))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (alias.name, node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == set(cgworker._HOME_OF.items())  # noqa: SLF001  # there is no other way to see it
    assert set(cgworker.__all__) == {name for name, _ in seen}


def test_no_public_name_is_that_of_a_module() -> None:
    """The import system puts a module on its package, over a name that is looked up on demand."""
    modules = {module.name for module in pkgutil.iter_modules(cgworker.__path__)}
    assert not modules & set(cgworker.__all__)


def test_importing_the_package_loads_no_http_client_and_no_kernel() -> None:
    """A program pays for what it uses: `import cgworker` alone and `cg --version` stay cheap."""
    told = (
        "import sys, cgworker; print(*sorted({'httpx', 'cattrs', 'typer', 'starlette'} & set(sys.modules)))"
    )
    asked = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert asked.stdout.split() == []


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """Looking names up on demand changes nothing for names that are none."""
    assert not hasattr(cgworker, "Wroker")
    assert set(cgworker.__all__) <= set(dir(cgworker))


def test_the_list_is_sorted_and_has_no_doubles() -> None:
    """A name is found where one looks for it."""
    assert list(cgworker.__all__) == sorted(set(cgworker.__all__))


@pytest.mark.parametrize("name", cgworker.__all__)
def test_every_public_name_says_what_it_is(name: str) -> None:
    """Each class and function has its docstring."""
    found = getattr(cgworker, name)
    if inspect.isclass(found) or inspect.isfunction(found):
        assert found.__doc__
        assert not found.__doc__.startswith(f"{name}(")


def shown_code() -> str:
    """The examples, and the blocks of the docs that the gate runs."""
    examples = [path.read_text() for path in (ROOT / "examples").rglob("*.py")]
    shown = [block for page in PAGES for block in blocks(page) if block.language == "python"]
    return "\n".join([*examples, *(block.code for block in shown if block.mark)])


@pytest.mark.parametrize("module", [cgworker, cgworker.testing], ids=lambda module: module.__name__)
def test_every_public_name_is_shown_in_code_that_runs(module: ModuleType) -> None:
    """Where to look how it is used."""
    code = shown_code()
    assert [name for name in module.__all__ if not re.search(rf"\b{name}\b", code)] == []


def _public_docstrings() -> Iterator[tuple[str, str]]:
    """Each public name, its methods, and the calls of a `KernelClient`, with their docstrings."""
    found = [(name, getattr(cgworker, name)) for name in cgworker.__all__]
    found += [(name, getattr(cgworker.testing, name)) for name in cgworker.testing.__all__]
    kernel = cgworker.KernelClient("http://127.0.0.1:1")
    found += [(f"kernel.{noun}", type(calls)) for noun, calls in vars(kernel).items() if noun[0] != "_"]
    for name, each in found:
        yield name, inspect.getdoc(each) or ""
        if inspect.isclass(each):
            for member, _ in inspect.getmembers(each):
                if not member.startswith("_"):
                    yield f"{name}.{member}", inspect.getdoc(getattr(each, member)) or ""


def _errors_named_in(docstring: str) -> set[str]:
    """The names in the Raises section, and those of this package's errors in backquotes."""
    section = re.search(r"^Raises:\n((?:    .*\n?|\n(?=    ))*)", docstring, re.MULTILINE)
    listed = re.findall(r"^    (\w+(?:, \w+)*): ", section[1], re.MULTILINE) if section else []
    quoted = {name for name in re.findall(r"`(\w+)`", docstring) if hasattr(errors, name)}
    return quoted | {name for line in listed for name in line.split(", ")}


def test_every_exception_that_a_public_docstring_names_is_built_in_or_public() -> None:
    """Who reads what a call raises can catch it."""
    named = {(error, name) for name, text in _public_docstrings() for error in _errors_named_in(text)}
    assert {"ConflictError", "OSError"} <= {error for error, _ in named}
    assert [each for each in sorted(named) if each[0] not in {*dir(builtins), *cgworker.__all__}] == []


@pytest.mark.parametrize("call", ["kernel.turns.dispatch", "kernel.credentials.issue", "kernel.send"])
def test_the_reference_of_a_kernel_client_has_its_calls_with_their_arguments(call: str) -> None:
    """A page has every call, by its noun."""
    page = (ROOT / "docs/reference/kernel-client.md").read_text()
    section = page.partition(f"async {call}(")[2].partition("\n#")[0]
    assert "Args:" in section
    assert "Raises:" in section
