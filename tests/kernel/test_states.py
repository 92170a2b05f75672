"""The store and `lifecycle.py` agree: whatever comes in whatever order, a turn goes where the table says."""

from __future__ import annotations

from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cgworker.lifecycle import TRANSITIONS, Trigger, TurnState
from tests.kernel.project import Agent, Project, end_lease, token_of


class Story:
    """One turn, and what its agent tries to do with it."""

    def __init__(self, worker: Agent, helper: Agent, turn_id: str) -> None:
        self.worker = worker
        self.helper = helper  # children are addressed to it: the worker has one turn to claim
        self.turn_id = turn_id
        self.claim: Any = None
        self.step = 0

    async def attempt(self, event: Trigger) -> bool:
        """Try to bring the event about over HTTP; says whether the kernel did it."""
        self.step += 1  # no two calls have the same content: none is taken for a repeat
        worker, turn_id = self.worker, self.turn_id
        match event:
            case Trigger.CLAIM:
                claim = await worker.claim()
                self.claim = claim or self.claim
                return claim is not None
            case Trigger.RECONCILE:
                await end_lease(worker.project, turn_id)
                return bool((await worker.post("claims:reconcile-expired", {}))["reconciled_count"])
            case Trigger.RESUME:
                return _was_done(await worker.resume(turn_id))
            case Trigger.STOP:
                return _was_done(await worker.stop(turn_id))
            case Trigger.TELL:
                return _was_done(await worker.tell(turn_id, self.step))
            case Trigger.STOP_EXPIRED:
                await end_lease(worker.project, turn_id)
                return _was_done(await worker.stop(turn_id))
            case under_claim:
                return self.claim is not None and _was_done(await self._under_claim(under_claim))

    async def _under_claim(self, event: Trigger) -> httpx.Response:
        worker, claim = self.worker, self.claim
        match event:
            case Trigger.RENEW:
                return await worker.renew(claim)
            case Trigger.APPEND:
                return await worker.append(claim, self.step)
            case Trigger.FINISH:
                return await worker.finish(claim, final_payload=self.step)
            case Trigger.SUSPEND:
                return await worker.suspend(claim, f"reason {self.step}")
            case Trigger.DISPATCH_CHILD:
                authority = {"mode": "child_derivation", "parent_claim": token_of(claim)}
                body = worker.dispatching(self.helper, authority=authority)
                return await worker.ask("POST", "turns:dispatch", body)
            case other:
                raise AssertionError(other)


def _was_done(answer: httpx.Response) -> bool:
    assert answer.status_code in (200, 409), answer.text
    return answer.status_code == 200


@given(events=st.lists(st.sampled_from(Trigger), min_size=1, max_size=15))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_kernel_does_what_the_table_allows(project: Project, events: list[Trigger]) -> None:
    """Each event is done or refused as `TRANSITIONS` has it, and leaves the turn in the state named there."""
    own = Project(project.kernel, project.client)
    worker, helper = await own.agent("worker"), await own.agent("helper")
    story, state = Story(worker, helper, await worker.dispatch(worker)), TurnState.QUEUED
    for event in events:
        if event is Trigger.STOP_EXPIRED and state is not TurnState.RUNNING:
            event = Trigger.STOP  # there is no lease that could have ended
        expected = TRANSITIONS.get((state, event))
        assert await story.attempt(event) == (expected is not None), (state, event)
        state = expected or state
        assert (await own.row(story.turn_id))["state"] == state
        assert await own.held_count(worker) == (state is TurnState.RUNNING)
