#!/usr/bin/env bash
# One human answer ends the wait of every step of a LlamaIndex workflow that waits for an answer.
#
# Packages: llama-index-workflows 2.26.1
# Guess: each wait has a `waiter_id` and asked its own question, so one answer ends one wait; the other goes on waiting.
# Seen: Two steps ask "send 0?" and "send 1?" and wait for a `HumanResponseEvent`. A single event "yes" is the answer of
#   both. `waiter_id` only tells waits of one step apart. Only `requirements`, which the answer must then hold, bind an
#   answer to its question.
# Why it matters: with two approvals open, the person who allows the first has allowed both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'llama-index-workflows==2.26.1'
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


class Mail(Event):
    number: int


class Decided(Event):
    number: int
    answer: str


class Sending(Workflow):
    bound = False

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Mail | None:
        for number in range(2):
            ctx.send_event(Mail(number=number))

    @step
    async def send(self, ctx: Context, ev: Mail) -> Decided:
        answered = await ctx.wait_for_event(
            HumanResponseEvent,
            waiter_id=f"send {ev.number}",
            waiter_event=InputRequiredEvent(prefix=f"send {ev.number}?"),
            requirements={"number": ev.number} if self.bound else None,
        )
        return Decided(number=ev.number, answer=answered.response)

    @step
    async def gather(self, ctx: Context, ev: Decided) -> StopEvent | None:
        decided = ctx.collect_events(ev, [Decided, Decided])
        return decided and StopEvent(result={each.number: each.answer for each in decided})


class Bound(Sending):
    bound = True


async def both_asked(workflow):
    run = workflow.run()
    asked = 0
    async for event in run.stream_events():
        asked += isinstance(event, InputRequiredEvent)
        if asked == 2:
            return run


async def main():
    run = await both_asked(Sending(timeout=20))
    run.ctx.send_event(HumanResponseEvent(response="yes"))
    result = await run
    print("one answer:", result)
    assert result == {0: "yes", 1: "yes"}

    run = await both_asked(Bound(timeout=20))
    run.ctx.send_event(HumanResponseEvent(response="yes", number=0))
    await asyncio.sleep(0.5)
    print("with requirements, after one answer: done is", run.done())
    assert not run.done()
    run.ctx.send_event(HumanResponseEvent(response="no", number=1))
    assert await run == {0: "yes", 1: "no"}


asyncio.run(main())
PYTHON
