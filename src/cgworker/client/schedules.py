"""Calls about schedules (difference 31)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cgworker.client.lacking import requiring
from cgworker.client.paths import project_path, segment
from cgworker.wire.converter import structure_answer
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.schedules import ChangeSchedule, PutSchedule, Schedule, SchedulePage, TriggerSchedule

if TYPE_CHECKING:
    from cgworker.client.kernel import KernelClient


class ScheduleCalls:
    """Calls about schedules, as `kernel.schedules`; see `KernelClient` for what else they raise.

    Each raises KernelLacks at a kernel without schedules, such as the reference's. The schedule of another
    agent can be changed with the grant `turn.dispatch.any` alone (FencingError).
    """

    __slots__ = ("_kernel",)

    def __init__(self, kernel: KernelClient) -> None:
        self._kernel = kernel

    async def put(self, schedule_id: str, schedule: PutSchedule) -> Schedule:
        """Create or change a schedule. Its next instant stays unless `cron` or `timezone` change.

        Args:
            schedule_id: the schedule's name in the project of `schedule.requested_by`: 1 to 80 letters,
                digits, `.`, `_` and `-`.
            schedule: the instants, and the turn to dispatch.

        Raises:
            InvalidRequest: a field cannot be used, such as the cron expression.
            NotFoundError: there is no such target agent.
            ConflictError: the target does not take turns of the kind.
        """
        path = _path(schedule.requested_by.project_id, schedule_id)
        return structure_answer(Schedule, await self._send("PUT", path, schedule))

    async def get(self, project_id: str, schedule_id: str) -> Schedule:
        """Return the current state of a schedule.

        Args:
            project_id: the project.
            schedule_id: the schedule's name.

        Raises:
            NotFoundError: there is no such schedule.
        """
        return structure_answer(Schedule, await self._send("GET", _path(project_id, schedule_id)))

    async def all(self, project_id: str) -> AsyncGenerator[Schedule, None]:
        """Yield all schedules of a project, ordered by id, page by page.

        Args:
            project_id: the project.
        """
        after: str | None = ""
        while after is not None:
            with self._requiring():
                answer = await self._kernel.send(
                    "GET", project_path(project_id, "/management/schedules"), query={"after": after}
                )
            page = structure_answer(SchedulePage, answer.body)
            for schedule in page.items:
                yield schedule
            after = page.next_after

    async def pause(self, schedule_id: str, *, requested_by: AgentRef) -> Schedule:
        """Pause a schedule: it dispatches nothing until it is unpaused.

        Args:
            schedule_id: the schedule, of the project of `requested_by`.
            requested_by: the calling agent.

        Raises:
            NotFoundError: there is no such schedule.
        """
        return await self._change(schedule_id, "pause", requested_by)

    async def unpause(self, schedule_id: str, *, requested_by: AgentRef) -> Schedule:
        """Unpause a schedule. The instants that it missed meanwhile are not made up for.

        Args:
            schedule_id: the schedule, of the project of `requested_by`.
            requested_by: the calling agent.

        Raises:
            NotFoundError: there is no such schedule.
        """
        return await self._change(schedule_id, "unpause", requested_by)

    async def trigger(self, schedule_id: str, *, requested_by: AgentRef, key: str | None = None) -> TurnRef:
        """Dispatch a schedule's turn now, even while it is paused.

        Args:
            schedule_id: the schedule, of the project of `requested_by`.
            requested_by: the calling agent.
            key: identifies this dispatch, so that repeating it returns the same turn; by default each call
                dispatches a new one.

        Returns:
            The reference of the turn.

        Raises:
            NotFoundError: there is no such schedule.
            ConflictError: the schedule's agent is disabled, or the target no longer takes turns of the
                kind.
        """
        body = TriggerSchedule(requested_by=requested_by, key=key)
        path = _path(requested_by.project_id, schedule_id, ":trigger")
        return structure_answer(TurnRef, await self._send("POST", path, body))

    async def delete(self, project_id: str, schedule_id: str) -> None:
        """Delete a schedule; the turns that it has dispatched stay.

        Args:
            project_id: the project.
            schedule_id: the schedule's name.

        Raises:
            NotFoundError: there is no such schedule.
        """
        await self._send("DELETE", _path(project_id, schedule_id))

    async def _change(self, schedule_id: str, verb: str, requested_by: AgentRef) -> Schedule:
        path = _path(requested_by.project_id, schedule_id, f":{verb}")
        return structure_answer(
            Schedule, await self._send("POST", path, ChangeSchedule(requested_by=requested_by))
        )

    async def _send(self, method: str, path: str, body: Any = None) -> Any:
        with self._requiring():
            return (await self._kernel.send(method, path, body=body)).body

    @contextmanager
    def _requiring(self) -> Iterator[None]:
        with requiring("schedules", self._kernel.base_url):
            yield


def _path(project_id: str, schedule_id: str, verb: str = "") -> str:
    return project_path(project_id, f"/management/schedules/{segment(schedule_id)}{verb}")
