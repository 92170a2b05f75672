"""The order of claims against a model of it (difference 29)."""

from __future__ import annotations

from typing import Any

from attrs import define
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernel.project import Agent, Project, end_lease


@define
class Modelled:
    """A turn in the model; `fair` is its number in the fair order, 0 after a claim."""

    number: int
    priority: int = 0
    serial: str | None = None
    fairness: str = ""
    state: str = "queued"
    is_delayed: bool = False
    waits: bool = False
    fair: int = 0

    @property
    def is_ready(self) -> bool:
        return self.state == "queued" and not self.is_delayed and not self.waits


class Model:
    """What an agent's next claim gets, in thirty lines."""

    def __init__(self) -> None:
        self.turns: list[Modelled] = []

    def of_key(self, turn: Modelled, state: str) -> list[Modelled]:
        same = [other for other in self.turns if turn.serial and other.serial == turn.serial]
        return [other for other in same if other.state == state and not other.is_delayed]

    def make_ready(self, turn: Modelled) -> None:
        """Let it wait for an earlier queued turn of its key, or give it its place."""
        turn.waits = True
        if all(other.number >= turn.number for other in self.of_key(turn, "queued")):
            turn.fair, turn.waits = self.place(turn), False

    def place(self, turn: Modelled) -> int:
        level = [t for t in self.turns if t.is_ready and t.priority == turn.priority]
        flow = [t for t in level if t.fairness == turn.fairness]
        if later := [t.fair for t in flow if t.number > turn.number]:
            return later[0]
        free = [t.fair for t in level if t.fair > 0 and not self.of_key(t, "running")]
        last = [t.fair + 1 for t in flow][-1:]
        return max([1, *last, *([min(free)] if free else [])])

    def free_key(self, turn: Modelled) -> None:
        for follower in self.of_key(turn, "queued")[:1]:
            follower.fair, follower.waits = self.place(follower), False

    def next(self) -> Modelled | None:
        free = [t for t in self.turns if t.is_ready and not self.of_key(t, "running")]
        first = [t for t in free if not t.serial or self.of_key(t, "queued")[0] is t]
        return min(first, key=lambda t: (-t.priority, t.fair, t.number), default=None)


ORDERS = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.sampled_from([-1, 0, 1]),
        "serial_key": st.sampled_from(["s1", "s2"]),
        "fairness_key": st.sampled_from(["f1", "f2"]),
        "delay_seconds": st.just(3600),
    },
)
MOVES = st.sampled_from(
    ["claim", "claim", "finish", "suspend", "resume", "end lease", "stop", "advance", "tell"]
)


class World:
    """One project with its model: each move is made in both."""

    def __init__(self, project: Project, requester: Agent, worker: Agent) -> None:
        self.project = project
        self.requester = requester
        self.worker = worker
        self.model = Model()
        self.claims: list[Any] = []

    def modelled(self, turn_id: str) -> Modelled:
        return self.model.turns[int(turn_id.removeprefix("T-")) - 1]

    async def dispatch(self, order: dict[str, Any]) -> None:
        await self.requester.dispatch(self.worker, **order)
        turn = Modelled(
            len(self.model.turns) + 1,
            order.get("priority", 0),
            order.get("serial_key"),
            order.get("fairness_key", ""),
            is_delayed="delay_seconds" in order,
        )
        if not turn.is_delayed:
            self.model.make_ready(turn)
        self.model.turns.append(turn)

    async def claim(self) -> None:
        expected = self.model.next()
        claim = await self.worker.claim()
        assert (claim and claim["turn_id"]) == (expected and f"T-{expected.number}")
        if expected is not None:
            expected.state, expected.fair = "running", 0
            self.claims.append(claim)

    async def finish(self) -> None:
        await self._settle("closed", await self.worker.finish(self.claims[0]))

    async def suspend(self) -> None:
        await self._settle("suspended", await self.worker.suspend(self.claims[0]))

    async def _settle(self, state: str, answer: Any) -> None:
        assert answer.status_code == 200
        turn = self.modelled(self.claims.pop(0)["turn_id"])
        turn.state = state
        self.model.free_key(turn)

    async def resume(self) -> None:
        for turn in [turn for turn in self.model.turns if turn.state == "suspended"][:1]:
            assert (await self.worker.resume(f"T-{turn.number}")).status_code == 200
            turn.state = "queued"

    async def end_lease(self) -> None:
        turn = self.modelled(self.claims.pop(0)["turn_id"])
        await end_lease(self.project, f"T-{turn.number}")
        await self.worker.post("claims:reconcile-expired", {})
        turn.state = "queued"

    async def stop(self) -> None:
        turn = self.modelled(self.claims[0]["turn_id"])
        await end_lease(self.project, f"T-{turn.number}")
        await self._settle("closed", await self.worker.stop(f"T-{turn.number}"))

    async def advance(self) -> None:
        await self.project.kernel.database.execute(
            "update cg_turns set due_at = clock_timestamp() where project_id = $1 and due_at is not null",
            self.project.id,
        )
        await self.project.kernel.timers.do_what_is_due()
        for turn in [turn for turn in self.model.turns if turn.is_delayed]:
            turn.is_delayed = False
            self.model.make_ready(turn)

    async def tell(self) -> None:
        for turn in [turn for turn in self.model.turns if turn.state != "closed"][:1]:
            assert (await self.requester.tell(f"T-{turn.number}", "hello")).status_code == 200


@given(moves=st.lists(ORDERS | MOVES, min_size=1, max_size=40))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_every_claim_gets_the_turn_that_the_model_says(
    project: Project, moves: list[dict[str, Any] | str]
) -> None:
    """Whatever is dispatched, claimed, finished, suspended, resumed, stopped, told, or becomes due."""
    own = Project(project.kernel, project.client)
    requester, worker = await own.agent("requester"), await own.agent("worker", capacity=50)
    world = World(own, requester, worker)
    for move in moves:
        if isinstance(move, dict):
            await world.dispatch(move)
        elif move in ("claim", "resume", "advance", "tell") or world.claims:
            await getattr(world, move.replace(" ", "_"))()
    await world.advance()
    while world.model.next() is not None:
        await world.claim()
        await world.finish()
    assert await worker.claim() is None
