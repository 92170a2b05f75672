#!/usr/bin/env python3
"""A resident command in Python: it stays, gets turns as lines on stdin, and answers on stdout.

cg worker loop --profile cg-demo/worker-1 --resident --command python examples/runtimes/resident/resident.py

Input: {"task": "count", "steps": 5}. Other tasks end in other ways: "approve" (suspend), "later"
(hand back), anything else (fail). It needs only the standard library.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer turns until stdin ends."""
    for line in sys.stdin:
        given = json.loads(line)
        asked = given["input"] if "input" in given else json.loads(Path(given["input_file"]).read_text())
        task = asked.get("task") if isinstance(asked, dict) else None
        match task:
            case "count":
                count_to(asked["steps"], given)
            case "approve":
                note = "say yes, then resume the turn"
                answer(given, suspend={"reason": "waiting_for_approval", "note": note})
            case "later":
                come_back_later(given)
            case _:
                message = "this runtime knows count, approve and later"
                sys.stderr.write(f"unknown_task: {message}\n")
                answer(given, failure={"error": "unknown_task", "message": message})


def count_to(steps: int, given: dict[str, Any]) -> None:
    """Count, starting where an earlier attempt stopped."""
    stop, checkpoint = Path(given["stop_file"]), Path(given["checkpoint_file"])
    step = first = json.loads(checkpoint.read_text()) if checkpoint.exists() else 0
    while step < steps and not stop.exists():
        time.sleep(0.1)
        step += 1
        save(checkpoint, step)
        answer(given, progress={"step": step, "of": steps})
    if stop.exists() and json.loads(stop.read_text())["reason"] == "shutdown":
        answer(given, hand_back={})  # the worker shuts down: another one goes on
        return
    records = len(context_of(given)["semantic_items"])
    final = {"counted": step, "from": first, "records": records, "agent": given["agent_id"]}
    answer(given, final=final)


def come_back_later(given: dict[str, Any]) -> None:
    """Hand the turn back on the first attempt, and succeed on the next one."""
    checkpoint = Path(given["checkpoint_file"])
    if checkpoint.exists():
        answer(given, final={"tried_again": True})
    else:
        save(checkpoint, 1)
        answer(given, hand_back={})


def answer(given: dict[str, Any], **said: Any) -> None:
    """Write one line for the turn. Only these lines go to stdout; everything else goes to stderr."""
    print(json.dumps({"id": given["id"], **said}), flush=True)


def context_of(given: dict[str, Any]) -> Any:
    """Return the turn and its records; a large context comes in a file."""
    if "context" in given:
        return given["context"]
    return json.loads(Path(given["context_file"]).read_text())


def save(checkpoint: Path, value: Any) -> None:
    """Write the checkpoint completely or not at all, even if the process is killed."""
    new = checkpoint.with_suffix(".new")
    new.write_text(json.dumps(value))
    new.replace(checkpoint)


if __name__ == "__main__":
    main()
