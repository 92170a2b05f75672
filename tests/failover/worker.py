"""A worker process of a drill. Its environment says for whom it works.

Its client writes down what it sent to the kernel and what was answered. So the drill judges by what crossed
the wire, and not by what the worker believes.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from cgworker import AgentRef, KernelClient, Turn, Worker, WorkerOptions, run
from cgworker.client.transport import Answer
from cgworker.errors import CommonGroundError
from cgworker.wire.claims import ClaimMany, ClaimNext, RenewClaim, RenewMany
from cgworker.wire.refs import ClaimToken
from cgworker.wire.turns import FinishTurn, SettleMany
from tests.soak.journal import Journal
from tests.soak.processes import up_file

CONCURRENCY = 100
"""Of a worker; turns that its handler holds for seconds leave room for the others."""


class NotingClient(KernelClient):
    """A client that writes each claim, renewal and finish into a journal, and its answer."""

    def __init__(self, *args: Any, journal: Journal, **options: Any) -> None:
        super().__init__(*args, **options)
        self._journal = journal

    async def send(self, method: str, path: str, *, body: Any = None, **options: Any) -> Answer:
        """Send one request."""
        asked_at = time.monotonic()
        for claim, _ in _finishes(body):
            self._journal.write("settling", claim=claim.token)
        try:
            answer = await super().send(method, path, body=body, **options)
        except CommonGroundError as trouble:
            what = path.rpartition(":")[2]
            self._journal.write("refused", what=f"{what}: {type(trouble).__name__}")
            raise
        for word, facts in _answered(body, answer.body):
            self._journal.write(word, asked_at=asked_at, **facts)
        return answer


def _finishes(body: Any) -> list[tuple[ClaimToken, Any]]:
    """The claims that a request ends, with the payloads of their turns."""
    match body:
        case FinishTurn():
            return [(body.claim, body.final_payload)]
        case SettleMany():
            return [(item.claim, item.finish.final_payload) for item in body.items if item.finish]
    return []


def _answered(body: Any, answer: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines of the journal that an answer makes."""
    match body:
        case ClaimNext() if answer is not None:
            yield _claimed(answer)
        case ClaimMany():
            yield from (_claimed(one) for item in _good(answer) for one in item["body"])
        case RenewClaim():
            yield "renewed", {"claim": body.claim.token}
        case RenewMany():
            for sent, item in zip(body.items, answer["items"], strict=True):
                if item["status"] < 400:
                    yield "renewed", {"claim": sent.claim.token}
        case FinishTurn():
            [(claim, payload)] = _finishes(body)
            yield "finished", {"turn": claim.turn_id, "payload": payload}
        case SettleMany():
            for settled, item in zip(body.items, answer["items"], strict=True):
                if item["status"] < 400 and settled.finish:
                    payload = settled.finish.final_payload
                    yield "finished", {"turn": settled.claim.turn_id, "payload": payload}
                elif item["status"] >= 400:
                    yield "refused", {"what": f"settle-many: an item with status {item['status']}"}
            yield from (_claimed(item["body"]) for item in _good({"items": _next_of(answer)}) if item["body"])


def _next_of(answer: Any) -> list[Any]:
    return [item["next"] for item in answer["items"] if item.get("next")]


def _good(answer: Any) -> list[Any]:
    return [item for item in answer["items"] if item["status"] < 400]


def _claimed(found: Any) -> tuple[str, dict[str, Any]]:
    names = {"claim": "token", "turn": "turn_id", "attempt": "attempt", "lease": "lease_seconds"}
    return "claimed", {word: found[name] for word, name in names.items()}


@asynccontextmanager
async def being_up(_: Worker) -> AsyncIterator[None]:
    """Say that the worker listens to signals."""
    up_file(Path(os.environ["SOAK_LOGS"]), os.environ["SOAK_WORKER"]).touch()
    yield


def main() -> None:
    """Work until told to stop."""
    environ = os.environ
    journal = Journal(Path(environ["SOAK_JOURNAL"]))

    async def work(turn: Turn, input: dict[str, Any]) -> dict[str, Any]:
        name = uuid.uuid4().hex
        journal.write("start", run=name, turn=turn.ref.turn_id)
        try:
            await anyio.sleep(input["seconds"])
        finally:
            journal.write("end", run=name)
        return {"n": input["n"], "run": name}

    agent = AgentRef(project_id=environ["DRILL_PROJECT"], agent_id=environ["DRILL_AGENT"])
    options = WorkerOptions(concurrency=CONCURRENCY, outbox_path=Path(environ["DRILL_OUTBOX"]))
    kernel = NotingClient(
        environ["DRILL_BASE_URL"], agent=agent, token=environ["DRILL_TOKEN"], journal=journal
    )
    worker = Worker(kernel, options=options, lifespan=being_up)
    worker.turn()(work)
    run(worker)


if __name__ == "__main__":
    main()
