"""Replays the recorded calls of the reference's `cg` with ours, in their order, against a kernel of ours.

The recordings leave out what prepared a call (an invite, a dispatch); `_preparations` adds it. Commands run
in this process, for speed; servers, and workers that get signals, are processes.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import httpx
from attrs import frozen

from cgworker.cli.app import run
from cgworker.kernel.server import bind
from tests.warm import warm_python

RECORDINGS = Path(__file__).parent / "recordings" / "cli"
RECORDED_URL = "http://127.0.0.1:18010"

_HI = '{"prompt":"hi"}'
_KIND = "turn.conversation.v1"
_WAIT_SECONDS = 30.0

_SUMMARY = 'echo \'{"summary":"ok"}\' > $CG_FINAL_FILE'
_TURN = re.compile(r"T-\d+")

# A child that tells that it runs, and would run for long.
_SLOW = "echo started > $0; exec sleep 60"


@frozen(kw_only=True)
class Done:
    """What became of a step: ours, in the form of the recording."""

    exit_code: int | None = None
    stdout_json: Any = None
    stderr: str = ""
    facts: Mapping[str, Any] = {}


def steps() -> list[str]:
    """The names of all recordings, in their order."""
    return sorted((path.stem for path in RECORDINGS.glob("*.json")), key=number_of)


def number_of(step: str) -> int:
    """Where a step stands in the order."""
    return int(step.split("-")[0])


def recorded(step: str) -> dict[str, Any]:
    """What the reference did."""
    recording: dict[str, Any] = json.loads((RECORDINGS / f"{step}.json").read_text())
    return recording


class Replay:
    """One run through all steps.

    Attributes:
        turn_ids: what the recordings' turns are called here.
    """

    def __init__(self, root: Path, dsn: str) -> None:
        self._root = root
        self._dsn = dsn
        self.home = root / "home"
        self.work = root / "work"
        for folder in (self.home, self.work):
            folder.mkdir()
        with bind("127.0.0.1", 0) as listener:
            self._port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.turn_ids: dict[str, str] = {}
        self._join_code = ""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._write_files()

    def _write_files(self) -> None:
        manifest = {
            "request_id": "m-1",
            "records": [{"role": "note", "payload": {"x": 1}}],
            "final_payload": {"ok": True},
        }
        for name, content in (("p.json", {"p": 1}), ("m.json", manifest), ("m2.json", {"records": []})):
            (self.work / name).write_text(json.dumps(content))
        (self.work / "broken.json").write_text("{oops")

    # ------------------------------------------------------------ playing

    def play(self, step: str) -> Done:
        """Prepare a step and do it."""
        number = number_of(step)
        for prepare in _preparations(self).get(number, ()):
            prepare()
        special = _specials(self).get(number)
        done = special() if special else self._call(step)
        self._learn(recorded(step).get("stdout_json"), done.stdout_json)
        return done

    def _call(self, step: str) -> Done:
        recording = recorded(step)
        env = {
            name: self._dsn if "USER:PASSWORD" in value else value
            for name, value in recording.get("env", {}).items()
        }
        stdin = _HI if "--payload-stdin" in recording["argv"] else ""
        return self.cg(*map(self._here, recording["argv"][1:]), env=env, stdin=stdin)

    def cg(
        self, *argv: str, env: Mapping[str, str] | None = None, stdin: str = "", home: Path | None = None
    ) -> Done:
        """Run a command in this process."""
        out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO()
        given = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        with (
            self._environment(home or self.home, env or {}),
            redirect_stdout(out),
            redirect_stderr(err),
            _stdin(given),
        ):
            exit_code = run(argv)
        said = out.buffer.getvalue().decode()
        return Done(exit_code=exit_code, stdout_json=_json_or_none(said), stderr=err.getvalue())

    def _here(self, word: str) -> str:
        """A word of a recorded command line, with our addresses, files, codes and turn ids."""
        word = word.replace(RECORDED_URL, self.url).replace("<work>", str(self.work))
        word = word.replace("<join-code>", self._join_code)
        return self.turn_ids.get(word, word)

    def _learn(self, theirs: Any, ours: Any) -> None:
        """Note which turn of ours stands where one of the recording stood."""
        if isinstance(theirs, dict) and isinstance(ours, dict):
            for key in theirs.keys() & ours.keys():
                self._learn(theirs[key], ours[key])
        elif isinstance(theirs, list) and isinstance(ours, list):
            for one, other in zip(theirs, ours, strict=False):
                self._learn(one, other)
        elif (turn := _TURN.search(str(theirs))) and (own := _TURN.search(str(ours))):
            self.turn_ids.setdefault(turn[0], own[0])
        elif isinstance(ours, str) and theirs == "<join-code>":
            self._join_code = ours

    @contextmanager
    def _environment(self, home: Path, env: Mapping[str, str]) -> Iterator[None]:
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(self._clean(home, env))
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def _clean(self, home: Path, env: Mapping[str, str]) -> dict[str, str]:
        ours = {
            name: value for name, value in os.environ.items() if not name.startswith(("CG_", "PG", "XDG_"))
        }
        return {**ours, "HOME": str(home), **env}

    # ------------------------------------------------------------ what prepares a step

    def join(self, agent_id: str) -> None:
        """Admit a worker, as the recordings did between their steps."""
        made = self.cg("admission", "invite", "create", "--agent-id", agent_id, "--join-base-url", self.url)
        joined = self.cg("agent", "join", self.url, made.stdout_json["result"]["join_code"])
        assert joined.exit_code == 0, joined

    def dispatch(self, agent_id: str, key: str) -> None:
        """Give a worker a turn."""
        done = self.cg(
            "dispatch", "--project-id", "cg-demo", "--requested-by", "requester", "--target-agent", agent_id,
            "--turn-kind", _KIND, "--request-id", key, "--payload-json", _HI,
        )  # fmt: skip
        assert done.exit_code == 0, done

    def resume(self, recorded_turn: str, agent_id: str) -> None:
        """Queue a suspended turn again."""
        done = self.cg(
            "turn", "resume",
            "--project-id", "cg-demo", "--turn-id", self.turn_ids[recorded_turn], "--requested-by", agent_id,
        )  # fmt: skip
        assert done.exit_code == 0, done

    def finish_next(self, agent_id: str) -> None:
        """Take a turn out of the way that the reference could not store (difference 1)."""
        done = self.cg(
            "worker",
            "once",
            "--profile",
            f"cg-demo/{agent_id}",
            "--command",
            "sh",
            "-c",
            "cp $CG_INPUT_FILE $CG_FINAL_FILE",
        )
        assert done.exit_code == 0, done

    # ------------------------------------------------------------ processes

    def start(self, name: str, *argv: str, env: Mapping[str, str] | None = None) -> None:
        """Start a command as a process of its own."""
        log = (self._root / f"{name}.log").open("wb")
        with log:
            self._processes[name] = subprocess.Popen(
                [warm_python(), "-m", "cgworker", *argv],
                env=self._clean(self.home, env or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def end(self, name: str, number: signal.Signals = signal.SIGTERM) -> Done:
        """Send a process a signal and wait for its end."""
        process = self._processes.pop(name)
        process.send_signal(number)
        out, _ = process.communicate(timeout=_WAIT_SECONDS)
        return Done(
            exit_code=process.returncode, stdout_json=json.loads(out) if out else None, stderr=self.log(name)
        )

    def end_all(self) -> None:
        """Leave nothing behind."""
        for name in list(self._processes):
            self.end(name)

    def log(self, name: str) -> str:
        """What a process said on stderr so far."""
        return (self._root / f"{name}.log").read_text()

    def start_server(self, **env: str) -> Mapping[str, Any]:
        """Start the kernel, and return what it says of itself."""
        self.start("server", "local", "run", "--port", str(self._port), env={"PG_DSN": self._dsn, **env})
        said: Mapping[str, Any] = until(self._readyz, "the server is ready")
        return said

    def stop_server(self) -> None:
        """End the kernel."""
        self.end("server")

    def _readyz(self) -> Mapping[str, Any] | None:
        try:
            return dict(httpx.get(f"{self.url}/readyz", timeout=5).json())
        except httpx.TransportError:
            return None

    def start_loop(self, agent_id: str, *command: str, grace_seconds: float = 20) -> None:
        """Start a worker loop."""
        flags = ("--profile", f"cg-demo/{agent_id}", "--grace-seconds", str(grace_seconds))
        self.start(agent_id, "worker", "loop", *flags, "--command", *command)

    # ------------------------------------------------------------ steps that are no call

    def restart_with_lease_of_seven(self) -> Done:
        """Step 12: what a server says that was started with lease variables."""
        said = self.start_server(CG_CLAIM_TIMEOUT_SECONDS="7", CG_CLAIM_REAPER_INTERVAL_SECONDS="0.5")
        self.end("server")
        self.start_server()
        return Done(facts={"readyz": said})

    def files(self) -> Done:
        """The files of the home folder, as the recordings list them; our own state and data apart."""
        listed = []
        for path in sorted(self.home.rglob("*")):
            name = f"~/{path.relative_to(self.home)}"
            if name.startswith(("~/.local/state", "~/.local/share/cgworker")):
                continue
            entry: dict[str, Any] = {"path": f"{name}/" if path.is_dir() else name}
            entry["mode"] = oct(path.stat().st_mode & 0o777)
            if path.suffix == ".json":
                entry["json"] = json.loads(path.read_text())
            listed.append(entry)
        return Done(facts={"files": listed})

    def context_file(self) -> Done:
        """Step 40: the context file that the child copied."""
        written = (self.work / "ctx.json").read_text()
        return Done(
            facts={
                "context": json.loads(written),
                "first_bytes": written[:60],
                "ends_with_newline": written.endswith("\n"),
            }
        )

    def child_environment(self, name: str) -> Done:
        """The CG_ and PG_ variables that a child saw."""
        lines = (self.work / name).read_text().splitlines()
        return Done(facts={"child_cg_env": dict(line.split("=", 1) for line in lines)})

    def signal_mid_turn(self, agent_id: str, number: signal.Signals) -> Done:
        """Steps 112 and 113: a signal to a loop whose child runs."""
        started = self.work / f"started-{agent_id}"
        self.start_loop(agent_id, "sh", "-c", _SLOW, str(started), grace_seconds=0.1)
        until(started.exists, "the child runs")
        ended = self.end(agent_id, number)
        listed = self.cg(
            "project", "turn", "list", "--profile", "cg-demo/requester",
            "--project-id", "cg-demo", "--target-agent-id", agent_id,
        )  # fmt: skip
        turn = listed.stdout_json["result"]["items"][0]
        return Done(exit_code=ended.exit_code, facts={"turn_right_after": turn})

    def loop_without_server(self) -> Done:
        """Step 129: a loop that finds no kernel waits for one."""
        self.start_loop("worker-1", "true")
        until(lambda: "ClaimingFailed" in self.log("worker-1"), "the loop notices")
        return self.end("worker-1")


def until(look: Callable[[], Any], what: str) -> Any:
    """Look until there is something to see."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not (seen := look()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.02)
    return seen


