"""A worker of Claude Code is killed, with all of its processes; another one, elsewhere, goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import KernelClient, TurnRef, answer_question
from cgworker.testing import LocalKernel
from tests.adapters.claude_endpoint import Endpoint, call, endpoint, text
from tests.journeys.conftest import in_state, working
from tests.journeys.killing import kernel
from tests.object_stores import write_key
from tests.warm import warm_folder

__all__ = ["kernel"]

sdk = pytest.importorskip("claude_agent_sdk", reason="no claude-agent-sdk: pip install 'cgworker[claude]'")

from cgworker.adapters.claude_run import find_cli  # noqa: E402
from tests.adapters.claude_worker import worker_for  # noqa: E402

pytestmark = [
    pytest.mark.skipif(
        find_cli(sdk.ClaudeAgentOptions()) is None,
        reason="no Claude Code: this wheel of the package has none",
    ),
    pytest.mark.timeout(120),
]
PAY = "mcp__bank__pay"
PROGRAM = "tests.adapters.claude_worker"


@pytest.fixture
def anyio_backend() -> str:
    """The package runs on asyncio."""
    return "asyncio"


class Bank:
    """The model: it pays each sum until it is told that it was paid. It may kill a worker when it is asked.

    Attributes:
        model: where it is asked.
        worker: the file with the process group that it kills.
        said: what it answered, in order.
    """

    def __init__(self, kill_at: str, sums: Sequence[int], worker: Path) -> None:
        self.model: Endpoint | None = None
        self.worker = worker
        self.said: list[str] = []
        self._kill_at = kill_at
        self._sums = sums
        self._count = 0

    def __call__(self, _: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Answer a request."""
        assert self.model is not None
        self._count += 1
        if self._kill_at == f"model{self._count} asked":
            self.kill_worker()
            return [text("Nobody hears this.")]
        for each in self._sums:
            if f"paid {each}" not in str(self.model.asked[-1]):  # in a result, or in the prompt to go on
                self.said.append(f"pay {each}")
                return [call(f"toolu_{self._count}", PAY, sum=each)]
        self.said.append("done")
        return [text("Done.")]

    def has_answered(self, number: int) -> None:
        """Note that an answer was sent."""
        if self._kill_at == f"model{number} answered":
            self.kill_worker()

    def kill_worker(self) -> None:
        """Kill the worker and all of its processes."""
        os.killpg(int(self.worker.read_text()), signal.SIGKILL)


