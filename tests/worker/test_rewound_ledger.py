"""A kernel that has lost its last events gives their numbers again: a failover, or an older backup."""

from __future__ import annotations

from http import HTTPStatus

import anyio
import httpx
import pytest

from cgworker.client import KernelClient
from cgworker.outcome import AWAIT_CHILDREN_REASON
from cgworker.wire.refs import TurnRef
from cgworker.worker.resuming import child_waits
from cgworker.worker.resuming.child_waits import ChildWaitWatcher
from tests.worker.test_short_pages import CHILD, PARENT, event

_KEPT = [
    event(1, "turn.spawned", CHILD),
    event(2, "turn.suspended", PARENT.turn_id, caller={"reason": AWAIT_CHILDREN_REASON}),
]
_LOST = [*_KEPT, event(3, "turn.told", PARENT.turn_id), event(4, "turn.told", PARENT.turn_id)]
_GIVEN_AGAIN = [*_KEPT, event(3, "turn.finished", CHILD)]


@pytest.mark.parametrize("status", [HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.OK])
async def test_a_waiting_parent_hears_of_a_child_whose_end_has_the_number_of_a_lost_event(
    status: HTTPStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read further than the feed goes now; the kernel was away, or says that nothing is new."""
    if status == HTTPStatus.OK:
        monkeypatch.setattr(child_waits, "_SURE_SECONDS", 0.2)
    feed, is_resumed = _LOST, anyio.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal feed
        after = int(request.url.params["after_ledger_seq"])
        found = [one for one in feed if one["ledger_seq"] > after]
        if not found:
            feed = _GIVEN_AGAIN
        page = {"items": found, "next_after_ledger_seq": found[-1]["ledger_seq"] if found else after}
        return httpx.Response(HTTPStatus.OK if found else status, json=page)

    async def resume(turn: TurnRef) -> None:
        assert turn == PARENT
        is_resumed.set()

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http,
        anyio.create_task_group() as tasks,
    ):
        watcher = ChildWaitWatcher(KernelClient("http://kernel", http=http), "p", 0.05, resume)
        with watcher.watched_in(tasks), anyio.fail_after(60):
            watcher.add(PARENT)
            await is_resumed.wait()
        tasks.cancel_scope.cancel()
