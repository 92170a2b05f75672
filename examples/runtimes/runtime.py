#!/usr/bin/env python3
"""The whole command contract in Python: counts to a number, and can be stopped, resumed and asked to wait.

cg worker loop --profile cg-demo/worker-1 --command python examples/runtimes/runtime.py

Input: {"task": "count", "steps": 5}. Other tasks end in other ways: "approve" (suspend), "later"
(hand back), anything else (fail). It needs only the standard library.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

HAND_BACK = 75


def main() -> int:
    """Work the turn and return the exit status."""
    asked = read("INPUT")
    match asked["task"]:
        case "count":
            return count_to(asked["steps"])
        case "approve":
            write("SUSPEND", {"reason": "waiting_for_approval", "note": "say yes, then resume the turn"})
            return 0
        case "later":
            return come_back_later()
        case _:
            return fail("unknown_task", "this runtime knows count, approve and later")


def count_to(steps: int) -> int:
    """Count, starting where an earlier attempt stopped."""
    step = first = read("CHECKPOINT") if file("CHECKPOINT").exists() else 0
    while step < steps and not file("STOP").exists():
        time.sleep(0.1)
        step += 1
        save_checkpoint(step)
        record({"step": step, "of": steps})
    if file("STOP").exists() and read("STOP")["reason"] == "shutdown":
        return HAND_BACK  # the worker shuts down: another one goes on
    records = len(read("CONTEXT")["semantic_items"])
    write("FINAL", {"counted": step, "from": first, "records": records, "agent": os.environ["CG_AGENT_ID"]})
    return 0


def come_back_later() -> int:
    """Hand the turn back on the first attempt, and succeed on the next one."""
    if file("CHECKPOINT").exists():
        write("FINAL", {"tried_again": True})
        return 0
    save_checkpoint(1)
    return HAND_BACK


def fail(error: str, message: str) -> int:
    """Report a failure, in the turn and on the worker's terminal."""
    write("FAILURE", {"error": error, "message": message})
    sys.stderr.write(f"{error}: {message}\n")
    return 1


def record(progress: Any) -> None:
    """Append a process record to the turn: one line of JSON."""
    with file("PROGRESS").open("a") as lines:
        lines.write(json.dumps(progress) + "\n")


def save_checkpoint(value: Any) -> None:
    """Write the checkpoint completely or not at all, even if the process is killed."""
    new = file("CHECKPOINT").with_suffix(".new")
    new.write_text(json.dumps(value))
    new.replace(file("CHECKPOINT"))


def read(name: str) -> Any:
    """Read the JSON of one of the turn's files."""
    return json.loads(file(name).read_text())


def write(name: str, value: Any) -> None:
    """Write JSON to one of the turn's files."""
    file(name).write_text(json.dumps(value))


def file(name: str) -> Path:
    """Return the path of one of the turn's files."""
    return Path(os.environ[f"CG_{name}_FILE"])


if __name__ == "__main__":
    sys.exit(main())
