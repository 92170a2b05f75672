"""`play()`: run a handler on a turn without a kernel, with scripted children, answers and interruptions."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
from attrs import evolve

from cgworker.client import KernelClient
from cgworker.errors import QuestionDeclined, UsageError
from cgworker.events import Event, HandlerRaised, Listener
from cgworker.handlers import Handler
from cgworker.handlers.signature import HandlerFunction
from cgworker.lease import Reason
from cgworker.outcome import Outcome, Suspended, outcome_of, plain_outcome, word_for
from cgworker.stores import FolderStore
from cgworker.testing.played import Played, PlayedChild, PlayedQuestion, PlayedRecord
from cgworker.testing.scripted import ScriptedKernel
from cgworker.testing.scripted_turn import ScriptedTurn, payload_of
from cgworker.turn import Turn
from cgworker.wire.converter import unstructure_plain
from cgworker.wire.records import MESSAGE_ROLE
from cgworker.wire.refs import AgentRef
from cgworker.wire.turns import CONVERSATION_KIND
from cgworker.worker import TurnReport, Worker, WorkerOptions
from cgworker.worker.worker import Lifespan

_PLAYER = AgentRef(project_id="play", agent_id="player")


async def play(  # noqa: PLR0913  # each part of the script has a name
    handler: HandlerFunction | Handler | Worker | type[Worker],
    input: Any = None,
    *,
    kind: str = CONVERSATION_KIND,
    attempt: int = 1,
    records: Iterable[tuple[str, Any]] = (),
    children: Mapping[str, Any] | None = None,
    answers: Mapping[str, Any] | None = None,
    messages: Iterable[Any] = (),
    now: datetime | None = None,
    stop_after: float | None = None,
    lose_lease_after: float | None = None,
    resources: Mapping[str, Any] | None = None,
    lifespan: Lifespan | None = None,
    options: WorkerOptions | None = None,
) -> Played:
    """Run a handler on a turn in a real worker, but without a kernel. Works on asyncio and trio.

    A handler that waits for children or answers starts again once the script has them. If the script does
    not have them, the turn stays suspended, and `play` returns that.

    Args:
        handler: a function as under `@worker.turn()`, any handler, a worker, or a worker's class.
        input: the turn's input: any JSON value, or an object of a class with fields.
        kind: the turn kind.
        attempt: the number of this attempt.
        records: roles and payloads of records that exist already, such as `("step", {...})`.
        children: results by the child's name: a payload, an outcome such as `fail({...})`, or a function
            from the child's input to either.
        answers: answers by the question's key; a `QuestionDeclined` declines the question.
        messages: messages to the turn, in order; any JSON values. A handler that waits for one more gets a
            UsageError, unless `stop_after` or `lose_lease_after` interrupts it.
        now: what the kernel's clock shows at first, with a time zone; None is the real time. Sleeps, the time
            limits of questions, and retries by a policy move it, and take no time.
        stop_after: request a stop this many seconds after the handler started; None means never.
        lose_lease_after: lose the lease this many seconds after the handler started; None means never.
        resources: the resources by name; a worker's own lifespan is then not entered.
        lifespan: as for `Worker`.
        options: as for `Worker`; None keeps a worker's own. The outbox is always a temporary one, and
            so is the private store if none is given.

    Raises:
        UsageError: the caller's fault: this is no handler, or it asks for a resource that is missing.
    """
    born_at = now or datetime.now(UTC)
    turn = ScriptedTurn(
        turn_id="T-1",
        agent=_PLAYER,
        kind=kind,
        spawn_key="play",
        created_at=born_at,
        clock=lambda: born_at,  # until the kernel's is there
    )
    turn.add_record(unstructure_plain(input), "bootstrap")
    for role, payload in records:
        turn.add_record(unstructure_plain(payload), role)
    for message in messages:
        payload = {"from": "teller", "message": unstructure_plain(message), "key": None}
        turn.add_record(payload, MESSAGE_ROLE)
    is_interrupted = stop_after is not None or lose_lease_after is not None
    kernel = ScriptedKernel(turn, attempt=attempt, is_interrupted_later=is_interrupted, now=now)
    script = Script(kernel, children or {}, answers or {})
    if resources is not None:
        lifespan = _giving(resources)
    return await play_script(
        handler,
        script,
        stop_after=stop_after,
        lose_lease_after=lose_lease_after,
        lifespan=lifespan,
        options=options,
    )


async def play_script(
    handler: HandlerFunction | Handler | Worker | type[Worker],
    script: Script,
    *,
    stop_after: float | None = None,
    lose_lease_after: float | None = None,
    lifespan: Lifespan | None = None,
    options: WorkerOptions | None = None,
) -> Played:
    """Run a handler as `play()` does, on the turn that a script holds.

    Args:
        handler: a function as under `@worker.turn()`, any handler, a worker, or a worker's class.
        script: the kernel with the turn, and the results of children and questions.
        stop_after: request a stop this many seconds after the handler started; None means never.
        lose_lease_after: lose the lease this many seconds after the handler started; None means never.
        lifespan: as for `Worker`.
        options: as for `Worker`; None keeps a worker's own. The outbox is always a temporary one.
    """
    async with script.kernel.client() as client, _scratch() as outbox:
        worker = _worker_of(handler, client, script.note, lifespan, options)
        store = worker.options.private_store or FolderStore(outbox / "private")
        worker.options = evolve(worker.options, outbox_path=outbox, private_store=store)
        async with _timers() as timers:
            worker.middleware(_Interrupter(script, timers, stop_after, lose_lease_after))
            report = await script.play_to_the_end(worker)
    return script.played(report)


@asynccontextmanager
async def _scratch() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cg-play-") as folder:
        yield Path(folder)


@asynccontextmanager
async def _timers() -> AsyncIterator[anyio.abc.TaskGroup]:
    """Run tasks until the block ends; raise the block's exception as it is."""
    try:
        async with anyio.create_task_group() as timers:
            yield timers
            timers.cancel_scope.cancel()
    except BaseExceptionGroup as group:  # our tasks do not raise: the group has only the block's exception
        raise group.exceptions[0] from None


