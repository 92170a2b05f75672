"""Fill in the generated parts of the pages; with `--check` only list the pages that are out of date.

A generated part is between `<!-- made: NAME -->` and `<!-- /made -->`. The text around it is written by hand.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import citations
import claim_travels
import commands
import names
import overview_pictures
import routes
import turn_life

from cgworker import WorkerOptions, errors
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.metrics import Metrics
from cgworker.lifecycle import TRANSITIONS, Trigger, TurnState

DOCS = Path(__file__).parent
_PLACE = re.compile(r"(<!-- made: (?P<name>[\w-]+) -->\n).*?(<!-- /made -->)", re.DOTALL)


def main(arguments: list[str]) -> int:
    """Write each page that is out of date; with `--check`, only list them and fail."""
    behind = [(path, text) for path, text in pages() if not path.exists() or path.read_text() != text]
    for path, text in behind:
        sys.stderr.write(f"{path.relative_to(DOCS.parent)} is out of date: run `make docs`\n")
        if "--check" not in arguments:
            path.write_text(text)
    return 1 if behind and "--check" in arguments else 0


def pages() -> Iterator[tuple[Path, str]]:
    """Yield each page as it should be."""
    yield DOCS / "reference" / "turn-life.svg", turn_life.picture()
    for name, drawn in claim_travels.pictures().items():
        yield DOCS / "explanation" / name, drawn
    for name, drawn in overview_pictures.pictures().items():
        yield DOCS / name, drawn
    for path in sorted(DOCS.rglob("*.md")):
        yield path, citations.linked(path, _PLACE.sub(_fill, path.read_text()))


def _fill(place: re.Match[str]) -> str:
    return f"{place[1]}\n{MADE[place['name']]().rstrip()}\n\n{place[3]}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join(map(line, [head, tuple("---" for _ in head), *rows]))


# ---------------------------------------------------------------- errors


def error_tree() -> str:
    """Return the tree at the head of errors.py."""
    drawing = re.search(
        r"(    CommonGroundError\n.*?)\n\n", inspect.cleandoc(errors.__doc__ or "") + "\n\n", re.DOTALL
    )
    assert drawing is not None
    return f"```text\n{inspect.cleandoc(drawing[1])}\n```"


def error_classes() -> str:
    """Return a table of the classes: code, status, and when each is raised."""
    named = [found for found in vars(errors).values() if isinstance(found, type)]
    classes = [cls for cls in named if issubclass(cls, errors.CommonGroundError)]
    rows = [(f"`{c.__name__}`", f"`{c.code}`", str(c.status), _flowing(c)) for c in classes]
    return _table(("Error", "`code`", "`status`", "When, and what to do"), rows)


def _flowing(cls: type) -> str:
    """Return the docstring as one paragraph."""
    return " ".join(inspect.cleandoc(cls.__doc__ or "").split())


# ---------------------------------------------------------------- the turn's life


def transitions() -> str:
    """Return the table of lifecycle.py, with a row for each event and a column for each state."""
    rows = [
        (f"`{event}`", *(str(TRANSITIONS.get((state, event), "")) for state in TurnState))
        for event in Trigger
    ]
    return _table(("", *(f"when {state}" for state in TurnState)), rows)


# ---------------------------------------------------------------- settings


def kernel_settings() -> str:
    """Return a table of the kernel's variables, their defaults and their meanings."""
    meant = _attributes_of(KernelConfig)
    plain = KernelConfig()
    rows = [
        (
            f"`{setting.metadata['variable']}`",
            _default_of(getattr(plain, setting.name), meant[setting.name]),
            meant[setting.name].partition(". ")[2],
        )
        for setting in attrs.fields(KernelConfig)
    ]
    return _table(("Variable", "Default", "Meaning"), rows)


def _default_of(value: Any, meant: str) -> str:
    if value is None:
        return "unset"
    said = re.match(r"[A-Z_]+, (.*?)\.(?: |$)", meant)
    return said[1] if said else f"`{value}`"


def worker_options() -> str:
    """Return a table of the fields of WorkerOptions."""
    meant = _attributes_of(WorkerOptions)
    plain = WorkerOptions()
    rows = [
        (f"`{option.name}`", f"`{getattr(plain, option.name)!r}`", _as_sentence(meant[option.name]))
        for option in attrs.fields(WorkerOptions)
        if option.name in meant  # the others are deprecated names
    ]
    return _table(("Option", "Default", "Meaning"), rows)


def _as_sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _attributes_of(cls: type) -> Mapping[str, str]:
    """Return the text of each field in the docstring's Attributes section, without line breaks."""
    section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def metrics() -> str:
    """Return a table of the metrics at `/metrics`."""
    told = [
        metric for each in vars(Metrics()).values() if hasattr(each, "describe") for metric in each.describe()
    ]
    return _table(
        ("Metric", "", "Kind"),
        [
            (
                f"`{metric.name}{'_total' if metric.type == 'counter' else ''}`",
                metric.documentation,
                metric.type,
            )
            for metric in told
        ],
    )


# ---------------------------------------------------------------- examples


def example(name: str) -> str:
    """Return a file of `examples/`."""
    return f"```python\n{(DOCS.parent / 'examples' / name).read_text().rstrip()}\n```"


MADE: Mapping[str, Callable[[], str]] = {
    "error-tree": error_tree,
    "error-classes": error_classes,
    "transitions": transitions,
    "metrics": metrics,
    "kernel-settings": kernel_settings,
    "worker-options": worker_options,
    "commands": commands.reference,
    "names": names.reference,
    "testing-names": names.testing_reference,
    "kernel-calls": names.kernel_calls,
    "routes": routes.reference,
    "types": routes.types,
    "example-approval": partial(example, "approval.py"),
    "example-claude-agent": partial(example, "claude_agent.py"),
    "example-command": partial(example, "command.py"),
    "example-export": partial(example, "export.py"),
    "example-fan-out": partial(example, "fan_out.py"),
    "example-monitored-worker": partial(example, "deploy/monitoring/worker.py"),
    "example-function": partial(example, "function.py"),
    "example-many-agents": partial(example, "many_agents.py"),
    "example-nanobot-companion": partial(example, "nanobot_companion.py"),
    "example-starlette-app": partial(example, "starlette_app.py"),
    "example-pydantic-agent": partial(example, "pydantic_agent.py"),
    "example-ray-cluster": partial(example, "ray_cluster.py"),
    "example-openai-agent": partial(example, "openai_agent.py"),
    "example-private-steps": partial(example, "private_steps.py"),
    "example-steps": partial(example, "steps.py"),
    "example-subclass": partial(example, "subclass.py"),
    "example-typed": partial(example, "typed.py"),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
