"""A project to look at: agents with offers, turns in every state, a question, children, a schedule."""

from __future__ import annotations

from typing import Any, Literal

import anyio
from attrs import frozen

from cgworker import KernelClient, Turn, Worker
from cgworker.testing import LocalKernel
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.schedules import PutSchedule
from cgworker.wire.turns import Dispatch, RootRequest
from cgworker.worker.offers import publish_offers
from tests.journeys.conftest import in_state

REPORT, APPROVAL, WRITING, TEAM = "turn.report.v1", "turn.approval.v1", "turn.writing.v1", "turn.team.v1"
GRANTS = ("turn.resume.any", "turn.stop.any", "turn.tell.any")


@frozen(kw_only=True)
class Place:
    """Where something is."""

    city: str
    zip: str | None = None


@frozen(kw_only=True)
class ReportOrder:
    """What a report is about."""

    subject: str
    pages: int
    tone: Literal["plain", "formal", "funny"] = "plain"
    places: tuple[Place, ...] = ()
    draft: bool = False


@frozen(kw_only=True)
class Draft:
    """A report that may go out."""

    subject: str


@frozen(kw_only=True)
class Approval:
    """What a person says to a report."""

    approved: bool
    stars: int
    size: Literal["small", "large"]
    tags: tuple[str, ...]
    place: Place
    note: str | None = None


class Sample:
    """The sample project.

    Args:
        kernel: the kernel, with a project of its own.
    """

    def __init__(self, kernel: LocalKernel) -> None:
        self.kernel = kernel
        self.person: KernelClient
        self.turns: dict[str, str] = {}
        self.go_on = anyio.Event()

    async def make(self) -> None:
        """Make the agents."""
        kinds = (REPORT, APPROVAL, WRITING, TEAM)
        self.person = await self.kernel.agent("operator", grants=GRANTS)
        self.worker = Worker(await self.kernel.agent("writer", capacity=4, kinds=kinds))
        self.worker.turn(REPORT)(self._report)
        self.worker.turn(APPROVAL)(self._approve)
        self.worker.turn(WRITING)(self._write)
        self.worker.turn(TEAM)(self._team)
        await publish_offers(self.worker)

    async def dispatch(self, kind: str, input: Any, name: str = "", agent: str = "writer") -> str:
        """Dispatch a turn, as the person, and return its id."""
        key = f"{kind}-{len(self.turns)}-{name}"
        ref = await self.person.turns.dispatch(
            Dispatch(
                requested_by=_agent(self.person),
                target_agent=_agent(await self.kernel.agent(agent)),
                input=input,
                turn_kind=kind,
                dispatch_key=key,
                authority=RootRequest(request_id=key),
            )
        )
        self.turns[name or key] = ref.turn_id
        return ref.turn_id

    async def fill(self) -> None:
        """Dispatch turns that come into every state."""
        places = [{"city": "Oslo"}, {"city": "Bergen"}]
        await self.dispatch(REPORT, {"subject": "Fjords", "pages": 3, "places": places}, "report")
        await self.dispatch(REPORT, {"subject": "Trolls", "pages": 1, "tone": "funny"}, "failed")
        await self.dispatch(APPROVAL, {"subject": "Fjords"}, "ask")
        await self.dispatch(TEAM, {"cities": ["Oslo", "Bergen", "Bodø"]}, "team")
        await self.dispatch(WRITING, {"subject": "a queue"}, "writing")
        await self.kernel.agent("night-shift", kinds=(REPORT,))
        await self.person.schedules.put("nightly-report", _nightly(self.person))
        await self.dispatch(REPORT, {"subject": "Stars", "pages": 9}, "waiting", agent="night-shift")

    async def settled(self) -> None:
        """Wait until only the turns that wait for a person are open."""
        for name in ("report", "failed", "team"):
            await self.kernel.closed(TurnRef(project_id=self.kernel.project_id, turn_id=self.turns[name]))
        asking = TurnRef(project_id=self.kernel.project_id, turn_id=self.turns["ask"])
        await in_state(self.person, asking, "suspended")

    async def _report(self, turn: Turn, order: ReportOrder) -> dict[str, Any]:
        """Write a report with one section for each place."""
        sections = [await turn.once(f"section-{each.city}", lambda: _section(order)) for each in order.places]
        if order.tone == "funny":
            raise ValueError("reports are never funny")
        return {"title": order.subject, "sections": sections}

    async def _approve(self, turn: Turn, draft: Draft) -> dict[str, Any]:
        """Ask a person whether a report may go out."""
        answer = await turn.ask(Approval, f"May “{draft.subject}” go out?", key="approval")
        return {"approved": answer.approved, "stars": answer.stars}

    async def _write(self, turn: Turn, order: dict[str, str]) -> dict[str, str]:
        """Write a text word by word, until it is told to go on."""
        async with turn.stream() as stream:
            for word in f"Once upon a time {order['subject']} met a worker".split():
                await stream.write(f"{word} ")
                await stream.flush()
            await self.go_on.wait()
            await stream.write("and they never repeated any work.")
        return {"text": "done"}

    async def _team(self, turn: Turn, order: dict[str, Any]) -> dict[str, Any]:
        """Give a report to each place, and put them together."""
        children = {
            city: turn.child("writer", {"subject": city, "pages": 1}, kind=REPORT) for city in order["cities"]
        }
        return {"done": sorted(await turn.children(children))}


def _agent(kernel: KernelClient) -> Any:
    assert kernel.agent is not None
    return kernel.agent


async def _section(order: ReportOrder) -> str:
    return f"{order.pages} pages"


def _nightly(kernel: KernelClient) -> PutSchedule:
    agent = _agent(kernel)
    target = AgentRef(project_id=agent.project_id, agent_id="writer")
    return PutSchedule(
        requested_by=agent,
        cron="30 2 * * *",
        timezone="Europe/Oslo",
        target_agent=target,
        turn_kind=REPORT,
        input={"subject": "The night", "pages": 1},
    )
