"""`cg local|service|admission run` and `cg demo`: processes that prepare what they need and leave nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cgworker.paths import admin_bearer_path, admin_service_path
from tests.cli.conftest import Cg
from tests.databases import a_database
from tests.warm import warm_python

pytestmark = pytest.mark.usefixtures("cg")


@contextmanager
def running(*argv: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A `cg` process; at the end it is told to stop, and does so with exit status 0."""
    process = subprocess.Popen(
        [warm_python(), "-m", "cgworker", *argv],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until_ready(url: str) -> Mapping[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        try:
            return dict(httpx.get(f"{url}/readyz", timeout=5).json())
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def until(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def command_lines() -> list[str]:
    """The command lines of all processes."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:  # it ended just now
                continue
    return found


def test_a_local_kernel_makes_everything_it_needs(cg: Cg) -> None:
    """Database, schema, project, secret files: an invite can be made and used at once, and again later."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running("local", "run", "--port", str(port)) as process:
        assert until_ready(url)["status"] == "ready"
        assert process.stderr is not None
        assert process.stderr.readline().startswith(
            "Starting CommonGround local server project=cg-demo base_url="
        )
        assert {
            oct(path("cg-demo").stat().st_mode & 0o777) for path in (admin_service_path, admin_bearer_path)
        } == {"0o600"}
        invite = cg(
            "admission", "invite", "create", "--admin-base-url", url, "--agent-id", "w", "--capacity", "3"
        )
        nowhere = cg("agent", "join", url, invite.result["join_code"], "--config", "/dev/null/config.json")
        assert nowhere.error["code"] == "io_error"  # before the code was used up
        joined = cg("agent", "join", url, invite.result["join_code"])
        assert joined.result["profile"] == "cg-demo/w"
    with running("local", "run", "--port", str(port)):
        until_ready(url)
        agent = cg("agent", "get", "--profile", "cg-demo/w", "--project-id", "cg-demo", "--agent-id", "w")
        assert agent.result["snapshot"]["capacity"] == 3


def test_a_service_is_configured_by_its_environment(dsn: str) -> None:
    """Lease, name and reaper by variables; no admission beside it."""
    port = free_port()
    env = {"PG_DSN": dsn, "CG_PORT": str(port), "CG_CLAIM_TIMEOUT_SECONDS": "7", "CG_SERVICE_NAME": "mine"}
    with running("service", "run", **env):
        said = until_ready(f"http://127.0.0.1:{port}")
        assert (said["claim_timeout_seconds"], said["service"]) == (7, "mine")
        redeem = httpx.post(f"http://127.0.0.1:{port}/admin/v1/agent-joins:redeem", json={"join_code": "x"})
        assert redeem.status_code == 404


def test_admission_alone_serves_nothing_else(cg: Cg, dsn: str, tmp_path: Path) -> None:
    """It has an address of its own, and takes invitation codes from a file."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    codes = tmp_path / "codes.json"
    entry = {
        "invite_id": "i1",
        "project_id": "cg-demo",
        "issued_by_user_id": "owner",
        "issuer_role": "project_owner",
        "code": "open-sesame",
    }
    codes.write_text(json.dumps([entry]))
    assert cg("setup", "project", "seed", "--pg-dsn", dsn).exit_code == 0
    env = {"PG_DSN": dsn, "CG_ADMIN_PORT": str(port), "CG_ADMIN_INVITE_CONFIG_JSON": str(codes)}
    with running("admission", "run", **env):
        until_ready(url)
        assert httpx.get(f"{url}/v3r1/projects/cg-demo/turns/T-1").status_code == 404
        ensured = cg(
            "profile", "ensure-agent", "--profile", "cg-demo/w",
            "--project-id", "cg-demo", "--requested-agent-id", "w",
            "--runtime-kind", "t", "--display-name", "W", "--profile-kind", "byoa.conversation_worker.v1",
            "--admin-base-url", url, "--admin-auth-token-file", str(admin_bearer_path("cg-demo")),
            "--invitation-code", "open-sesame",
        )  # fmt: skip
        assert ensured.result["status"] == "ready"


@pytest.fixture
def empty(postgres: str) -> Iterator[str]:
    """The address of a database with nothing in it."""
    with a_database(postgres) as dsn:
        yield dsn


def test_a_service_without_a_project_says_how_to_prepare_one(cg: Cg, empty: str) -> None:
    """It serves all the same; once there is a project it says nothing."""
    port = free_port()
    env = {"PG_DSN": empty, "CG_PORT": str(port)}
    told = "No project is prepared yet: `cg setup project seed --project-id PROJECT` does that."
    with running("service", "run", **env) as process:
        until_ready(f"http://127.0.0.1:{port}")
        assert process.stderr is not None
        assert process.stderr.readline().rstrip() == told
    assert cg("setup", "project", "seed", "--pg-dsn", empty).exit_code == 0
    with running("service", "run", **env) as process:
        until_ready(f"http://127.0.0.1:{port}")
        assert process.stderr is not None
        assert told not in process.stderr.readline()


def test_admission_to_a_project_that_is_not_seeded_does_not_start(
    cg: Cg, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that, and what to do, rather than that there is no bearer: seeding makes both."""
    monkeypatch.setenv("CG_ADMIN_PORT", "0")
    ran = cg("admission", "run", "--project-id", "acme", "--pg-dsn", empty)
    assert ran.exit_code == 1
    *_, first, second = ran.stderr.splitlines()
    assert first == "project_not_seeded: project is not seeded: acme"
    assert "cg setup project seed --project-id" in second


def test_a_kernel_without_admission_says_that_it_has_none(cg: Cg, empty: str) -> None:
    """Who invites or joins there is told which command starts one; no other code hides it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    assert cg("setup", "project", "seed", "--pg-dsn", empty).exit_code == 0
    with running("service", "run", PG_DSN=empty, CG_PORT=str(port)):
        until_ready(url)
        for argv in (
            ("admission", "invite", "create", "--agent-id", "w", "--admin-base-url", url),
            ("admission", "invite", "list", "--admin-base-url", url),
            ("agent", "join", url, "cgjoin_x"),
        ):
            refused = cg(*argv)
            assert refused.error["code"] == "admission_missing"
            assert refused.error["message"] == f"there is no admission service at {url}"
            assert "cg admission run" in refused.stderr + refused.stdout


@pytest.mark.parametrize("told_by", ["flag", "variable"])
def test_who_joins_at_admission_alone_finds_the_kernel(cg: Cg, empty: str, told_by: str) -> None:
    """Its own address is not the kernel's: it tells which is; a flag of who joins says otherwise."""
    kernel_port, admission_port = free_port(), free_port()
    kernel, url = f"http://127.0.0.1:{kernel_port}", f"http://127.0.0.1:{admission_port}"
    assert cg("setup", "project", "seed", "--pg-dsn", empty).exit_code == 0
    flags = ("--base-url", kernel) if told_by == "flag" else ()
    env = {"PG_DSN": empty, "CG_PORT": str(kernel_port), "CG_ADMIN_PORT": str(admission_port)}
    told = {"CG_BASE_URL": kernel} if told_by == "variable" else {}
    with running("service", "run", **env), running("admission", "run", *flags, **env, **told):
        until_ready(kernel)
        until_ready(url)
        invite = cg(
            "admission", "invite", "create", "--admin-base-url", url, "--agent-id", "w", "--max-uses", "2"
        )
        code = invite.result["join_code"]
        assert invite.result["join_command"] == f"cg agent join {url} {code}"
        joined = cg("agent", "join", url, code).result
        assert (joined["base_url"], joined["admin_base_url"]) == (kernel, url)
        got = cg("agent", "get", "--profile", "cg-demo/w", "--project-id", "cg-demo", "--agent-id", "w")
        assert got.result["agent_id"] == "w"
        named = cg("agent", "join", url, code, "--base-url", "http://kernel.example.org")
        assert named.result["base_url"] == "http://kernel.example.org"


def test_an_id_that_no_header_carries_is_refused_before_a_secret_is_written(cg: Cg, empty: str) -> None:
    """It says what an id may be."""
    refused = cg("setup", "project", "seed", "--project-id", "Grüße", "--pg-dsn", empty)
    assert (refused.exit_code, refused.error["status"]) == (1, 422)
    assert "printable ASCII" in refused.stdout
    assert not admin_bearer_path("Grüße").exists()


def test_a_taken_port_is_one_line_and_no_database_is_started(cg: Cg) -> None:
    """It says what to do; exit status 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ran = cg("local", "run", "--port", str(taken.getsockname()[1]))
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr.count("\n") == 1
    assert "choose another port" in ran.stderr
    assert not (cg.home / ".local").exists()


@pytest.mark.parametrize("verb", ["local", "service", "admission"])
def test_a_database_that_is_away_is_told_with_its_reason(
    cg: Cg, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """One line for what, one for why and what to do."""
    for name in ("CG_PORT", "CG_ADMIN_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("PG_DSN", "postgresql://cg:secret@127.0.0.1:1/x")
    ran = cg(verb, "run")
    assert ran.exit_code == 1
    first, second = ran.stderr.splitlines()
    assert first == f"setup_pg_unavailable: PostgreSQL is unavailable for cg {verb} run"
    assert "refused" in second.lower() or "Errno" in second
    assert "secret" not in ran.stderr


def test_a_variable_that_cannot_be_used_is_named(cg: Cg, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is started."""
    monkeypatch.setenv("CG_CLAIM_TIMEOUT_SECONDS", "soon")
    ran = cg("service", "run")
    assert ran.exit_code == 1
    assert ran.stderr.startswith("invalid_arguments: CG_CLAIM_TIMEOUT_SECONDS must be")


def test_a_credential_of_another_database_is_replaced_by_a_local_kernel_alone(cg: Cg, dsn: str) -> None:
    """`cg setup` keeps it, and refuses, unless it is told to replace it."""
    path = admin_service_path("cg-demo")
    path.parent.mkdir(parents=True)
    path.write_text("cgac_cred_of.another-database\n")
    path.chmod(0o600)
    refused = cg("setup", "project", "seed", "--pg-dsn", dsn)
    assert (refused.error["code"], refused.error["status"]) == ("admin_service_credential_required", 409)
    assert cg("setup", "project", "status", "--pg-dsn", dsn).result["admin_service_credential_ready"] is False
    port = free_port()
    with running("local", "run", "--port", str(port), PG_DSN=dsn):
        until_ready(f"http://127.0.0.1:{port}")
        status = cg("setup", "project", "status", "--pg-dsn", dsn)
    assert status.result["admin_service_credential_ready"] is True


# ---------------------------------------------------------------- the demo


def test_the_demo_shows_the_whole_path_and_leaves_nothing(cg: Cg) -> None:
    """The commands as a user types them, the answer, exit status 0; no process, no file."""
    done = subprocess.run(
        [warm_python(), "-m", "cgworker", "demo"],
        env={**os.environ, "TMPDIR": str(cg.home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for step in ("$ cg local run", "$ cg agent join", "$ cg worker loop", "$ cg smoke pair", "T-1 succeeded"):
        assert step in done.stdout
    assert "\x1b" not in done.stdout
    assert list(cg.home.iterdir()) == []
    assert not [line for line in command_lines() if str(cg.home) in line]


def test_an_interrupted_demo_leaves_nothing_either() -> None:
    """Ctrl-C in the middle ends its kernel, its worker and its PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="cg-") as folder:
        process = subprocess.Popen(
            [warm_python(), "-m", "cgworker", "demo", "--command", "sleep", "60"],
            env={**os.environ, "TMPDIR": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if "smoke pair" in line:
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, "interrupted" in err) == (1, True)
        assert list(Path(folder).iterdir()) == []
        until(lambda: not [line for line in command_lines() if folder in line])


def test_a_demo_that_fails_shows_why(cg: Cg) -> None:
    """The command that failed, and what it said."""
    ran = cg("demo", "--command", "/no/such/command")
    assert ran.exit_code == 1
    assert ran.stderr.startswith("demo_failed: ")
