"""The lease: counted safely, kept through noise, and lost in time. Time jumps in these tests."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from attrs import define, field

from cgworker.errors import CommonGroundError, FencingError, KernelOverloaded, KernelUnreachable, LeaseLost
from cgworker.lease import Lease, call_until_lease_ends
from cgworker.renewal import RenewalHooks, RenewalResult, RenewalScheduler, keep_renewed
from cgworker.testing import virtual_time
from cgworker.wire.refs import ClaimToken

LENGTH = 30.0
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return virtual_time(request.param)


def claim() -> ClaimToken:
    return ClaimToken(project_id="p", turn_id="T-1", agent_id="a", token="secret", expires_at=EPOCH)


def lease(length: float | None = LENGTH) -> Lease:
    return Lease(claim(), anyio.current_time(), length, clock=anyio.current_time)


@define
class Kernel:
    """The far side of the renewals: when they came, and what each is answered."""

    answers: list[CommonGroundError] = field(factory=list)
    renewed_at: list[float] = field(factory=list)
    lost: list[tuple[float, str]] = field(factory=list)
    stopped: int = 0
    stop_requested: bool = False
    delay: float = 0.0

    async def renew(self, _: ClaimToken) -> RenewalResult:
        now = anyio.current_time()
        self.renewed_at.append(now)
        await anyio.sleep(self.delay)
        if self.answers:
            raise self.answers.pop(0)
        server_time = EPOCH + timedelta(seconds=now)
        return RenewalResult(server_time, server_time + timedelta(seconds=LENGTH), self.stop_requested)

    def keeper(self, **options: Any) -> RenewalHooks:
        return RenewalHooks(
            renew=self.renew,
            lost=lambda reason: self.lost.append((anyio.current_time(), reason)),
            stop=self._note_stop,
            **options,
        )

    def _note_stop(self) -> None:
        self.stopped += 1


async def test_an_hour_of_work_is_renewed_at_every_third_of_the_lease() -> None:
    """A handler may take as long as it likes; nothing but renewals is needed for that."""
    kernel = Kernel()
    began_at = anyio.current_time()
    async with keep_renewed(lease(), kernel.keeper()):
        await anyio.sleep(3599)
    assert [round(at - began_at, 3) for at in kernel.renewed_at] == [10.0 * n for n in range(1, 360)]
    assert kernel.lost == []


async def test_no_pause_that_a_kernel_asks_for_costs_a_lease() -> None:
    """It says when it expects to be well; whoever comes back sooner than the lease ends may find it well."""
    kernel = Kernel(answers=[KernelOverloaded("busy", retry_after_seconds=600)])
    async with keep_renewed(lease(), kernel.keeper()):
        await anyio.sleep(100)
    assert kernel.lost == []


async def test_looking_around_after_a_renewal_undoes_none() -> None:
    """The kernel has renewed it by then; the look is given up when it takes too long."""
    kernel = Kernel()
    looks: list[float] = []

    async def check_further() -> None:
        looks.append(anyio.current_time())
        await anyio.sleep(3600)

    async with keep_renewed(lease(), kernel.keeper(check_further=check_further)):
        await anyio.sleep(100)
    assert kernel.lost == []
    assert len(looks) >= 5


async def test_after_a_suspend_that_leaves_some_of_it_the_lease_is_renewed_at_once() -> None:
    """The clock that sleeps are measured by stood still meanwhile, the lease did not."""
    kernel, jumped = Kernel(), 0.0
    held = Lease(claim(), anyio.current_time(), LENGTH, clock=lambda: anyio.current_time() + jumped)
    async with anyio.create_task_group() as tasks:
        renewals = RenewalScheduler(tasks)
        with renewals.keeping(held, kernel.keeper()):
            for renewed_count in (1, 2):
                await anyio.sleep(1)
                jumped += 22
                renewals.recheck()
                await anyio.sleep(0.1)
                assert len(kernel.renewed_at) == renewed_count
        tasks.cancel_scope.cancel()
    assert kernel.lost == []


async def test_renewals_in_step_fall_on_few_instants_and_are_never_late() -> None:
    """A hundred leases, got at a hundred instants: their renewals can go in a few requests."""
    kernel = Kernel()
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(_held, lease(LENGTH + random.random() / 1000), kernel.keeper(in_step=True), 100)
            await anyio.sleep(0.1)
    instants = {round(at, 3) for at in kernel.renewed_at}
    assert len(kernel.renewed_at) < 100 * (100 / 10 + 1)
    assert len(instants) <= 100 / 2 + 10
    assert kernel.lost == []


async def _held(held: Lease, keeper: RenewalHooks, seconds: float) -> None:
    async with keep_renewed(held, keeper):
        await anyio.sleep(seconds)


@pytest.mark.parametrize("interval", [0.1, 1.0, 10.0, 3600.0])
def test_a_renewal_in_step_comes_up_to_a_quarter_sooner(interval: float) -> None:
    """And never later."""
    for _ in range(100):
        held = Lease(claim(), random.random() * 1e6, 3 * interval)
        for many in (1, 10_000):
            sooner = held.renew_at(1 / 3) - held.renew_at(1 / 3, in_step=many)
            assert -1e-6 <= sooner <= interval / 4


def test_of_thousands_no_more_are_in_step_than_one_request_takes() -> None:
    """Else they would hold up the event loop, all in one moment."""
    held = [Lease(claim(), random.random() * LENGTH / 3, LENGTH) for _ in range(10_000)]
    instants = Counter(round(lease.renew_at(1 / 3, in_step=len(held)), 3) for lease in held)
    assert max(instants.values()) <= 200


@pytest.mark.parametrize("in_step", [False, True])
@pytest.mark.parametrize("length", [0.0, -1.0])
async def test_a_lease_that_is_over_when_it_is_given_is_lost(length: float, in_step: bool) -> None:
    """Whatever clocks a kernel has: nothing breaks, and nobody works on."""
    kernel = Kernel()
    async with keep_renewed(lease(length), kernel.keeper(in_step=in_step)):
        await anyio.sleep(1)
    assert [at for at, _ in kernel.lost] == [anyio.current_time() - 1]
    assert kernel.renewed_at == []


async def test_renewal_ends_with_the_block() -> None:
    """Nothing renews a claim that is settled."""
    kernel = Kernel()
    async with keep_renewed(lease(), kernel.keeper()):
        await anyio.sleep(15)
    await anyio.sleep(100)
    assert len(kernel.renewed_at) == 1


async def test_a_lease_has_no_task_before_it_is_due() -> None:
    """Most turns end before their first renewal: what they never need, they do not pay for."""
    kernel = Kernel()
    async with anyio.create_task_group() as tasks:
        renewals = RenewalScheduler(tasks)
        for _ in range(100):
            with renewals.keeping(lease(), kernel.keeper()):
                await anyio.sleep(0.05)
                assert _task_count() <= 1
        with renewals.keeping(lease(), kernel.keeper()), renewals.keeping(lease(), kernel.keeper()):
            await anyio.sleep(10.1)
            assert len(kernel.renewed_at) == 2
        await anyio.sleep(LENGTH)
        assert _task_count() == 0
    assert kernel.lost == []


async def test_a_lease_that_is_due_sooner_than_all_others_is_not_kept_waiting() -> None:
    """Whoever waits for the next renewal is told of a sooner one."""
    kernel, hasty = Kernel(), Kernel()
    async with anyio.create_task_group() as tasks:
        renewals = RenewalScheduler(tasks)
        with renewals.keeping(lease(), kernel.keeper()):
            await anyio.sleep(1)
            with renewals.keeping(lease(3), hasty.keeper(max_seconds=0.5)):
                await anyio.sleep(0.6)
        tasks.cancel_scope.cancel()
    assert len(hasty.renewed_at) == 1
    assert kernel.renewed_at == []
    assert hasty.lost == []


async def test_a_lease_that_falls_due_between_two_looks_at_the_clock_is_renewed() -> None:
    """As with thousands of them, where the looks themselves take their time."""
    kernel, reads = Kernel(), itertools.count()
    jumpy = Lease(
        claim(), anyio.current_time(), LENGTH, clock=lambda: anyio.current_time() + 11 * (next(reads) > 0)
    )
    async with anyio.create_task_group() as tasks:
        with RenewalScheduler(tasks).keeping(jumpy, kernel.keeper()):
            await anyio.sleep(0.1)
        tasks.cancel_scope.cancel()
    assert len(kernel.renewed_at) == 1


async def test_a_fault_of_ours_in_a_renewal_loses_that_lease_and_no_other() -> None:
    """They share a task group, and nothing else."""
    kernel, broken = Kernel(), Kernel()

    async def renew(_: ClaimToken) -> RenewalResult:
        raise ZeroDivisionError

    async with anyio.create_task_group() as tasks:
        renewals = RenewalScheduler(tasks)
        faulty = RenewalHooks(
            renew=renew, lost=lambda reason: broken.lost.append((0, reason)), stop=lambda: None
        )
        with renewals.keeping(lease(), kernel.keeper()), renewals.keeping(lease(), faulty):
            await anyio.sleep(15)
        tasks.cancel_scope.cancel()
    assert broken.lost == [(0, "its renewal broke down")]
    assert (len(kernel.renewed_at), kernel.lost) == (1, [])


def _task_count() -> int:
    """How many tasks there are for renewals."""
    return sum(1 for task in anyio.get_running_tasks() if "cgworker.renewal" in str(task.name))


async def test_one_failed_renewal_is_noise() -> None:
    """A failure is tried again soon, and the lease is not given up for it."""
    kernel = Kernel(answers=[KernelUnreachable("reset"), KernelOverloaded("busy", status=503)])
    async with keep_renewed(lease(), kernel.keeper()):
        await anyio.sleep(60)
    assert kernel.lost == []
    assert kernel.renewed_at[2] - kernel.renewed_at[0] < 1.0


async def test_a_kernel_that_stays_away_loses_the_lease_a_margin_before_its_end() -> None:
    """The clock decides, and it decides before the kernel could give the turn to another."""
    kernel = Kernel(answers=[KernelUnreachable("refused")] * 1000)
    began_at = anyio.current_time()
    async with keep_renewed(lease(), kernel.keeper()):
        await anyio.sleep(LENGTH)
    [(lost_at, _)] = kernel.lost
    assert lost_at - began_at == pytest.approx(LENGTH - 2.0, abs=0.1)


async def test_an_outage_shorter_than_the_lease_loses_nothing() -> None:
    """Fifteen seconds without a kernel do not end a lease of thirty."""
    kernel = Kernel()
    began_at = anyio.current_time()

    async def renew(token: ClaimToken) -> RenewalResult:
        if 5 < anyio.current_time() - began_at < 20:
            raise KernelUnreachable("refused")
        return await kernel.renew(token)

    keeper = RenewalHooks(renew=renew, lost=lambda reason: kernel.lost.append((0, reason)), stop=lambda: None)
    async with keep_renewed(lease(), keeper):
        await anyio.sleep(100)
    assert kernel.lost == []


async def test_a_hanging_renewal_is_given_up_in_time_for_another() -> None:
    """An answer that does not come must not use up the lease."""
    kernel = Kernel(delay=1000)
    async with keep_renewed(lease(), kernel.keeper()):
        await anyio.sleep(LENGTH)
    assert len(kernel.renewed_at) >= 3
    assert len(kernel.lost) == 1


async def test_a_refusal_loses_the_lease_at_once() -> None:
    """The kernel says the claim is not ours: there is nothing to wait for."""
    kernel = Kernel(answers=[FencingError("claim token mismatch for turn T-1")])
    began_at = anyio.current_time()
    async with keep_renewed(lease(), kernel.keeper()):
        await anyio.sleep(100)
    [(lost_at, reason)] = kernel.lost
    assert lost_at - began_at == pytest.approx(10)
    assert reason == "claim token mismatch for turn T-1"
    assert len(kernel.renewed_at) == 1


async def test_a_lease_of_unknown_length_is_renewed_at_once() -> None:
    """The reference's kernel does not tell how long a claim lasts; its answer to a renewal does."""
    kernel = Kernel()
    unknown = lease(None)
    async with keep_renewed(unknown, kernel.keeper()):
        await anyio.sleep(0.001)
        assert unknown.length_seconds == LENGTH
    assert len(kernel.renewed_at) == 1


