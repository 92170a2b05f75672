"""The glossary has the words of the code, and words that were given up do not come back."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from attrs import frozen

from tests.pages import PAGES, ROOT

GLOSSARY = ROOT / "docs" / "glossary.md"
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PROSE = [page for page in PAGES if page.name != "python.md"]  # which is made from the code, old names too
PROSE += [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md")]
CHANGES = ROOT / "CHANGELOG.md"

_ENTRY = re.compile(r"^\| \*\*(?P<word>[^*]+)\*\* \| [^|]+ \| [^|]* \| `(?P<home>[\w.]+)` \|$", re.MULTILINE)

# Names that were given up, and the name that the thing has now.
RETIRED = {
    "Ahead": "PrefetchedClaim",
    "BoundedHeads": "LimitedHttpProtocol",
    "Bundle": "BatchedCall",
    "Caretaker": "Resumer",
    "Charge": "GuardedGroups",
    "Claimer": "ClaimPoller",
    "Combiner": "StatementBatcher",
    "Combining": "CallBatcher",
    "CommandEnd": "CommandResult",
    "Dispatching": "DispatchRequest",
    "Figures": "WorkerMetrics",
    "Groups": "BatchFiles",
    "JoinedWrites": "CoalescingTransport",
    "Keeper": "RenewalHooks",
    "KeysInFlight": "InFlightKeys",
    "Later": "Deferred",
    "Leftovers": "OutboxSweeper",
    "LoopWatch": "LoopMonitor",
    "NoRoom": "ProcessLimitReached",
    "Parents": "ChildWaitWatcher",
    "Reaper": "Maintenance",
    "Remark": "SuspensionCause",
    "Remover": "FolderRemover",
    "Renewals": "RenewalScheduler",
    "Shift": "Runner",
    "Stage": "DemoShell",
    "Supervisor": "SystemdNotifier",
    "Tally": "Counts",
    "Verbs": "BatchedOperations",
    "Wakeups": "Notifier",
    "Words": "LazyCommands",
    "Worked": "LastTurn",
    "Workplace": "RunContext",
    "claiming": "poller",
    "collector": "gc_tuning",
    "combining": "batcher",
    "figures": "metrics",
    "heads": "limits",
    "insist": "retry_until_answered, call_until_lease_ends",
    "insist_on_asyncio": "require_asyncio",
    "keep_aside": "dead_letter",
    "leave_pid_one": "run_below_pid1",
    "leftovers": "outbox_sweeper",
    "look_until": "long_poll",
    "patience": "limiter",
    "patient_calls": "background_calls",
    "put_aside": "suspend_turn",
    "read_apart": "parse_in_child",
    "remark_of": "cause_of_suspension",
    "reaper": "maintenance",
    "shift": "runner",
    "spare_the_collector": "relax_gc",
    "take_note": "track, remember",
    "tellable": "loggable",
    "told_both": "combine_listeners",
    "unwinding": "interruption",
    "wakeups": "notifier",
}

# Public names of the version before, that still work with a warning: nobody is to be shown them any more.
DEPRECATED = {
    "most_payload_bytes": "max_payload_bytes",
    "outbox_most_bytes": "outbox_max_bytes",
    "most_seconds": "max_seconds",
    "most_rounds": "max_rounds",
    "most_characters": "max_characters",
    "carry_trace": "inject_trace",
    r"drain\(hurry": "drain(force=)",
    r"Worker\.at\b": "Worker.with_kernel",
}

# Expressions that no newcomer understands, and a plain one.
RIDDLES = {
    r"(?:put|keep|kept) aside": "suspended; a dead letter",
    r"leftovers?": "what it is: a result, a file, a process",
    r"caretaker": "resumer",
}


@frozen
class Entry:
    """A word of the glossary."""

    word: str
    home: str

    def __str__(self) -> str:
        return self.word


ENTRIES = [Entry(**found.groupdict()) for found in _ENTRY.finditer(GLOSSARY.read_text())]


def text_of(home: object) -> str:
    """The source of the module that something lives in; of a package, all that is in it."""
    module = home if isinstance(home, ModuleType) else inspect.getmodule(home)
    assert module is not None
    assert module.__file__ is not None
    path = Path(module.__file__)
    files = path.parent.rglob("*.py") if path.name == "__init__.py" else [path]
    return "\n".join([module.__name__, *(file.read_text() for file in files)])


def names_of(path: Path) -> Iterator[str]:
    """What a file defines, and the words of its own name."""
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name.lstrip("_")


# ---------------------------------------------------------------- words that there are


def test_every_line_of_the_table_is_an_entry() -> None:
    """None is left out of these tests by its form; each word is there once, and they are sorted."""
    lines = re.findall(r"^\| \*\*.*$", GLOSSARY.read_text(), re.MULTILINE)
    words = [entry.word for entry in ENTRIES]
    assert len(lines) == len(words) > 50
    assert words == sorted(set(words))


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_the_code_has_every_word_of_the_glossary_where_it_says(entry: Entry) -> None:
    """What is named is there, and uses the word."""
    home = pkgutil.resolve_name(f"cgworker.{entry.home}")
    written = r"[\s_-]*".join(map(re.escape, entry.word.split()))
    assert re.search(written, text_of(home), re.IGNORECASE)


# ---------------------------------------------------------------- words that were given up


def test_no_retired_name_is_defined_again() -> None:
    """No file, class or function bears a name that was given up."""
    found = [
        (path.name, name, RETIRED[name]) for path in SOURCES for name in names_of(path) if name in RETIRED
    ]
    assert found == []


def test_no_page_names_in_code_what_was_retired() -> None:
    """What stands in backticks is what the code has today."""
    names = "|".join(map(re.escape, RETIRED))
    spans = re.compile(rf"`[^`\n]*\b(?:\w+/)?({names})(?:\.py)?\b(?!\.\w*\()[^`\n]*`")
    assert [(page.name, found) for page in PROSE for found in spans.findall(page.read_text())] == []


def test_no_page_shows_a_deprecated_name() -> None:
    """Readers learn the new one; the change log tells of the old."""
    old = re.compile("|".join(DEPRECATED))
    assert [(page.name, found) for page in PROSE for found in old.findall(page.read_text())] == []


@pytest.mark.parametrize("riddle", RIDDLES)
def test_no_page_and_no_docstring_has_a_retired_expression(riddle: str) -> None:
    """A thing has one word, and it is the glossary's."""
    words = re.compile(rf"\b{riddle}\b", re.IGNORECASE)
    texts = {path: path.read_text() for path in [*SOURCES, *PROSE, CHANGES]}
    assert [
        (str(p.relative_to(ROOT)), found) for p, text in texts.items() for found in words.findall(text)
    ] == []


def test_each_class_has_a_name_of_its_own() -> None:
    """One word is not used for two things."""
    homes: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}