def _worker_of(
    handler: Any,
    client: KernelClient,
    listener: Listener,
    lifespan: Lifespan | None,
    options: WorkerOptions | None,
) -> Worker:
    if isinstance(handler, Worker):
        return handler.with_kernel(client, options=options, listener=listener, lifespan=lifespan)
    is_class = isinstance(handler, type) and issubclass(handler, Worker)
    make = handler if is_class else partial(Worker, handler=handler)
    worker: Worker = make(client, options=options or WorkerOptions(), listener=listener, lifespan=lifespan)
    return worker


def _giving(resources: Mapping[str, Any]) -> Lifespan:
    @asynccontextmanager
    async def lifespan(_: Worker) -> AsyncIterator[Mapping[str, Any]]:
        yield resources

    return lifespan


class _Interrupter:
    """Middleware that interrupts the handler a number of seconds after it started."""

    def __init__(
        self,
        script: Script,
        timers: anyio.abc.TaskGroup,
        stop_after: float | None,
        lose_lease_after: float | None,
    ) -> None:
        self._script = script
        self._timers = timers
        self._seconds = {Reason.STOP: stop_after, Reason.LEASE_LOST: lose_lease_after}

    async def __call__(self, turn: Turn, call_next: Handler) -> Outcome:
        self._script.entered_count += 1
        for reason, seconds in self._seconds.items():
            if seconds is not None:
                self._timers.start_soon(self._interrupt, turn, reason, seconds)
        return await call_next(turn)

    async def _interrupt(self, turn: Turn, reason: Reason, seconds: float) -> None:
        await anyio.sleep(seconds)
        if reason is Reason.LEASE_LOST:
            self._script.kernel.lose_claim()
        turn.interrupt(reason, "play()", grace_seconds=WorkerOptions().interrupt_seconds)


