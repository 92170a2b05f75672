"""One worker process of the soak, told by its environment whom to work for."""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server

from cgworker import (
    AdapterHandler,
    AgentRef,
    CommandHandler,
    FolderStore,
    KernelClient,
    Succeeded,
    Turn,
    Worker,
    WorkerOptions,
    instrument,
    run,
)
from tests.soak import harnesses
from tests.soak.forks import square_in_a_pool
from tests.soak.journal import Journal
from tests.soak.processes import up_file

COMMAND = (sys.executable, "-I", "-S", str(Path(__file__).with_name("command.py")))


async def work(turn: Turn, input: dict[str, Any]) -> dict[str, Any]:
    """Sleep and wait for messages if the input says so; work as long as it says, and tell the journal."""
    if input["sleeps"]:
        await turn.sleep(input["sleeps"], key="nap")
    journal, name = Journal(Path(os.environ["SOAK_JOURNAL"])), uuid.uuid4().hex
    about = {"run": name, "turn": turn.ref.turn_id, "worker": os.environ["SOAK_WORKER"]}
    journal.write("start", **about)
    messages = turn.messages()
    for _ in range(input["messages"]):
        message = await anext(messages)
        journal.write("message", number=message.content, **about)
    end = anyio.current_time() + input["seconds"]
    while anyio.current_time() < end:
        await anyio.sleep(0.1)
        journal.write("beat", **about)
    answer = {"n": input["n"], "square": await _square(input["n"]), "run": name}
    journal.write("done", **about)
    return answer


async def work_by_harness(turn: Turn, input: dict[str, Any]) -> Any:
    """Have an agent of a framework work, and tell the journal of each call that it makes."""
    journal, name = Journal(Path(os.environ["SOAK_JOURNAL"])), uuid.uuid4().hex
    about = {"run": name, "turn": turn.ref.turn_id, "worker": os.environ["SOAK_WORKER"]}
    calls = harnesses.Calls(os.environ["SOAK_JOURNAL"], about, input["seconds"] / len(harnesses.CALLS))
    journal.write("start", harness=harnesses.name_of(input["n"]), **about)
    with ExitStack() as ends:
        adapter = harnesses.adapter_for(harnesses.Run(input["n"], calls, ends))
        outcome = await AdapterHandler(adapter)(turn)
    if not isinstance(outcome, Succeeded):
        return outcome
    journal.write("done", **about)
    square = re.findall(r"\d+", outcome.payload["text"])[-1]
    return {"n": input["n"], "square": int(square), "run": name}


@asynccontextmanager
async def being_up(_: Worker) -> AsyncIterator[None]:
    """Say that the worker listens to signals, and load what frameworks it needs, which takes seconds."""
    up_file(Path(os.environ["SOAK_LOGS"]), os.environ["SOAK_WORKER"]).touch()
    if os.environ["SOAK_AGENT"] == "lab":
        await anyio.to_thread.run_sync(harnesses.load, abandon_on_cancel=True)
    yield


async def _square(number: int) -> int:
    return await anyio.to_thread.run_sync(square_in_a_pool, number) if number % 4 == 0 else number**2


def main() -> None:
    """Work until told to stop."""
    environ = os.environ
    agent = AgentRef(project_id="soak", agent_id=environ["SOAK_AGENT"])
    options = WorkerOptions(
        concurrency=int(environ["SOAK_CONCURRENCY"]),
        wait_seconds=10,
        grace_seconds=2,
        interrupt_seconds=1,
        max_attempts=100,  # here a worker's death is the rule and no sign of a poison turn
        outbox_path=Path(environ["SOAK_OUTBOX"]),
        private_store=FolderStore(Path(environ["SOAK_PRIVATE"])),
    )
    kernel = KernelClient(environ["SOAK_BASE_URL"], agent=agent, token=environ["SOAK_TOKEN"])
    worker = Worker(kernel, options=options, lifespan=being_up)
    if agent.agent_id == "shop":
        worker.add(None, CommandHandler(COMMAND))
    elif agent.agent_id == "lab":
        worker.turn()(work_by_harness)
    else:
        worker.turn()(work)
    instrument(worker, meter_provider=MeterProvider([PrometheusMetricReader()]))
    start_http_server(int(environ["SOAK_METRICS_PORT"]), addr="127.0.0.1")
    run(worker)


if __name__ == "__main__":
    main()
