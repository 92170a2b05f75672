#!/usr/bin/env bash
# After a kill a Strands session tells the model that a tool was interrupted which had finished.
# Package: strands-agents 1.62.0 with its FileSessionManager
# Guess: The session keeps the result of each tool when it ends. If the process dies in the second of two tools,
#   one after the other, the next process knows the result of the first.
# Seen: The results of one answer are kept together, after the last tool. A new process with a new prompt reports
#   both tools to the model as an error, "Tool was interrupted."; without a prompt it runs both again.
# Why it matters: The first payment was made. The model reads that it failed, or it is made a second time.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'strands-agents==1.62.0'
cat >"$dir/agent.py" <<'PY'
import json
import os
import sys
from pathlib import Path

from strands import Agent, tool
from strands.models import Model
from strands.session.file_session_manager import FileSessionManager
from strands.tools.executors import SequentialToolExecutor

folder, process = Path(sys.argv[1]), sys.argv[2]
PAID = folder / "paid"
told = []


class Scripted(Model):
    """Asks for two payments, and ends when it has read two results."""

    def update_config(self, **config):
        pass

    def get_config(self):
        return {}

    async def structured_output(self, *arguments, **options):
        yield {}

    async def stream(self, messages, *arguments, **options):
        blocks = [block for message in messages for block in message["content"]]
        results = [block["toolResult"] for block in blocks if "toolResult" in block]
        told.extend((result["status"], result["content"][0]["text"]) for result in results)
        yield {"messageStart": {"role": "assistant"}}
        for number in [] if results else [1, 2]:
            use = {"name": "pay", "toolUseId": str(number)}
            yield {"contentBlockStart": {"start": {"toolUse": use}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps({"number": number})}}}}
            yield {"contentBlockStop": {}}
        if results:
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": "done"}}}
            yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn" if results else "tool_use"}}


@tool
def pay(number: int) -> str:
    """Pays a bill."""
    if process == "first" and number == 2:
        os._exit(9)  # the process dies here
    with PAID.open("a") as paid:
        paid.write(f"{number} ")
    return "paid"


agent = Agent(
    model=Scripted(),
    tools=[pay],
    callback_handler=None,
    tool_executor=SequentialToolExecutor(),
    session_manager=FileSessionManager(session_id="bills", storage_dir=str(folder / "sessions")),
)
agent({"first": "Pay both bills.", "prompted": "Go on.", "resumed": None}[process])
print(f"{process}: payments {PAID.read_text().split()}, the model was told {told}")
if process == "prompted":
    assert PAID.read_text().split() == ["1"]
    assert told == [("error", "Tool was interrupted.")] * 2
else:
    assert PAID.read_text().split() == ["1", "1", "2"]
PY
mkdir "$dir/one"
"$dir/venv/bin/python" "$dir/agent.py" "$dir/one" first || test $? = 9
cp -r "$dir/one" "$dir/two"
"$dir/venv/bin/python" "$dir/agent.py" "$dir/one" prompted
"$dir/venv/bin/python" "$dir/agent.py" "$dir/two" resumed
echo "strands-agents 1.62.0: the finished payment is reported as interrupted, or is made again."
