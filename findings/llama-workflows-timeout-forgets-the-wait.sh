#!/usr/bin/env bash
# A LlamaIndex workflow that is stored while it waits gets its whole timeout again each time it is loaded.
#
# Packages: llama-index-workflows 2.26.1
# Guess: a stored run holds how long it has run (`elapsed_alive`), so a run that waited most of its timeout has the rest
#   of it left after it was loaded.
# Seen: In one process a run with a timeout of 1 s that waits for a person ends with WorkflowTimeoutError after 1 s. The
#   same run, stored and loaded every 0.7 s, is alive after 2.8 s and takes the answer: `elapsed_alive` counts up to the
#   last thing that happened, and nothing happens while a run waits.
# Why it matters: the limit of a wait depends on how often its process is restarted.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'llama-index-workflows==2.26.1'
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import json

from workflows import Context, Workflow, step
from workflows.errors import WorkflowTimeoutError
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


class Asking(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        question = InputRequiredEvent(prefix="ship it?")
        answered = await ctx.wait_for_event(HumanResponseEvent, waiter_event=question)
        return StopEvent(result=answered.response)


async def main():
    run = Asking(timeout=1).run()
    try:
        await run
    except WorkflowTimeoutError as error:
        print("in one process:", error)
    else:
        raise AssertionError("it did not time out")

    run, elapsed = Asking(timeout=1).run(), []
    for _ in range(4):
        await asyncio.sleep(0.7)
        stored = json.dumps(run.ctx.to_dict())
        await run.cancel_run()
        elapsed.append(json.loads(stored)["elapsed_alive"])
        workflow = Asking(timeout=1)
        run = workflow.run(ctx=Context.from_dict(workflow, json.loads(stored)))
    run.ctx.send_event(HumanResponseEvent(response="yes"))
    print("stored and loaded four times in 2.8 s:", await run, "- elapsed_alive below 0.1 s:", max(elapsed) < 0.1)
    assert max(elapsed) < 0.1


asyncio.run(main())
PYTHON
