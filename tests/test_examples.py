"""Every example runs, against a real kernel, as its own docstring says."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import frozen

from cgworker import KernelClient, TurnRef, answer_question
from cgworker.private import replace_private
from cgworker.profiles import (
    ConfigFile,
    Profile,
)
from cgworker.testing import LocalKernel, local_kernel
from cgworker.wire.turns import TurnSnapshot
from tests.adapters.claude_endpoint import Script, call, endpoint, text
from tests.pages import SKILL
from tests.warm import warm_python

EXAMPLES = Path(__file__).parent.parent / "examples"
WORKER = "cg-demo/worker-1"


@frozen
class Expected:
    """How to run an example, what to ask it, and what it answers."""

    argv: tuple[str, ...]
    input: Any
    payload: Any
    answer: Any = None
    status: int = 0
    module: str = "cgworker"  # which it needs
    claude: Script | None = None  # what the model says, on loopback


def by_python(name: str) -> tuple[str, ...]:
    return (sys.executable, str(EXAMPLES / name))


def runtime(interpreter: str, name: str, *flags: str) -> Expected:
    """The same program in one language after another (the whole contract: test_runtimes.py)."""
    argv = ("-m", "cgworker", "worker", "loop", "--profile", WORKER, *flags, "--command", interpreter)
    return Expected(
        (sys.executable, *argv, str(EXAMPLES / "runtimes" / name)),
        {"task": "count", "steps": 2},
        {"counted": 2, "from": 0, "records": 1, "agent": "worker-1"},
    )


KINDS = ("turn.conversation.v1", "turn.review.v1")
ASKED = {"task": "Is anybody there?"}
EXPECTED = {
    "function.py": Expected(
        by_python("function.py"), ASKED, {"text": "You asked: Is anybody there?", "words": 3}
    ),
    "command.py": Expected(
        by_python("command.py"),
        ASKED,
        {"text": "You asked: Is anybody there?", "answered_by": "worker-1"},
    ),
    "typed.py": Expected(
        by_python("typed.py"),
        ASKED,
        {"text": "You asked: Is anybody there? (turn.conversation.v1)", "seen_count": 1},
    ),
    "subclass.py": Expected(
        by_python("subclass.py"), ASKED, {"text": "You asked: Is anybody there?", "attempt": 1}
    ),
    "conversation_worker/worker_runtime.py": Expected(
        (
            *(sys.executable, "-m", "cgworker", "worker", "loop", "--profile", WORKER),
            *("--command", *by_python("conversation_worker/worker_runtime.py")),
        ),
        "Is anybody there?",
        {"text": "You asked: Is anybody there?", "answered_by": "worker-1"},
    ),
    "fan_out.py": Expected(
        by_python("fan_out.py"),
        ASKED,
        {view: f"{view} of 'Is anybody there?': fine" for view in ("cost", "risk", "value")},
    ),
    "approval.py": Expected(
        by_python("approval.py"),
        {"task": "a bell"},
        {"bought": "a bell", "limit": 500},
        answer={"granted": True, "limit": 500},
    ),
    "openai_agent.py": Expected(
        by_python("openai_agent.py"), ASKED, {"text": "bought a bell for 42."}, answer=True
    ),
    "pydantic_agent.py": Expected(
        by_python("pydantic_agent.py"), ASKED, {"text": "bought a bell for 42."}, answer=True
    ),
    "claude_agent.py": Expected(
        by_python("claude_agent.py"),
        ASKED,
        {"text": "paid 7 to Ann"},
        answer=True,
        module="claude_agent_sdk",
        claude=lambda results: (
            [text(result["content"][0]["text"].splitlines()[0]) for result in results]
            or [call("toolu_1", "mcp__bank__pay", to="Ann", sum=7)]
        ),
    ),
    "ray_cluster.py": Expected(
        by_python("ray_cluster.py"), {"task": "three blind mice"}, {"words": 3}, module="ray"
    ),
    "private_steps.py": Expected(
        by_python("private_steps.py"), {"task": "bells"}, {"task": "bells", "is_urgent": True}
    ),
    "steps.py": Expected(
        by_python("steps.py"), {"task": "bells"}, {"published": "On bells", "words": 2, "number": 4711}
    ),
    "many_agents.py": Expected(
        by_python("many_agents.py"),
        {"task": "bells"},
        {"text": "On bells", "verdict": "worker-2 finds nothing wrong with 'On bells'"},
    ),
    "starlette_app.py": Expected(
        by_python("starlette_app.py"),
        ASKED,
        {"text": "You asked: Is anybody there?"},
        status=-signal.SIGTERM,  # uvicorn ends in order, and then by the signal it was sent
    ),
    "ag_ui_chat.py": Expected(
        by_python("ag_ui_chat.py"),
        ASKED,
        {"text": "You asked: Is anybody there?"},
        answer=True,
        status=-signal.SIGTERM,
    ),
    "mcp_server.py": Expected(
        by_python("mcp_server.py"),
        ASKED,
        {"text": "You asked: Is anybody there?"},
        status=-signal.SIGTERM,
        module="mcp_types",
    ),
    "nanobot_companion.py": Expected(
        by_python("nanobot_companion.py"), ASKED, {"text": "You asked: Is anybody there?"}, module="nanobot"
    ),
    "export.py": Expected(by_python("export.py"), {"rows": 300}, {"rows": 300}),
    "runtimes/runtime.py": runtime(sys.executable, "runtime.py"),
    "runtimes/runtime.sh": runtime("bash", "runtime.sh"),
    "runtimes/runtime.mjs": runtime("node", "runtime.mjs"),
    "runtimes/resident/resident.py": runtime(sys.executable, "resident/resident.py", "--resident"),
    "runtimes/resident/resident.sh": runtime("bash", "resident/resident.sh", "--resident"),
    "runtimes/resident/resident.mjs": runtime("node", "resident/resident.mjs", "--resident"),
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The examples choose for themselves; here runs only who asks them."""
    return "asyncio"


