"""Resident commands: they get turns as lines, and what goes wrong costs one turn (difference 17)."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import Failed, Reason, ResidentCommandHandler, Succeeded, Suspended, Turn
from cgworker.errors import CommandNotFound
from cgworker.outcome import RETRY_REASON
from cgworker.testing import play
from tests.turns import CLAIM_TOKEN, CREDENTIAL, make_turn, renewed_late

_PROGRAM = """
import json, os, signal, sys, time

def say(line):
    sys.stdout.write(line + "\\n")
    sys.stdout.flush()

for line in sys.stdin:
    given = json.loads(line)
    asked, number = given.get("input"), given["id"]

    def answer(**kind):
        say(json.dumps({"id": number, **kind}))

    do = asked if isinstance(asked, str) else "answer(final=os.getpid())"
    exec(do)
"""

# Without `site` it starts in a third of the time, and is not measured: it runs nothing of ours.
_PYTHON = (sys.executable, "-S")

Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@asynccontextmanager
async def staying(**options: Any) -> AsyncIterator[Ask]:
    """A resident Python; each turn's input is the code that it runs."""
    argv = [*_PYTHON, "-c", textwrap.dedent(_PROGRAM)]
    handler = ResidentCommandHandler(argv, **{"on_line": lambda _: None, **options})
    async with handler.opened() as running:

        async def ask(code: str | None = None, turn: Turn | None = None) -> Any:
            with anyio.fail_after(60):
                return await running(turn or make_turn(code))

        yield ask


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_turn_makes_no_task() -> None:
    """Its line is written at once where the pipe has room."""
    made, loop = 0, asyncio.get_running_loop()

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        nonlocal made
        made += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    async with staying() as ask:
        await ask()  # starts the process
        loop.set_task_factory(make)
        for _ in range(10):
            await ask()
        loop.set_task_factory(None)
    assert made == 0


async def test_a_process_stays_from_turn_to_turn() -> None:
    """The same process answers both."""
    async with staying() as ask:
        first = await ask()
        assert isinstance(first, Succeeded)
        assert await ask() == first


async def test_a_line_gives_the_turn_its_context_and_its_files() -> None:
    """The whole context, the input, and who it is; numbers are kept as they were written."""
    async with staying() as ask:
        told = (await ask("answer(final=given)")).payload
        assert (told["turn_id"], told["agent_id"], told["input"]) == (
            "T-1",
            "worker-1",
            "answer(final=given)",
        )
        assert told["context"]["semantic_items"][0]["record"]["turn_seq"] == 1
        assert told["checkpoint_file"].endswith(".checkpoint")
        outcome = await ask("""say('{"id": %d, "final": 1.50000000000000000001}' % number)""")
        assert repr(outcome.payload) == "1.50000000000000000001"


async def test_a_large_context_comes_in_files() -> None:
    """A line has at most 1 MiB; the files are gone after the turn."""
    async with staying() as ask:
        turn = make_turn("#" + "x" * 1024 * 1024)
        program = "import json,sys;g=json.loads(sys.stdin.readline());i=json.load(open(g['input_file']));"
        program += "c=json.load(open(g['context_file']));sys.stdout.write(json.dumps({'id':g['id'],'final':"
        program += "[len(i),len(c['semantic_items']),g['input_file'],'input' in g]})+chr(10))"
        handler = ResidentCommandHandler([*_PYTHON, "-c", program])
        outcome: Any = await handler(turn)
        length, count, path, inline = outcome.payload
        assert (length, count, inline) == (1024 * 1024 + 1, 1, False)
        assert not await anyio.Path(path).exists()
        assert isinstance(await ask(), Succeeded)


async def test_an_answer_suspends_hands_back_or_fails() -> None:
    """In the words of the command contract."""
    async with staying() as ask:
        assert await ask("answer(suspend={'reason': ' wait ', 'note': 'n'})") == Suspended("wait", "n")
        handed = await ask("answer(hand_back={'retry_after_seconds': 7})")
        assert (handed.reason, handed.resume_after_seconds) == (RETRY_REASON, 7)
        failed = await ask("sys.stderr.write('oh no\\n'); answer(failure={'error': 'mine', 'x': 1})")
        assert failed == Failed({"error": "mine", "x": 1, "stderr_tail": ["oh no"]})
        assert (await ask("answer(failure='boom')")).payload["details"] == "boom"
        assert (await ask("answer(suspend=[])")).payload["error"] == "worker_suspend_invalid"


