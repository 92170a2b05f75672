#!/usr/bin/env python3
"""A runtime for conversation turns, as a command. Any language that can read and write files will do.

Run it under a worker:

    cg worker loop --profile cg-demo/worker-1 --command python examples/conversation_worker/worker_runtime.py
"""

import json
import os
from pathlib import Path
from typing import Any


def main() -> None:
    """Read the turn's input, report progress, write the answer."""
    said = json.loads(Path(os.environ["CG_INPUT_FILE"]).read_text())
    record({"step": "reading", "words": len(task_of(said).split())})
    answer = {"text": f"You asked: {task_of(said)}", "answered_by": os.environ["CG_AGENT_ID"]}
    Path(os.environ["CG_FINAL_FILE"]).write_text(json.dumps(answer))


def task_of(said: Any) -> str:
    """Return the question: the `task` of an object, or the value itself."""
    return str(said.get("task", said)) if isinstance(said, dict) else str(said)


def record(progress: Any) -> None:
    """Append a process record to the turn: one line of JSON in the progress file."""
    with Path(os.environ["CG_PROGRESS_FILE"]).open("a") as file:
        file.write(json.dumps(progress) + "\n")


if __name__ == "__main__":
    main()