async def run_until_killed(
    kernel: LocalKernel, desk: KernelClient, model: Endpoint, bank: Bank, folder: Path, at: str, approve: str
) -> None:
    """Run a worker in a process group of its own until that is killed."""
    about = (kernel.base_url, kernel.project_id, *desk.secrets, model.url, str(folder), at, approve)
    process = await anyio.open_process(
        [str(warm_folder(PROGRAM) / "python"), "-m", PROGRAM, *about],
        env={**os.environ, "XDG_STATE_HOME": str(folder / "first-state")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert await process.wait() == -signal.SIGKILL
    finally:
        if process.returncode is None:
            bank.kill_worker()


async def approve_all(desk: KernelClient, turn: TurnRef) -> None:
    """Answer each question of the turn with yes."""
    while True:
        await in_state(desk, turn, "suspended")
        await answer_question(desk, turn, True)


async def story(
    kernel: LocalKernel, folder: Path, at: str, *, approve: bool, sums: Sequence[int] = (7,)
) -> tuple[Bank, Any, list[Any]]:
    """Kill the first worker at a point, and let another go on; returns model, turn and records."""
    write_key(folder / "key")
    bank = Bank(at, sums, folder / "worker")
    with endpoint(bank) as model:
        bank.model, model.answered = model, bank.has_answered
        async with await kernel.agent("desk") as desk, anyio.create_task_group() as tasks:
            turn = await kernel.dispatch("desk", {"text": "pay 7"})
            if approve:
                tasks.start_soon(approve_all, desk, turn)
            with anyio.fail_after(60):
                word = "yes" if approve else "no"
                await run_until_killed(kernel, desk, model, bank, folder, at, word)
            await kernel.faults.steal_lease(turn)
            second = worker_for(desk, model.url, folder, home=folder / "second", approve=approve)
            async with working(second):
                found = await in_state(desk, turn, "closed")
            records = [item async for item in desk.turns.records(turn)]
            tasks.cancel_scope.cancel()
    return bank, found, records


def payments(folder: Path) -> list[str]:
    """What was paid."""
    return (folder / "paid").read_text().split()


@pytest.mark.parametrize(
    ("at", "said", "paid"),
    [
        ("model1 asked", ["pay 7", "done"], 1),
        ("pay 7 before", ["pay 7", "pay 7", "done"], 1),
        ("pay 7 after", ["pay 7", "pay 7", "done"], 2),
        ("model2 asked", ["pay 7", "done"], 1),
    ],
)
async def test_an_answered_request_is_not_made_again(
    at: str, said: list[str], paid: int, kernel: LocalKernel, tmp_path: Path
) -> None:
    """Claude is told that the outcome of a call that was cut off is unknown, and the model decides.

    A call that was killed after it had acted, and before its result was kept, may so be made once more.
    """
    bank, found, records = await story(kernel, tmp_path, at, approve=False)
    assert found.final_payload == {"text": "Done."}
    assert bank.said == said
    assert payments(tmp_path) == ["7"] * paid
    usage = [item.payload for item in records if item.record.record_role == "usage"]
    assert [each["requests"] for each in usage] == [len(said)]
    assert not [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("at", "paid"), [("model1 asked", 1), ("pay 7 before", 1), ("pay 7 after", 2), ("model2 asked", 1)]
)
async def test_an_approval_is_asked_once_and_outlives_the_worker(
    at: str, paid: int, kernel: LocalKernel, tmp_path: Path
) -> None:
    """The approved call goes on under its id; one that was killed before its result was kept runs again."""
    bank, found, records = await story(kernel, tmp_path, at, approve=True)
    assert found.final_payload == {"text": "Done."}
    assert bank.said == ["pay 7", "done"]
    assert payments(tmp_path) == ["7"] * paid
    assert [item.record.record_role for item in records].count("question") == 1


@pytest.mark.parametrize(
    "at",
    [
        "model1 asked", "model1 answered", "pay 7 before", "pay 7 after", "model2 asked",
        "model2 answered", "pay 8 before", "pay 8 after", "model3 asked", "model3 answered",
    ],
)  # fmt: skip
async def test_each_call_is_made_once_wherever_the_worker_is_killed(
    at: str, kernel: LocalKernel, tmp_path: Path
) -> None:
    """Only the call that was killed is made again, and only if its result was not kept yet.

    The points are before, within and after each request and each payment: after a request is before the
    payment that it asks for, and after a payment is when the next request comes.
    """
    bank, found, _ = await story(kernel, tmp_path, at, approve=False, sums=(7, 8))
    said, paid = Counter(bank.said), Counter(payments(tmp_path))
    assert found.final_payload == {"text": "Done."}
    again, twice = said - Counter(["pay 7", "pay 8", "done"]), paid - Counter("78")
    assert set(said) == {"pay 7", "pay 8", "done"}
    assert set(paid) == {"7", "8"}
    if at.endswith("asked"):  # all that was answered before is kept
        assert (again, twice) == (Counter(), Counter())
    elif at.endswith(("before", "after")):  # Claude is told that nobody knows, and this model pays
        assert again == Counter([at.rpartition(" ")[0]])
        assert twice == Counter(at[4:5] if at.endswith("after") else "")
    else:  # the answer was sent, and was kept, or acted on, or neither
        assert again.total() <= 1
        assert twice.total() <= 1
        assert not again - Counter([{"1": "pay 7", "2": "pay 8", "3": "done"}[at[5]]])