@pytest.fixture(scope="module")
async def kernel() -> AsyncIterator[LocalKernel]:
    async with local_kernel() as kernel:
        yield kernel


def test_no_example_is_left_out() -> None:
    """A new one is to be expected something of."""
    found = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*") if path.is_file()}
    found = {name for name in found if not name.endswith(".pyc")}
    found = {name for name in found if not name.startswith("deploy/")}  # tests/deploy has a test of each
    assert found - {str(SKILL.relative_to(EXAMPLES))} == set(EXPECTED)  # which tests/test_docs.py follows


@pytest.mark.parametrize("name", EXPECTED)
async def test_an_example_answers_a_turn_and_ends_when_told_to(
    name: str, kernel: LocalKernel, tmp_path: Path
) -> None:
    """It works a turn that was waiting for it, and ends as it should when it is told to by SIGTERM."""
    expected = EXPECTED[name]
    if "node" in expected.argv and shutil.which("node") is None:
        warnings.warn(f"node is not on the PATH: examples/{name} is NOT tested here", stacklevel=1)
        pytest.skip("node is not on the PATH")
    if find_spec(expected.module) is None:
        pytest.skip(f"{expected.module} is not installed here: examples/{name} is NOT run")
    async with (
        await kernel.agent("worker-1", kinds=KINDS) as worker,
        await kernel.agent("worker-2") as colleague,
    ):
        turn = await kernel.dispatch("worker-1", expected.input)
        async with running(expected, home_of(tmp_path, worker, colleague)):
            if expected.answer is not None:
                await until(worker, turn, "suspended")
                await answer_question(worker, turn, expected.answer)
            closed = await until(worker, turn, "closed")
    assert (closed.outcome, closed.final_payload) == ("succeeded", expected.payload)


@asynccontextmanager
async def running(expected: Expected, home: Path) -> AsyncIterator[None]:
    """The example's process; it has to end well."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CG_", "XDG_"))}
    argv = [warm_python() if word == sys.executable else word for word in expected.argv]
    env = {**kept, "HOME": str(home), "PATH": path, "PORT": "0"}
    with ExitStack() as peers:
        if expected.claude is not None:
            model = peers.enter_context(endpoint(expected.claude))
            env |= {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "sk-scripted"}
        async with _process(argv, env, expected.status):
            yield


@asynccontextmanager
async def _process(argv: list[str], env: dict[str, str], status: int) -> AsyncIterator[None]:
    process = await anyio.open_process(argv, env=env, stdout=None, stderr=None)
    try:
        yield
        process.send_signal(signal.SIGTERM)
        with anyio.fail_after(60):
            assert await process.wait() == status
    finally:
        if process.returncode is None:
            process.kill()
        await process.aclose()


def home_of(home: Path, *workers: KernelClient) -> Path:
    """A home with the profiles that the examples name; they stand for agents of the test's kernel."""
    config = ConfigFile(home / ".config" / "commonground" / "config.json")
    named: dict[str, str] = {}
    for worker in workers:
        assert worker.agent is not None
        token_file = home / f"{worker.agent.agent_id}.token"
        [token] = worker.secrets
        replace_private(token_file, f"{token}\n")
        profile = Profile(
            project_id=worker.agent.project_id, agent_id=worker.agent.agent_id, token_file=token_file
        )
        config.save_profile(profile)
        named[profile.name] = f"cg-demo/{worker.agent.agent_id}"

    def rename(content: dict[str, Any]) -> None:
        content["profiles"] = {named[name]: profile for name, profile in content["profiles"].items()}
        content["base_url"] = workers[0].base_url

    config.update(rename)
    return home


async def until(client: KernelClient, turn: TurnRef, state: str) -> TurnSnapshot:
    with anyio.fail_after(60):
        found = await client.turns.get(turn)
        while found.state != state:
            found = await client.turns.get(turn, state=found.state, wait_seconds=20)
    return found