async def test_progress_becomes_records_before_the_result() -> None:
    """Each line a record, in order."""
    argv = [*_PYTHON, "-c", textwrap.dedent(_PROGRAM)]
    code = "answer(progress={'step': 1}); answer(progress={'step': 2}); answer(final='done')"
    played = await play(ResidentCommandHandler(argv), code)
    assert played.outcome == Succeeded("done")
    assert [record.payload for record in played.records] == [{"step": 1}, {"step": 2}]


async def test_progress_that_cannot_be_sent_is_left_out() -> None:
    """It is JSON, but nested deeper than it can be written."""
    async with staying() as ask:
        deep = """say('{"id": %d, "progress": %s}' % (number, "[" * 300 + "]" * 300))"""
        assert await ask(f"{deep}; answer(final=1)") == Succeeded(1, "deliverable")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("sys.exit(3)", "worker_command_failed"),
        ("os.kill(os.getpid(), 9)", "worker_command_failed"),
        ("sys.exit(0)", "worker_command_missing_final"),
        ("os.close(1)", "worker_command_missing_final"),
        ("say('{oops')", "worker_answer_invalid"),
        ("say('')", "worker_answer_invalid"),
        ("say('[]')", "worker_answer_invalid"),
        ("say('[' * 100000)", "worker_answer_invalid"),
        ("""say('{"final": 1}')""", "worker_answer_invalid"),
        ("""say('{"id": true, "final": 1}')""", "worker_answer_invalid"),
        ("""say('{"id": %d, "final": 1}' % (number + 1))""", "worker_answer_invalid"),
        ("answer(final=1, suspend={})", "worker_answer_invalid"),
        ("answer()", "worker_answer_invalid"),
        ("""sys.stdout.buffer.write(b'\\xff\\n'); sys.stdout.flush()""", "worker_answer_invalid"),
        ("answer(final='x' * 200000)", "result_too_large"),
        ("answer(final='x' * 2000)", "result_too_large"),
        ("answer(final_file='/dev/zero')", "worker_final_invalid"),
        ("answer(final_file=7)", "worker_final_invalid"),
        ("answer(final_file='no\\0where')", "worker_final_invalid"),
    ],
)
async def test_what_goes_wrong_costs_one_turn(code: str, error: str) -> None:
    """The next turn is answered, by another process if need be."""
    async with staying(max_payload_bytes=1000) as ask:
        await ask()
        assert (await ask(code)).payload["error"] == error
        assert isinstance(await ask(), Succeeded)


async def test_status_75_hands_the_turn_back() -> None:
    """As for a plain command."""
    async with staying() as ask:
        assert (await ask("sys.exit(75)")).reason == RETRY_REASON


async def test_output_after_an_answer_harms_no_other_turn() -> None:
    """Nor does a second answer that comes while the next turn runs; both replace the process."""
    async with staying() as ask:
        first = await ask("answer(final=os.getpid()); say('garbage')")
        await anyio.sleep(0.3)
        second = await ask()
        assert isinstance(second, Succeeded)
        assert second != first
        late = "answer(final=1); kept = number"
        assert await ask(late) == Succeeded(1)
        meddling = """say('{"id": %d, "final": "wrong"}' % kept); answer(final=os.getpid())"""
        third = await ask(meddling)
        assert third == second
        assert await ask() != third


async def test_only_who_has_read_a_turn_can_answer_it() -> None:
    """A command that counts knows neither its first turn nor the one after the turn that it has."""
    counting = """import sys; print('{"id": 1, "final": "guessed"}', flush=True)\n""" + _PROGRAM
    handler = ResidentCommandHandler([*_PYTHON, "-c", counting], on_line=lambda _: None)
    assert await handler(make_turn("answer(final='read')")) == Succeeded("read")
    async with staying() as ask:
        code = """answer(final=1); time.sleep(0.001); say('{"id": %d, "final": "guessed"}' % (number + 1))"""
        assert Succeeded("guessed") not in [await ask(code) for _ in range(20)]


async def test_a_flood_of_lines_ends_with_its_turn() -> None:
    """Lines without end, answers for other turns, stderr without end: no other turn waits for them."""
    async with staying() as ask:
        await ask()
        flood = """sys.stdout.write('{"id": 1}\\n' * 100000); sys.stdout.flush()"""
        assert (await ask(flood)).payload["error"] == "worker_answer_invalid"
        assert isinstance(await ask("sys.stderr.write('x' * 9000000); answer(final=1)"), Succeeded)


async def test_a_process_that_died_between_turns_costs_none() -> None:
    """It is replaced before the next turn."""
    async with staying() as ask:
        first = await ask("answer(final=os.getpid()); sys.exit(1)")
        await anyio.sleep(0.3)
        assert await ask() != first