def _json_or_none(said: str) -> Any:
    return json.loads(said) if said else None


@contextmanager
def _stdin(given: io.TextIOWrapper) -> Iterator[None]:
    before, sys.stdin = sys.stdin, given
    try:
        yield
    finally:
        sys.stdin = before


def _preparations(replay: Replay) -> Mapping[int, list[Callable[[], None]]]:
    """What came before a recorded step, by its number."""

    def join(agent: str) -> Callable[[], None]:
        return lambda: replay.join(agent)

    def dispatch(agent: str, key: str) -> Callable[[], None]:
        return lambda: replay.dispatch(agent, key)

    return {
        26: [join("worker-2")],
        46: [lambda: replay.finish_next("worker-1"), dispatch("worker-1", "cli-2")],
        52: [lambda: replay.resume("T-4", "worker-1")],
        53: [dispatch("worker-1", "cli-3")],
        54: [dispatch("worker-1", "cli-4")],
        55: [dispatch("worker-1", "cli-5")],
        56: [dispatch("worker-1", "cli-6")],
        57: [dispatch("worker-1", "cli-7")],
        58: [dispatch("worker-1", "cli-8")],
        61: [dispatch("worker-2", "cli-9")],
        62: [join("worker-3"), dispatch("worker-3", "cli-10")],
        63: [dispatch("worker-3", "cli-11")],
        64: [dispatch("worker-3", "cli-12")],
        65: [dispatch("worker-3", "cli-13")],
        66: [join("worker-4"), dispatch("worker-4", "cli-14")],
        67: [join("worker-5"), dispatch("worker-5", "cli-15")],
        68: [join("worker-6"), dispatch("worker-6", "cli-16")],
        69: [join("worker-7"), dispatch("worker-7", "cli-17")],
        70: [join("worker-8"), dispatch("worker-8", "cli-18")],
        72: [dispatch("worker-8", "cli-19")],
        74: [dispatch("worker-8", "cli-20")],
        81: [lambda: replay.resume("T-22", "worker-8")],
        90: [join("worker-9"), dispatch("worker-9", "cli-21")],
        91: [join("worker-10"), dispatch("worker-10", "cli-22"), dispatch("worker-10", "cli-23")],
        92: [dispatch("worker-10", "cli-24"), dispatch("worker-10", "cli-25")],
        108: [lambda: replay.start_loop("worker-10", "sh", "-c", _SUMMARY)],
        111: [
            lambda: time.sleep(1)
        ],  # smoke turns are named by the second, and this is not to be that of 108
        112: [join("worker-11"), dispatch("worker-11", "cli-26")],
        113: [join("worker-12"), dispatch("worker-12", "cli-27")],
        128: [replay.stop_server],
    }


def _specials(replay: Replay) -> Mapping[int, Callable[[], Done]]:
    """The steps that are no plain call, by their number."""
    elsewhere = replay.work / "without-a-dsn"
    argv_92 = recorded("92-worker-loop-stops-at-failed-child")["argv"][3:]
    return {
        1: lambda: replay.cg("setup", "project", "seed", "--default-local", home=elsewhere),
        7: replay.files,
        9: replay.files,
        12: replay.restart_with_lease_of_seven,
        20: replay.files,
        25: replay.files,
        40: replay.context_file,
        71: lambda: replay.child_environment("e1"),
        73: lambda: replay.child_environment("e2"),
        75: lambda: replay.child_environment("e3"),
        82: lambda: Done(facts={"mode": oct((replay.work / "c2").stat().st_mode & 0o777)}),
        92: lambda: replay.cg("worker", "loop", "--exit-on-failure", *argv_92),
        110: lambda: replay.end("worker-10"),
        112: lambda: replay.signal_mid_turn("worker-11", signal.SIGTERM),
        113: lambda: replay.signal_mid_turn("worker-12", signal.SIGINT),
        127: replay.files,
        129: replay.loop_without_server,
    }
