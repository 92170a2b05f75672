"""The journal of runs: each handler says when it starts, lives and is done; one line each, from any process.

Times are CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import define, field


class Journal:
    """Appends lines; a line is one write, so that many processes may share the file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, word: str, **facts: Any) -> None:
        """Say `word` (start, beat, message, call or done) about a run."""
        line = json.dumps({"at": time.monotonic(), "word": word, **facts}) + "\n"
        os.write(self._file, line.encode())


@define(kw_only=True)
class Run:
    """One run of a handler on a turn, as it told of itself; `harness` is the framework of its agent."""

    run: str
    turn_id: str
    worker: str
    started_at: float
    harness: str | None = None
    beats: list[float] = field(factory=list)
    messages: list[int] = field(factory=list)
    calls: list[int] = field(factory=list)
    done_at: float | None = None

    @property
    def last_at(self) -> float:
        """When it was last heard of."""
        return max([self.started_at, *self.beats, self.done_at or 0.0])

    @property
    def machine(self) -> str:
        """The machine it ran on: workers are called `<machine>-<name>.<number>`."""
        return self.worker.partition("-")[0]

    @property
    def is_command(self) -> bool:
        """Whether it ran in a process of its own: the agent `shop` works with a command."""
        return self.worker.split("-")[1] == "shop"


def read_runs(path: Path) -> list[Run]:
    """All runs of a journal, in the order of their starts."""
    runs: dict[str, Run] = {}
    for line in _lines(path):
        match line["word"]:
            case "start":
                runs[line["run"]] = Run(
                    run=line["run"],
                    turn_id=line["turn"],
                    worker=line["worker"],
                    started_at=line["at"],
                    harness=line.get("harness"),
                )
            case "beat":
                runs[line["run"]].beats.append(line["at"])
            case "message":
                runs[line["run"]].messages.append(line["number"])
            case "call":
                runs[line["run"]].calls.append(line["number"])
            case "done":
                runs[line["run"]].done_at = line["at"]
    return sorted(runs.values(), key=lambda run: run.started_at)


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
