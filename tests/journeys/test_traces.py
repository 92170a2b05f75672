"""Traces go on from who dispatches to who works, over processes and attempts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from attrs import frozen
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from cgworker import AgentRef, KernelClient, Turn, TurnRef, Worker, WorkerOptions, inject_trace, instrument
from cgworker.events import LeaseEnded, TurnSettled
from cgworker.testing import LocalKernel
from cgworker.wire.meta import Meta
from cgworker.wire.turns import Dispatch, RootRequest
from tests.journeys.conftest import Witness, closed, in_state, working

OPTIONS = WorkerOptions(wait_seconds=5, renew_seconds=0.2)


@frozen
class Seen:
    """What a program sees of its workers."""

    provider: TracerProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    meters: MeterProvider

    @property
    def tracer(self) -> Tracer:
        return self.provider.get_tracer("my.program")

    def instrument(self, *workers: Worker) -> None:
        for worker in workers:
            instrument(worker, tracer_provider=self.provider, meter_provider=self.meters)

    def span(self, name: str) -> ReadableSpan:
        [span] = self.spans(name)
        return span

    def spans(self, name: str) -> list[ReadableSpan]:
        found = [span for span in self.exporter.get_finished_spans() if span.name == name]
        return sorted(found, key=lambda span: span.start_time or 0)

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


@pytest.fixture
def seen() -> Iterator[Seen]:
    exporter, reader, provider = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([reader])
    yield Seen(provider, exporter, reader, meters)
    meters.shutdown()
    provider.shutdown()


def asked(kernel: LocalKernel, agent_id: str, meta: Meta | None = None) -> Dispatch:
    def ref(name: str) -> AgentRef:
        return AgentRef(project_id=kernel.project_id, agent_id=name)

    return Dispatch(
        requested_by=ref("asker"),
        target_agent=ref(agent_id),
        input={},
        dispatch_key="k-1",
        authority=RootRequest(request_id="k-1"),
        meta=meta,
    )


async def annotations_of(kernel: KernelClient, turn: TurnRef) -> Any:
    feed = await kernel.turns.feed(turn)
    [born] = [e for e in feed.items if e.event_type == "turn.spawned" and e.subject_id == turn.turn_id]
    return born.annotations["caller"].get("annotations", {})


def hangs_under(child: ReadableSpan, parent: ReadableSpan) -> bool:
    assert parent.context is not None
    return child.parent is not None and (child.parent.trace_id, child.parent.span_id) == (
        parent.context.trace_id,
        parent.context.span_id,
    )


def links_to(later: ReadableSpan, first: ReadableSpan) -> bool:
    assert first.context is not None
    assert later.context is not None
    linked = [(link.context.trace_id, link.context.span_id) for link in later.links]
    is_own_trace = later.parent is None and later.context.trace_id != first.context.trace_id
    return is_own_trace and linked == [(first.context.trace_id, first.context.span_id)]


async def test_one_trace_goes_from_a_program_over_a_turn_to_its_child(
    kernel: LocalKernel, seen: Seen
) -> None:
    """And the parent's second run, once the child is closed, is a trace of its own, linked to the first."""
    async with (
        await kernel.agent("asker") as asker,
        await kernel.agent("desk") as desk,
        await kernel.agent("clerk") as clerk,
    ):
        witness = Witness()
        parent = Worker(desk, options=OPTIONS, listener=witness)
        child = Worker(clerk, options=OPTIONS)
        seen.instrument(parent, child)

        @parent.turn()
        async def delegate(turn: Turn) -> Any:
            with seen.tracer.start_as_current_span("my own step"):
                return (await turn.children({"it": turn.child("clerk", {})}))["it"].payload

        @child.turn()
        async def work(_: Turn) -> str:
            await witness.saw(TurnSettled)  # the parent is suspended, and begins again for the answer
            return "done"

        with seen.tracer.start_as_current_span("my program"):
            dispatch = inject_trace(asked(kernel, "desk", Meta(annotations={"mine": 1})))
            turn = await asker.turns.dispatch(dispatch)
        async with working(parent), working(child):
            assert (await closed(asker, turn)).final_payload == "done"
        assert (await annotations_of(desk, turn))["mine"] == 1

    first, second = seen.spans(f"process {desk.agent}")
    assert hangs_under(first, seen.span("my program"))
    assert hangs_under(seen.span(f"process {clerk.agent}"), seen.spans("my own step")[0])
    assert hangs_under(seen.spans("my own step")[0], first)
    assert links_to(second, first)


