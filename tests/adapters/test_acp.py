"""A coding agent as a handler: the real package on both sides of a real process's pipes."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from acp.schema import ToolCallProgress

from cgworker import (
    AdapterHandler,
    Failed,
    Succeeded,
    Turn,
    UsageError,
    Worker,
    WorkerOptions,
    answer_question,
    open_questions,
)
from cgworker.adapters.acp import GO_ON, ACPAgent
from cgworker.adapters.acp_calls import DONE, ToolCalls
from cgworker.adapters.acp_permission import Permission
from cgworker.adapters.harness import Harness
from cgworker.errors import CommandNotFound
from cgworker.testing import LocalKernel, play
from tests.adapters.spans import spans_of
from tests.journeys.conftest import closed, in_state, working
from tests.kernels import NewProject
from tests.warm import warm_folder

ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])
OPTIONS = WorkerOptions(
    concurrency=1, renew_seconds=0.2, interrupt_seconds=4, grace_seconds=1, wait_seconds=5
)
AGENT = Path(__file__).with_name("acp_agent.py")


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
async def kernel(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    async with new_project(lease_seconds=5) as kernel:
        yield kernel


class Remote:
    """A scripted agent, and what it was told."""

    def __init__(self, folder: Path, *steps: dict[str, Any], **script: Any) -> None:
        self.folder = folder / "agent"
        self.folder.mkdir()
        self.write_script(*steps, **script)

    def write_script(self, *steps: dict[str, Any], **script: Any) -> None:
        (self.folder / "script.json").write_text(json.dumps({"steps": steps, **script}))

    def handler(self, **how: Any) -> AdapterHandler[Any]:
        python = str(warm_folder("acp") / "python")
        return AdapterHandler(ACPAgent([python, str(AGENT), str(self.folder)], **how))

    def told(self, what: str) -> list[Any]:
        try:
            lines = (self.folder / "told.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [said for line in lines for key, said in json.loads(line).items() if key == what]


def of_role(played: Any, role: str) -> list[Any]:
    return [record.payload for record in played.records if record.role == role]


def allow(permission: Permission) -> str | None:
    return permission.option("allow_once")


# ---------------------------------------------------------------- there and back


@ASYNCIO
async def test_what_the_agent_does_is_recorded_and_its_last_words_are_delivered(tmp_path: Path) -> None:
    """Text streams into progress, calls and plans into records; thoughts stay private."""
    remote = Remote(
        tmp_path,
        {"plan": "Look, then write"},
        {"think": "hm"},
        {"say": "Let me "},
        {"say": "look."},
        {"call": "ls"},
        {"say": "All "},
        {"say": "done."},
    )
    played = await play(remote.handler(permit=allow), {"text": "Tidy up"})
    assert played.outcome == Succeeded({"text": "All done."})
    assert remote.told("prompt") == ["Tidy up"]
    assert [each["text"] for each in of_role(played, "progress")] == ["Let me look.", "All done."]
    assert of_role(played, "plan")[0]["entries"][0]["content"] == "Look, then write"
    begun, ended = of_role(played, "tool_call")
    assert begun == {"id": begun["id"], "title": "ls", "kind": "execute", "status": "pending"}
    assert ended == {**begun, "status": "completed"}  # what went in and came out stays private
    assert [set(step) for step in of_role(played, "step")] == [{"key", "private"}]
    assert of_role(played, "thought") == []


@ASYNCIO
async def test_what_is_public_of_a_tool_call_can_be_said(tmp_path: Path) -> None:
    """None is no record."""
    remote = Remote(tmp_path, {"call": "ls"}, {"say": "ok"})

    def output_of(call: Mapping[str, Any]) -> Any:
        return call.get("output")

    played = await play(remote.handler(permit=allow, shown=output_of), "?")
    assert of_role(played, "tool_call") == [{"by": "allow_once"}]


@ASYNCIO
async def test_thoughts_and_usage_are_records_where_they_are_wanted(tmp_path: Path) -> None:
    """The agent's count of tokens is a record as well."""
    usage = {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}
    remote = Remote(tmp_path, {"think": "hm"}, {"say": "Yes"}, usage=usage)
    played = await play(remote.handler(thoughts=True), "?")
    assert of_role(played, "thought") == [{"index": 0, "text": "hm"}]
    assert of_role(played, "usage")[0]["total_tokens"] == 7