class Script:
    """The script of a turn, and what the handler did with it.

    Args:
        kernel: the kernel that has the turn.
        children: results by the child's name, as for `play`.
        answers: answers by the question's key.
    """

    def __init__(
        self, kernel: ScriptedKernel, children: Mapping[str, Any], answers: Mapping[str, Any]
    ) -> None:
        self.kernel = kernel
        self.entered_count = 0
        self._children = children
        self._answers = dict(answers)
        self._given_count = len(kernel.turn.records)
        self._error: BaseException | None = None

    def note(self, event: Event) -> None:
        """Keep the exception that the handler raised.

        Args:
            event: an event of the worker.
        """
        if isinstance(event, HandlerRaised):
            self._error = event.error

    async def play_to_the_end(self, worker: Worker) -> TurnReport:
        """Run the worker until nothing in the script makes the turn continue.

        Args:
            worker: the worker.

        Returns:
            The worker's report of the last attempt.
        """
        while True:
            report = await worker.once()
            assert report is not None  # the turn is queued, and there is no other worker
            if not (isinstance(report.outcome, Suspended) and self._goes_on()):
                return report

    def _goes_on(self) -> bool:
        waiting = self.kernel.suspended_with
        if "await_children" in waiting and self._end_children(waiting["await_children"]):
            return True
        if (asked := waiting.get("await_answer")) and self._answer(asked.get("keys", [asked["key"]])):
            return True
        return self._wake()

    def _wake(self) -> bool:
        """Let the time of a sleep, a time limit or a retry by policy pass, but not that of a `retry()`."""
        seconds, waiting = self.kernel.suspended_for, self.kernel.suspended_with
        if seconds is None or not waiting.keys() & {"await_time", "await_answer", "await_children", "retry"}:
            return False
        self.kernel.advance(seconds)
        self.kernel.resume()
        return True

    def _end_children(self, waiting: Mapping[str, Any]) -> bool:
        by_id = {child.turn_id: child for child in self.kernel.children.values()}
        by_name = {name: by_id[turn_id] for turn_id, name in self._names.items()}
        for name in filter(by_name.__contains__, self._children):  # children end in the script's order
            if by_name[name].outcome is None:
                self.kernel.end_child(by_name[name], *self._result_of(name, by_name[name].input))
        closed_count = sum(by_id[turn_id].outcome is not None for turn_id in waiting["turns"])
        if closed_count < (waiting["first"] or len(waiting["turns"])):
            return False
        self.kernel.resume()
        return True

    def _result_of(self, name: str, input: Any) -> tuple[str, Any]:
        scripted = self._children[name]
        outcome = plain_outcome(outcome_of(scripted(input) if callable(scripted) else scripted))
        if isinstance(outcome, Suspended):
            raise UsageError(f"the child {name!r} is scripted to be suspended, and nothing resumes it")
        return word_for(outcome), outcome.payload

    def _answer(self, waiting_keys: Sequence[str]) -> bool:
        """Answer one question, as people do, in the order in which they were asked."""
        key = next(filter(self._answers.__contains__, waiting_keys), None)
        if key is None:
            return False
        given = self._answers.pop(key)
        if isinstance(given, QuestionDeclined):
            self.kernel.resume(answer={"key": key, "declined": {"reason": given.reason}})
        else:
            self.kernel.resume(answer={"key": key, "value": unstructure_plain(given)})
        return True

    @property
    def _names(self) -> dict[str, str]:
        """Return the handler's names for its children by turn id, from its records or else their keys."""
        children = self.kernel.children
        names = {child.turn_id: key.partition(":")[2] for key, child in children.items()}
        for record in self._records("children"):
            names |= {facts["turn_id"]: name for name, facts in record.payload["turns"].items()}
        return names

    def _records(self, role: str | None = None) -> list[PlayedRecord]:
        appended = self.kernel.turn.records[self._given_count :]
        records = [PlayedRecord(each["record"]["record_role"], payload_of(each)) for each in appended]
        return [record for record in records if role in (None, record.role)]

    def played(self, report: TurnReport) -> Played:
        """Return what the handler did.

        Args:
            report: the worker's report of the last attempt.
        """
        names = self._names
        return Played(
            report=report,
            records=tuple(self._records()),
            children=tuple(
                PlayedChild(names[child.turn_id], child.agent.agent_id, child.input, child.kind)
                for child in self.kernel.children.values()
            ),
            questions=tuple(PlayedQuestion(**record.payload) for record in self._records("question")),
            entered_count=self.entered_count,
            error=self._error,
        )