async def test_more_turns_than_processes_wait_in_order() -> None:
    """With `count`; an interruption ends the wait."""
    async with staying(count=1) as ask, anyio.create_task_group() as tasks:
        ended: list[int] = []

        async def one(number: int) -> None:
            await ask("time.sleep(0.05); answer(final=1)")
            ended.append(number)

        for number in range(4):
            tasks.start_soon(one, number)
            await anyio.sleep(0.01)
        with anyio.move_on_after(0.01):
            await ask()
    assert ended == [0, 1, 2, 3]


@pytest.mark.parametrize("reason", [Reason.STOP, Reason.SHUTDOWN, Reason.DEADLINE])
async def test_an_interruption_is_told_by_the_stop_file(reason: Reason) -> None:
    """A command that looks can answer, and stays."""
    wait = "stop = given['stop_file']\nwhile not os.path.exists(stop): time.sleep(0.01)\n"
    async with staying() as ask, anyio.create_task_group() as tasks:
        first = await ask()
        turn = make_turn(wait + "answer(final=json.load(open(stop))['reason'])")
        tasks.start_soon(interrupt, turn, reason, 4.0)
        assert await ask(turn=turn) == Succeeded(str(reason))
        assert await ask() == first


async def test_a_command_that_hangs_is_ended_within_the_grace() -> None:
    """SIGTERM, then SIGKILL; the next turn gets a new process."""
    async with staying() as ask, anyio.create_task_group() as tasks:
        first = await ask()
        turn = make_turn("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)")
        tasks.start_soon(interrupt, turn, Reason.DEADLINE, 0.4)
        assert (await ask(turn=turn)).payload["child_exit_code"] == -9
        assert await ask() != first


async def test_a_command_that_reads_nothing_hangs_only_its_turn() -> None:
    """The line does not fit into the pipe; the interruption ends the wait."""
    turn = make_turn("x" * 500_000)
    handler = ResidentCommandHandler(["sleep", "60"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(interrupt, turn, Reason.LEASE_LOST, 0.2)
        with anyio.fail_after(50):
            outcome: Any = await handler(turn)
    assert outcome.payload["child_exit_code"] == -15


async def test_a_secret_is_neither_passed_on_nor_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the environment or the line; masked in answers and in stderr."""
    monkeypatch.setenv("CG_AGENT_CREDENTIAL", CREDENTIAL)
    monkeypatch.setenv("MINE", f"x{CREDENTIAL}")
    async with staying() as ask:
        told = (await ask("answer(final=[line, dict(os.environ)])")).payload
        assert CREDENTIAL not in str(told)
        assert CLAIM_TOKEN not in str(told)
        split = f"'{CLAIM_TOKEN[:5]}' + '{CLAIM_TOKEN[5:]}'"
        failed = await ask(f"sys.stderr.write({split} + '\\n'); answer(failure={{'error': {split}}})")
        assert failed.payload == {"error": "***", "stderr_tail": ["***"]}


async def test_a_result_in_a_file_is_read_and_kept_if_it_is_too_large(tmp_path: Path) -> None:
    """For results that do not fit into a line."""
    path = tmp_path / "final.json"
    path.write_text('"1234567890"')
    code = f"answer(final_file={str(path)!r})"
    async with staying() as ask:
        assert await ask(code) == Succeeded("1234567890")
    async with staying(max_payload_bytes=5) as ask:
        assert (await ask(code)).payload["error"] == "result_too_large"
    [kept] = (tmp_path / "state" / "cgworker" / "kept").iterdir()
    assert kept.read_text() == '"1234567890"'


async def test_processes_end_with_the_worker() -> None:
    """Their stdin ends; one that does not care gets SIGTERM, and what it started goes with it."""
    async with staying() as ask:
        start = "import subprocess; child = subprocess.Popen(['sleep', '60']); answer(final=child.pid)"
        pid = (await ask(start)).payload
    assert _has_ended(pid)


async def interrupt(turn: Turn, reason: Reason, grace: float) -> None:
    """Interrupt a turn once its command has had time to begin."""
    await anyio.sleep(0.3)
    turn.interrupt(reason, grace_seconds=grace)


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


async def test_a_command_that_is_missing_ends_the_worker() -> None:
    """As a plain one does."""
    with pytest.raises(CommandNotFound):
        await ResidentCommandHandler(["/no/such/command"])(make_turn())


async def test_a_resident_command_that_the_guard_has_ended_hands_its_turn_back() -> None:
    """The worker stood still; a crash of the next process is the next turn's failure again."""
    turn = make_turn("time.sleep(60)", seconds=2)
    async with staying() as ask:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(renewed_late, turn)
            outcome = await ask(turn=turn)
        assert isinstance(outcome, Suspended)
        assert "renewed too late" in str(outcome.note)
        assert isinstance(await ask("os._exit(3)"), Failed)