@ASYNCIO
async def test_a_tool_call_of_the_agent_is_a_span(tmp_path: Path) -> None:
    """By its kind; its title may have what is private."""
    remote = Remote(tmp_path, {"call": "ls"}, {"say": "ok"})
    spans = await spans_of(remote.handler(permit=allow), input="?")
    assert "invoke_agent python" in spans
    assert (spans["execute_tool execute"].attributes or {})["gen_ai.operation.name"] == "execute_tool"


@ASYNCIO
async def test_the_prompt_the_mode_and_the_login_can_be_said(tmp_path: Path) -> None:
    """Anything else than a text goes as JSON."""
    remote = Remote(tmp_path)
    how = {"prompt": lambda turn: f"Do {turn.input['n']}", "mode": "fast", "auth_method": "login"}
    await play(remote.handler(**how), {"n": 7})
    assert remote.told("prompt") == ["Do 7"]
    assert remote.told("mode") == ["fast"]
    assert remote.told("authenticated") == ["login"]


@ASYNCIO
async def test_what_the_turn_is_told_while_the_agent_works_is_its_next_prompt(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """In the same session; what came before goes with the first prompt. The last words are delivered."""
    remote = Remote(tmp_path, {"say": "Plan A."}, {"call": "ls"}, {"end": "end_turn"}, {"say": "Plan B."})
    async with await kernel.agent("desk") as desk, await kernel.agent("requester") as requester:
        turn = await kernel.dispatch("desk", {"text": "Plan"})
        await requester.turns.tell(turn, "; be brief")
        async with working(Worker(desk, remote.handler(), options=OPTIONS)):
            await in_state(desk, turn, "suspended")  # it asks for a permission
            await requester.turns.tell(turn, {"text": "no, another one"})
            await answer_question(desk, turn, "allow_once")
            found = await closed(desk, turn)
    assert found.outcome == "succeeded"
    assert remote.told("prompt")[0] == "Plan; be brief"
    assert "no, another one" in remote.told("prompt")[1]


# ---------------------------------------------------------------- its files


@ASYNCIO
async def test_it_reads_and_writes_in_its_folder_and_nowhere_else(tmp_path: Path) -> None:
    """Links and dots that lead out are refused; so is what is no text, in words."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "lines.txt").write_text("one\ntwo\nthree\n")
    (work / "picture").write_bytes(b"\xff\xfe")
    (work / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text("s")
    remote = Remote(
        tmp_path,
        {"write": ["new/file.txt", "hello"]},
        {"read": ["new/file.txt"]},
        {"read": ["lines.txt", 2, 1]},
        {"read": ["out"]},
        {"write": ["../elsewhere", "x"]},
        {"read": ["none"]},
        {"read": ["picture"]},
    )
    played = await play(remote.handler(cwd=work), "?")
    assert played.outcome == Succeeded({"text": ""})
    assert (work / "new" / "file.txt").read_text() == "hello"
    assert remote.told("file") == [None, "hello", "two\n"]
    assert len(remote.told("refused_file")) == 4
    assert not (tmp_path / "elsewhere").exists()


@ASYNCIO
async def test_a_folder_of_its_own_is_gone_with_the_turn(tmp_path: Path) -> None:
    """Unless one is given, for all turns or for each."""
    remote = Remote(tmp_path, {"write": ["note", "x"]})
    await play(remote.handler(), "?")
    assert remote.told("file") == [None]
    assert list((tmp_path / "state" / "cgworker" / "acp").iterdir()) == []
    (tmp_path / "mine").mkdir()
    (remote.folder / "session-0").unlink()
    await play(remote.handler(cwd=lambda turn: tmp_path / turn.input), "mine")
    assert (tmp_path / "mine" / "note").read_text() == "x"


# ---------------------------------------------------------------- permissions


@ASYNCIO
async def test_a_permission_is_asked_of_people_and_the_agent_goes_on_in_its_session(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """No slot is held meanwhile, no process either; nothing is done or said twice."""
    remote = Remote(tmp_path, {"say": "First."}, {"call": "make"}, {"call": "make"}, {"say": "Built."})
    async with await kernel.agent("coder") as coder:
        turn = await kernel.dispatch("coder", "Build it")
        for number, answer in enumerate(["allow_once", "reject_once"]):
            async with working(Worker(coder, remote.handler(), options=OPTIONS)):
                await in_state(coder, turn, "suspended")
            [question] = await open_questions(coder, turn.project_id)
            assert question.key == f"permission:{number}"  # the same call again is another question
            assert question.question["permission"] == "make"
            assert question.schema == {"enum": ["allow_once", "allow_always", "reject_once"]}
            assert _processes_of(remote.folder) == []
            await answer_question(coder, turn, answer)
        async with working(Worker(coder, remote.handler(), options=OPTIONS)):
            found = await closed(coder, turn)
        records = [item async for item in coder.turns.records(turn)]
    assert (found.outcome, found.final_payload) == ("succeeded", {"text": "Built."})
    assert remote.told("ran") == ["make"]
    assert remote.told("refused") == ["make"]
    assert remote.told("loaded") == ["session-0", "session-0"]
    done = f"\n\n{DONE}\nmake (completed)\n"  # the agent may have been killed before it noted that
    assert remote.told("prompt") == ["Build it", GO_ON + "Build it", GO_ON + "Build it" + done]
    said = [item.payload["text"] for item in records if item.record.record_role == "progress"]
    assert said == ["First.", "Built."]  # and nothing of what it repeats when it loads


@ASYNCIO
async def test_an_agent_that_cannot_load_begins_again_with_the_answers_it_got(tmp_path: Path) -> None:
    """Each question is put once, however often the agent comes to it."""
    remote = Remote(tmp_path, {"call": "make"}, {"call": "test"}, {"say": "ok"}, loads=False)
    answers = {"permission:0": "allow_once", "permission:1": "allow_once"}
    played = await play(remote.handler(), "?", answers=answers)
    assert played.payload == {"text": "ok"}
    assert [question.key for question in played.questions] == ["permission:0", "permission:1"]


@ASYNCIO
async def test_what_is_allowed_for_good_is_not_asked_again(tmp_path: Path) -> None:
    """The agent may have forgotten it with its process."""
    remote = Remote(tmp_path, {"call": "make"}, {"call": "make"}, {"say": "ok"})
    played = await play(remote.handler(), "?", answers={"permission:0": "allow_always"})
    assert played.payload == {"text": "ok"}
    assert remote.told("ran") == ["make", "make"]


@ASYNCIO
async def test_a_rule_that_answers_what_nobody_offered_is_named(tmp_path: Path) -> None:
    """The rule's fault, with the options there are."""
    remote = Remote(tmp_path, {"call": "make"})
    played = await play(remote.handler(permit=lambda _: "yes"), "?")
    assert isinstance(played.error, UsageError)
    assert "allow_once" in str(played.error)


async def test_of_many_calls_that_have_ended_the_last_are_told_in_full() -> None:
    """A prompt stays of a size that a model takes; of the first calls only the titles are told."""

    async def handle(turn: Turn) -> list[str | None]:
        calls = ToolCalls(Harness(turn, agent="coder"), lambda _: None, str)
        await calls.read()
        told = [calls.summary(is_known=is_known) for is_known in (False, True)]
        for number in range(0 if told[0] else 30):
            ended: Any = {"title": f"call {number}", "status": "completed", "raw_output": "x" * 9_000}
            await calls.note(
                ToolCallProgress(session_update="tool_call_update", tool_call_id=str(number), **ended)
            )
        await turn.ask(bool, "Go on?", key="go")  # so that it begins again
        return told

    in_full, brief = (await play(handle, answers={"go": True})).payload
    assert len(in_full) < 65_000
    lines = in_full.splitlines()
    assert lines[0] == DONE
    assert lines[1] == "call 0 (completed)"
    assert lines[30].startswith('{"title":"call 29"')
    assert brief.splitlines()[1:] == [f"call {number} (completed)" for number in range(30)]


# ---------------------------------------------------------------- interruptions


@ASYNCIO
async def test_a_stop_cancels_the_session_and_keeps_what_there_is(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """The agent says how far it came; its partial words are the payload of the stopped turn."""
    remote = Remote(tmp_path, {"say": "Half"}, {"wait": 20})
    async with await kernel.agent("coder") as coder:
        turn = await kernel.dispatch("coder", "Build it")
        async with working(Worker(coder, remote.handler(), options=OPTIONS)):
            await _told(remote, "prompt")
            await coder.turns.stop(turn, requested_by=coder.agent)  # type: ignore[arg-type]
            found = await closed(coder, turn)
    assert (found.outcome, found.final_payload) == ("stopped", {"text": "Half"})
    assert remote.told("cancelled") == ["session-0"]


@ASYNCIO
async def test_an_agent_that_heeds_nothing_is_ended_with_its_group(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """Neither the protocol's cancel nor SIGTERM: the turn is stopped within the grace all the same."""
    remote = Remote(tmp_path, {"hang": 60})
    async with await kernel.agent("coder") as coder:
        turn = await kernel.dispatch("coder", "Build it")
        async with working(Worker(coder, remote.handler(), options=OPTIONS)):
            await _told(remote, "prompt")
            with anyio.fail_after(60):
                await coder.turns.stop(turn, requested_by=coder.agent)  # type: ignore[arg-type]
                found = await closed(coder, turn)
    assert found.outcome == "stopped"
    assert _processes_of(remote.folder) == []


@ASYNCIO
async def test_a_drained_worker_hands_the_turn_back_and_the_next_goes_on(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """In the agent's own session, told that it was interrupted."""
    remote = Remote(tmp_path, {"say": "Half"}, {"wait": 20})
    async with await kernel.agent("coder") as coder:
        turn = await kernel.dispatch("coder", "Build it")
        async with working(Worker(coder, remote.handler(), options=OPTIONS)):
            await _told(remote, "prompt")
        assert _processes_of(remote.folder) == []
        remote.write_script({}, {"say": " and whole"})
        async with working(Worker(coder, remote.handler(), options=OPTIONS)):
            found = await closed(coder, turn)
    assert found.final_payload == {"text": " and whole"}
    assert remote.told("prompt")[1] == GO_ON + "Build it"


@ASYNCIO
async def test_a_killed_agent_is_a_failure_that_a_retry_goes_on_from(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """`on_error` and retries are the worker's, as for any handler."""
    remote = Remote(tmp_path, {"say": "Half"}, {"once_exit": "kill"}, {"say": "whole"})
    async with await kernel.agent("coder") as coder:
        turn = await kernel.dispatch("coder", "Build it")
        async with working(Worker(coder, remote.handler(), options=OPTIONS)):
            found = await closed(coder, turn)
    assert found.outcome == "failed"
    assert (found.final_payload["error"], found.final_payload["child_exit_code"]) == ("acp_agent_ended", -9)


@ASYNCIO
async def test_a_session_that_the_agent_has_lost_is_begun_anew(tmp_path: Path) -> None:
    """As on another machine: the whole task is said again."""
    remote = Remote(tmp_path, {"say": "ok"})
    kept = [("acp_session", {"session_id": "of another machine"})]
    played = await play(remote.handler(), "Build it", records=kept)
    assert played.payload == {"text": "ok"}
    assert remote.told("prompt") == ["Build it"]


# ---------------------------------------------------------------- failures


@ASYNCIO
@pytest.mark.parametrize("reason", ["refusal", "max_tokens", "max_turn_requests", "cancelled"])
async def test_an_end_before_the_end_is_a_typed_failure(tmp_path: Path, reason: str) -> None:
    """With the agent's last words."""
    remote = Remote(tmp_path, {"say": "No"}, {"end": reason})
    played = await play(remote.handler(), "?")
    assert played.outcome == Failed({"error": f"acp_{reason}", "agent_says": {"text": "No"}})


@ASYNCIO
async def test_an_agent_that_dies_fails_the_turn_with_its_last_lines(tmp_path: Path) -> None:
    """Its exit status, and the end of its stderr."""
    remote = Remote(tmp_path, {"print": "err: out of tokens"}, {"exit": 3})
    lines: list[str] = []
    played = await play(remote.handler(on_line=lines.append), "?")
    assert isinstance(played.outcome, Failed)
    assert played.payload["error"] == "acp_agent_ended"
    assert played.payload["child_exit_code"] == 3
    assert "err: out of tokens" in played.payload["stderr_tail"]
    assert "err: out of tokens" in lines


@ASYNCIO
async def test_noise_on_stdout_is_left_out(tmp_path: Path) -> None:
    """Some agents greet."""
    remote = Remote(tmp_path, {"print": "Welcome!"}, {"print": "[1]"}, {"say": "ok"})
    played = await play(remote.handler(), "?")
    assert played.payload == {"text": "ok"}


@ASYNCIO
@pytest.mark.parametrize(
    ("script", "how", "expected"),
    [
        ({"version": 2}, {}, {"error": "acp_protocol_version", "agent_speaks": 2, "worker_speaks": 1}),
        ({"silent": True}, {"start_seconds": 1.0}, {"error": "acp_no_answer", "start_seconds": 1.0}),
        ({"wants_login": True}, {}, {"error": "acp_auth_required", "auth_methods": ["login"]}),
    ],
)
async def test_an_agent_that_cannot_begin_is_a_typed_failure(
    tmp_path: Path, script: dict[str, Any], how: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Another version, silence, no login."""
    played = await play(Remote(tmp_path, **script).handler(**how), "?")
    assert played.outcome == Failed(expected)


@ASYNCIO
async def test_an_error_of_the_agent_is_a_typed_failure(tmp_path: Path) -> None:
    """With the protocol's code."""
    played = await play(Remote(tmp_path, {"nonsense": 1}).handler(), "?")
    assert isinstance(played.outcome, Failed)
    assert (played.payload["error"], played.payload["code"]) == ("acp_error", -32602)


@ASYNCIO
async def test_what_cannot_run_is_refused_before_a_claim(tmp_path: Path) -> None:
    """No command, no folder."""
    with pytest.raises(CommandNotFound, match="no-such-agent"):
        AdapterHandler(ACPAgent(["no-such-agent"])).check()
    with pytest.raises(UsageError, match="no folder"):
        AdapterHandler(ACPAgent([sys.executable], cwd=tmp_path / "none")).check()


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_on_trio_it_says_that_it_cannot(tmp_path: Path) -> None:
    """The package is asyncio's."""
    played = await play(Remote(tmp_path).handler(), "?")
    assert isinstance(played.error, UsageError)
    assert "asyncio only" in str(played.error)


async def _told(remote: Remote, what: str) -> None:
    with anyio.fail_after(60):
        while not remote.told(what):  # noqa: ASYNC110  # another process writes it
            await anyio.sleep(0.02)


def _processes_of(folder: Path) -> list[str]:
    """The agents that still run."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in line:
            found.append(line.decode())
    return found