async def test_a_retry_is_a_trace_of_its_own_with_a_link_to_the_first(
    kernel: LocalKernel, seen: Seen
) -> None:
    """Also where nobody traced the dispatch; two attempts are not one story (BullMQ #2942)."""
    witness = Witness()
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS, listener=witness)
        seen.instrument(worker)

        @worker.turn()
        async def handle(turn: Turn) -> int:
            if turn.attempt == 1:
                await kernel.faults.steal_lease(turn.ref)
                await anyio.sleep_forever()
            return turn.attempt

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await witness.saw(LeaseEnded)
            assert (await closed(desk, turn)).final_payload == 2
    first, second = seen.spans(f"process {desk.agent}")
    assert first.parent is None
    assert links_to(second, first)


async def test_a_turn_handed_to_another_process_links_to_the_dispatch(
    kernel: LocalKernel, seen: Seen
) -> None:
    """Who did not see the first run knows from the ledger where it hangs."""
    async with await kernel.agent("asker") as asker, await kernel.agent("desk") as desk:
        before, after = Worker(desk), Worker(desk)
        for worker in (before, after):
            seen.instrument(worker)

        async def handle(_: Turn) -> None:
            begun.set()
            await anyio.sleep_forever()

        async def again(_: Turn) -> str:
            return "done"

        begun = anyio.Event()
        before.turn()(handle)
        after.turn()(again)
        with seen.tracer.start_as_current_span("my program"):
            turn = await asker.turns.dispatch(inject_trace(asked(kernel, "desk")))
        async with working(before):
            await begun.wait()
            before.drain(force=True)
        await in_state(asker, turn, "queued")
        await after.once()
        await closed(asker, turn)
    first, second = seen.spans(f"process {desk.agent}")
    assert hangs_under(first, seen.span("my program"))
    assert links_to(second, seen.span("my program"))


@pytest.mark.parametrize(
    "annotations",
    [
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
        {"traceparent": "x" * 100_000},
        {"traceparent": {"a": [1]}, "tracestate": 7},
    ],
)
async def test_a_turn_with_a_senseless_parent_is_worked_as_one_without(
    kernel: LocalKernel, seen: Seen, annotations: Any
) -> None:
    """Anybody may write annotations."""
    async with await kernel.agent("asker") as asker, await kernel.agent("desk") as desk:
        worker = Worker(desk)
        seen.instrument(worker)

        @worker.turn()
        async def handle(_: Turn) -> None: ...

        turn = await asker.turns.dispatch(asked(kernel, "desk", Meta(annotations=annotations)))
        await worker.once()
        assert (await closed(asker, turn)).outcome == "succeeded"
    assert seen.span(f"process {desk.agent}").parent is None


async def test_a_feed_that_cannot_be_read_costs_the_parent_and_nothing_else(
    kernel: LocalKernel, seen: Seen
) -> None:
    """Seeing never stands in the way of working."""
    async with await kernel.agent("asker") as asker, await kernel.agent("desk") as desk:
        worker = Worker(desk)
        seen.instrument(worker)

        @worker.turn()
        async def handle(_: Turn) -> str:
            return "done"

        with seen.tracer.start_as_current_span("my program"):
            turn = await asker.turns.dispatch(inject_trace(asked(kernel, "desk")))
        kernel.faults.answer("feed", 503, times=100)
        await worker.once()
        assert (await closed(asker, turn)).final_payload == "done"
    assert seen.span(f"process {desk.agent}").parent is None


async def test_metrics_tell_how_soon_a_turn_ran_and_what_waits_in_the_outbox(
    kernel: LocalKernel, seen: Seen
) -> None:
    """While the result cannot be delivered it waits on disk, and is seen there."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)
        seen.instrument(worker)
        waiting: list[int] = []

        @worker.turn()
        async def handle(_: Turn) -> str:
            return "done"

        turn = await kernel.dispatch("desk", {})
        kernel.faults.answer("finish", 503, times=3)
        async with working(worker):
            with anyio.fail_after(60):
                while not waiting or waiting[-1] != 1:
                    waiting += [point.value for point in seen.points("cgworker.outbox.waiting")]
                    await anyio.sleep(0.01)
            await closed(desk, turn)
    [to_run] = seen.points("cgworker.claim_to_run.duration")
    assert to_run.count == 1
    assert [point.value for point in seen.points("cgworker.outbox.waiting")] == [0]
