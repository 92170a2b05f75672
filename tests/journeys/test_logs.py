"""What a worker logs: of each line one knows the turn, and of no line a secret."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from cgworker import Turn, TurnLogFilter, Worker, WorkerOptions, suspend
from cgworker.events import HandlerRaised, LeaseEnded, RenewalFailed, TurnGivenUp, TurnSettled
from cgworker.testing import LocalKernel
from tests.journeys.conftest import Witness, closed, in_state, working

log = logging.getLogger("my.program")


class Spelled(logging.Handler):
    """Keeps each record as it came, and as the most talkative formatter would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(TurnLogFilter())
        self.records: list[logging.LogRecord] = []
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.text += f"{self.format(record)}\n{vars(record)!r}\n"


@pytest.fixture
def spelled() -> Iterator[Spelled]:
    handler, root = Spelled(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


async def test_a_handlers_own_lines_carry_its_turn(kernel: LocalKernel, spelled: Spelled) -> None:
    """Of two turns at once, also in threads and tasks; lines outside a turn carry none."""
    both = anyio.Event()
    async with await kernel.agent("desk", capacity=2) as desk:
        worker = Worker(desk, options=WorkerOptions(concurrency=2, wait_seconds=5))

        @worker.turn()
        async def handle(_: Turn, word: str) -> None:
            log.info("%s begins", word)
            if len(lines("begins")) == 2:
                both.set()
            await both.wait()
            await anyio.to_thread.run_sync(log.info, "%s in a thread", word)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(later, word)

        async def later(word: str) -> None:
            log.info("%s in a task", word)

        def lines(part: str) -> list[logging.LogRecord]:
            return [r for r in spelled.records if r.name == log.name and part in r.getMessage()]

        turns = {word: await kernel.dispatch("desk", word) for word in ("one", "two")}
        async with working(worker):
            for turn in turns.values():
                await closed(desk, turn)
        log.info("outside")
    for word, turn in turns.items():
        facts = [(vars(r)["cg_turn"], vars(r)["cg_agent"], vars(r)["cg_attempt"]) for r in lines(word)]
        assert facts == [(str(turn), str(desk.agent), 1)] * 3
    assert [vars(r)["cg_turn"] for r in lines("outside")] == [""]


async def test_no_secret_is_ever_logged(kernel: LocalKernel, spelled: Spelled) -> None:
    """Neither claim tokens nor credentials, whatever goes wrong and whatever a handler raises."""
    witness = Witness()
    secrets: set[str] = set()
    async with await kernel.agent("desk") as desk:
        options = WorkerOptions(wait_seconds=5, renew_seconds=0.2)
        worker = Worker(desk, options=options, listener=witness)

        @worker.turn()
        async def handle(turn: Turn, word: str) -> Any:
            secrets.update(turn.secrets)
            match word:
                case "raise":
                    try:
                        raise ValueError(turn.secrets)
                    except ValueError as inner:
                        raise KeyError(turn.kernel.secrets) from inner
                case "lose" if turn.attempt == 1:
                    await kernel.faults.steal_lease(turn.ref)
                    await anyio.sleep_forever()
                case "suspend":
                    return suspend("for a while", turn.secrets[0])
            await turn.record({"word": word})
            return {"said": turn.secrets}

        for verb in ("claim", "append", "finish", "suspend"):
            kernel.faults.drop_response(verb)
        kernel.faults.answer("renew", 503)
        kernel.faults.answer("claim", 409)
        turns = {word: await kernel.dispatch("desk", word) for word in ("raise", "lose", "plain", "suspend")}
        async with working(worker):
            for word in ("raise", "lose", "plain"):
                await closed(desk, turns[word])
            await in_state(desk, turns["suspend"], "suspended")
        for kind in (HandlerRaised, LeaseEnded, RenewalFailed, TurnGivenUp, TurnSettled):
            assert witness.of(kind), f"this story has no {kind.__name__}"
    assert len(secrets) >= 5  # the credential, and a token for each claim
    told = spelled.text + repr(witness.events) + "".join(str(e.error) for e in witness.of(HandlerRaised))
    assert "KeyError" in told
    assert [secret for secret in secrets if secret in told] == []
