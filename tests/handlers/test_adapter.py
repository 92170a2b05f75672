"""Adapters: what `AdapterHandler` makes of a foreign harness, however that behaves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from cgworker import (
    Failed,
    Interruption,
    Reason,
    Stopped,
    Succeeded,
    Turn,
    UsageError,
    WorkerOptions,
    fail,
)
from cgworker.handlers import Adapter, AdapterHandler, Output, Record
from cgworker.testing import play


class Told(Adapter[list[str]]):
    """Does what its `drive` says, and notes what happens to it."""

    def __init__(self, *, ends_by_itself: bool = False) -> None:
        self.notes: list[str] = []
        self.ends_by_itself = ends_by_itself
        self.told = anyio.Event()

    @asynccontextmanager
    async def prepare(self, turn: Turn) -> AsyncIterator[list[str]]:
        self.notes.append(f"prepared {turn.input}")
        try:
            yield self.notes
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                self.notes.append("put away")

    async def interrupt(self, turn: Turn, interruption: Interruption) -> bool:
        self.notes.append(f"told {interruption.reason} of {turn.input}")
        self.told.set()
        return self.ends_by_itself


class Steps(Told):
    async def drive(self, turn: Turn, prepared: list[str]) -> AsyncGenerator[Any, None]:
        yield {"step": 1}
        yield Record({"thought": 2}, "thinking")
        yield Output({"input": turn.input, "prepared": prepared[0]})
        yield {"never": "recorded"}


async def test_what_is_yielded_becomes_records_and_at_last_the_outcome() -> None:
    """Nothing after the output counts."""
    adapter = Steps()
    played = await play(AdapterHandler(adapter), "q")
    assert played.outcome == Succeeded({"input": "q", "prepared": "prepared q"})
    assert [(each.role, each.payload) for each in played.records] == [
        ("progress", {"step": 1}),
        ("thinking", {"thought": 2}),
    ]
    assert adapter.notes == ["prepared q", "put away"]


class Refuses(Told):
    async def drive(self, turn: Turn, prepared: list[str]) -> AsyncGenerator[Any, None]:  # noqa: ARG002
        yield Output(fail({"error": "not_my_thing"}))


async def test_an_output_may_be_an_outcome() -> None:
    """As what a function returns may be one."""
    assert (await play(AdapterHandler(Refuses()))).outcome == Failed({"error": "not_my_thing"})


class Silent(Told):
    async def drive(self, turn: Turn, prepared: list[str]) -> AsyncGenerator[Any, None]:  # noqa: ARG002
        yield {"step": 1}


async def test_an_adapter_without_an_output_fails_the_turn_and_says_so() -> None:
    """A harness that just ends has not done the work."""
    outcome = (await play(AdapterHandler(Silent()))).outcome
    assert isinstance(outcome, Failed)
    assert outcome.payload == {
        "error": "handler_error",
        "type": "NoOutput",
        "message": "Silent.drive ended without yielding an Output",
    }


class Breaks(Told):
    async def drive(self, turn: Turn, prepared: list[str]) -> AsyncGenerator[Any, None]:  # noqa: ARG002
        yield {"step": 1}
        raise ConnectionError("harness at https://me:hunter2secret@peer is away")


async def test_what_breaks_in_the_harness_is_a_typed_failure_without_secrets() -> None:
    """And what was prepared is put away."""
    adapter = Breaks()
    outcome = (await play(AdapterHandler(adapter))).outcome
    assert isinstance(outcome, Failed)
    assert outcome.payload["type"] == "ConnectionError"
    assert "hunter2secret" not in outcome.payload["message"]
    assert adapter.notes[-1] == "put away"


class Waits(Told):
    async def drive(self, turn: Turn, prepared: list[str]) -> AsyncGenerator[Any, None]:  # noqa: ARG002
        try:
            yield {"step": 1}
            await self.told.wait()
            if not self.ends_by_itself:
                await anyio.sleep_forever()
            yield Output({"half": "done"})
        finally:
            prepared.append("drive ended")


async def test_a_harness_that_is_told_may_hand_over_what_it_has() -> None:
    """Its output, within the grace, is the payload of the stopped turn."""
    adapter = Waits(ends_by_itself=True)
    played = await play(AdapterHandler(adapter), "q", stop_after=0.01)
    assert played.outcome == Stopped({"half": "done"})
    assert adapter.notes == ["prepared q", "told stop of q", "drive ended", "put away"]


@pytest.mark.parametrize("ends_by_itself", [False, True])
async def test_a_harness_that_does_not_end_is_cancelled(ends_by_itself: bool) -> None:
    """At once, or when its grace is over though it promised; all is put away, in order."""

    class Ignores(Waits):
        async def drive(self, turn: Turn, prepared: list[str]) -> AsyncGenerator[Any, None]:  # noqa: ARG002
            yield {"step": 1}
            try:
                await anyio.sleep_forever()
            finally:
                prepared.append("drive ended")

    adapter = Ignores(ends_by_itself=ends_by_itself)
    options = WorkerOptions(time_limit_seconds=0.05, interrupt_seconds=0.2)
    played = await play(AdapterHandler(adapter), "q", options=options)
    assert played.outcome == Failed({"error": "deadline_exceeded", "time_limit_seconds": 0.05})
    assert adapter.notes == ["prepared q", "told deadline of q", "drive ended", "put away"]


async def test_a_lost_lease_reaches_the_harness() -> None:
    """It must not go on with work that belongs to another by now."""
    adapter = Waits()
    played = await play(AdapterHandler(adapter), "q", lose_lease_after=0.01)
    assert played.outcome is None
    assert played.interruption is not None
    assert played.interruption.reason is Reason.LEASE_LOST
    assert adapter.notes == ["prepared q", "told lease_lost of q", "drive ended", "put away"]


class CannotBeTold(Waits):
    async def interrupt(self, turn: Turn, interruption: Interruption) -> bool:  # noqa: ARG002
        raise ConnectionError("the harness is gone")


async def test_a_harness_that_cannot_be_told_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong in telling it is logged, and ends nothing else."""
    played = await play(AdapterHandler(CannotBeTold()), "q", stop_after=0.01)
    assert isinstance(played.outcome, Stopped)
    assert "could not be told to end" in caplog.text


class Asks(Told):
    async def drive(self, turn: Turn, prepared: list[str]) -> AsyncGenerator[Any, None]:  # noqa: ARG002
        found = await turn.children({"child": turn.child("other", {"n": 1})})
        yield {"child": found["child"].payload}
        yield Output(await turn.ask(bool, "Go on?", key="go"))


async def test_an_adapter_may_wait_for_children_and_answers() -> None:
    """It is put away while the turn waits, and begins again from the top."""
    adapter = Asks()
    played = await play(AdapterHandler(adapter), children={"child": 7}, answers={"go": True})
    assert played.outcome == Succeeded(True)
    assert played.entered_count == 3
    assert adapter.notes == ["prepared None", "put away"] * 3


class NeedsSomething(Steps):
    def check(self) -> None:
        raise UsageError("pip install something")


async def test_what_an_adapter_lacks_is_said_before_a_turn_is_claimed() -> None:
    """The turn would have to be failed or handed back otherwise."""
    with pytest.raises(UsageError, match="pip install something"):
        await play(AdapterHandler(NeedsSomething()))


async def test_an_adapter_handler_says_which_adapter_it_runs() -> None:
    """In logs and in a debugger."""
    assert repr(AdapterHandler(Steps())) == "AdapterHandler(Steps)"