async def test_a_stop_is_heard_at_every_renewal() -> None:
    """A stop request reaches a running handler within one renewal period."""
    kernel = Kernel(stop_requested=True)
    async with keep_renewed(lease(), kernel.keeper()):
        await anyio.sleep(11)
    assert kernel.stopped == 1


async def test_renewing_more_often_can_be_asked_for_and_less_often_cannot() -> None:
    """`renew_seconds` only makes it sooner."""
    often, seldom = Kernel(), Kernel()
    async with (
        keep_renewed(lease(), often.keeper(max_seconds=2.0)),
        keep_renewed(lease(), seldom.keeper(max_seconds=25.0)),
    ):
        await anyio.sleep(10.5)
    assert len(often.renewed_at) == 5
    assert len(seldom.renewed_at) == 1


async def test_a_lease_is_counted_from_before_its_request_by_the_kernels_own_clock() -> None:
    """Slow answers and wrong clocks make it shorter here, never longer."""
    kept = lease()
    asked_at = anyio.current_time()
    await anyio.sleep(4)
    years_off = EPOCH + timedelta(days=9999)
    kept.extend(asked_at, server_time=years_off, expires_at=years_off + timedelta(seconds=10))
    assert kept.seconds_left == pytest.approx(6)


async def test_a_repeated_call_ends_with_the_lease() -> None:
    """A call is repeated while work under the lease may go on, and not after."""
    began_at = anyio.current_time()

    async def call() -> None:
        raise KernelUnreachable("refused")

    with pytest.raises(LeaseLost):
        await call_until_lease_ends(call, lease())
    assert LENGTH - 8 < anyio.current_time() - began_at < LENGTH


async def test_a_repeated_call_honours_retry_after() -> None:
    """A kernel that says when to come back is not asked sooner."""
    asked_at = []

    async def call() -> str:
        asked_at.append(anyio.current_time())
        if len(asked_at) == 1:
            raise KernelOverloaded("busy", status=503, retry_after_seconds=7)
        return "done"

    assert await call_until_lease_ends(call, lease()) == "done"
    assert asked_at[1] - asked_at[0] >= 7


def test_no_secret_is_in_a_leases_repr() -> None:
    """A lease may be logged."""
    assert "secret" not in repr(Lease(claim(), 0.0))
