"""Invites, profiles and purging, against `cg local run` as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgworker.paths import admin_bearer_path, credential_path
from cgworker.profiles import ConfigFile
from tests.cli.conftest import Cg, Ran
from tests.cli.test_terminal import on_a_terminal
from tests.warm import warm_python


@pytest.fixture(scope="module")
def operator_home() -> Iterator[Path]:
    """Where the operator's secrets are."""
    with tempfile.TemporaryDirectory(prefix="cg-home-") as home:
        yield Path(home)


@pytest.fixture(scope="module")
def server(dsn: str, operator_home: Path) -> Iterator[str]:
    """The address of a kernel with admission."""
    process = subprocess.Popen(
        [warm_python(), "-m", "cgworker", "local", "run", "--port", "0", "--pg-dsn", dsn],
        env={**os.environ, "HOME": str(operator_home)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    starting = process.stderr.readline()
    process.stderr.readline()  # uvicorn says that it has started
    yield next(word.removeprefix("base_url=") for word in starting.split() if word.startswith("base_url="))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


@pytest.fixture
def bearer(cg: Cg, server: str, operator_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's config leads to the server, with the operator's bearer."""
    with monkeypatch.context() as patch:
        patch.setenv("HOME", str(operator_home))
        path = admin_bearer_path("cg-demo")
    cg(
        "setup", "project", "client-config",
        "--base-url", server, "--admin-base-url", server, "--admin-auth-token-file", str(path),
    )  # fmt: skip
    return path


def ensure(cg: Cg, agent_id: str, *more: str) -> Ran:
    return cg(
        "profile", "ensure-agent", "--profile", f"cg-demo/{agent_id}", "--project-id", "cg-demo",
        "--requested-agent-id", agent_id, "--runtime-kind", "test.v1", "--display-name", agent_id, *more,
    )  # fmt: skip


@pytest.mark.usefixtures("bearer")
def test_an_invite_is_made_listed_and_revoked(cg: Cg, tmp_path: Path) -> None:
    """Its code is shown once, and works no more after that."""
    out = tmp_path / "invite.json"
    made = cg(
        "admission", "invite", "create", "--agent-id", "w", "--grant", "turn.stop.any", "--out", str(out)
    )
    code, invite_id = made.result["join_code"], made.result["invite"]["invite_id"]
    assert made.result["join_command"].endswith(code)
    assert (out.stat().st_mode & 0o777, code in out.read_text()) == (0o600, True)
    listed = cg("admission", "invite", "list")
    assert (listed.result["invites"][0]["invite_id"], code in listed.stdout) == (invite_id, False)
    assert cg("admission", "invite", "revoke", "--invite-id", invite_id).result["invite"]["disabled"] is True
    assert cg("agent", "join", "--join-code", code).error["code"] == "join_code_disabled"


@pytest.mark.usefixtures("bearer")
def test_a_code_can_be_used_as_often_as_it_says(cg: Cg) -> None:
    """Each use gives a credential of its own; the profile is the last one's."""
    made = cg("admission", "invite", "create", "--agent-id", "often", "--max-uses", "2").result
    first = cg("agent", "join", "--join-code", made["join_code"]).result["credential_id"]
    second = cg("agent", "join", "--join-code", made["join_code"]).result["credential_id"]
    assert first != second
    assert ConfigFile.locate().read().profile("cg-demo/often").credential_id == second
    assert credential_path("cg-demo", "often", first).exists()
    assert cg("agent", "join", "--join-code", made["join_code"]).error["code"] == "join_code_used"


@pytest.mark.usefixtures("bearer")
def test_a_profile_that_works_is_kept_and_one_that_does_not_is_made_anew(cg: Cg) -> None:
    """The kernel is asked about its token; gone, empty and refused ones are replaced."""

    def credential() -> str:
        made = ensure(cg, "clerk")
        return str(made.result["credential_id"])

    first = credential()
    assert credential() == first
    path = credential_path("cg-demo", "clerk", first)
    path.write_text("cgac_cred_x.y\n")
    second = credential()
    assert second != first
    credential_path("cg-demo", "clerk", second).unlink()
    assert credential() not in (first, second)


def test_without_a_good_bearer_no_profile_is_made(cg: Cg, server: str) -> None:
    """None, or a wrong one: profile_auth_required."""
    flags = ("--admin-base-url", server, "--base-url", server)
    for more in ((), ("--admin-auth-token", "wrong")):
        refused = ensure(cg, "clerk-2", *flags, *more)
        assert refused.error["code"] == "profile_auth_required"


@pytest.mark.usefixtures("bearer")
def test_a_profile_is_named_after_its_agent(cg: Cg) -> None:
    """Another name, a blank one, or two codes are wrong usage."""
    for more in (
        ("--profile", "cg-demo/other"),
        ("--display-name", " "),
        ("--invitation-code", "a", "--invitation-code-file", "b"),
    ):
        assert ensure(cg, "clerk-3", *more).error["code"] == "invalid_arguments"


@pytest.mark.usefixtures("bearer")
def test_a_spawn_is_a_turn_for_a_provisioner(cg: Cg) -> None:
    """Its payload names the role; a provisioner that cannot is refused by the kernel."""
    ensure(cg, "asker")
    ensure(cg, "provisioner")
    refused = cg(
        "provision", "spawn", "--project-id", "cg-demo", "--requested-by", "asker",
        "--provisioner-agent", "provisioner", "--role", "desk", "--request-id", "s-1",
    )  # fmt: skip
    assert "turn.provision.agent.spawn.v1" in refused.error["message"]


@pytest.mark.usefixtures("bearer")
@pytest.mark.parametrize(
    ("manifest", "flags", "code"),
    [
        ("[]", (), "invalid_input"),
        ('{"meta": {}}', (), "invalid_input"),
        ('{"request_id": "a", "records": []}', ("--request-id", "b"), "invalid_arguments"),
        ("{oops", (), "invalid_json"),
    ],
)
def test_a_manifest_that_cannot_be_meant_is_not_sent(
    cg: Cg, tmp_path: Path, manifest: str, flags: tuple[str, ...], code: str
) -> None:
    """What is wrong with it is told from here."""
    path = tmp_path / "m.json"
    path.write_text(manifest)
    ran = cg(
        "report",
        "work-memory",
        "--project-id",
        "cg-demo",
        "--agent-id",
        "a",
        "--manifest-file",
        str(path),
        *flags,
    )
    assert ran.error["code"] == code


@pytest.mark.usefixtures("server")
def test_a_purge_tells_what_it_removed(cg: Cg, dsn: str) -> None:
    """And asks for an age; by default nothing goes."""
    purged = cg("admin", "purge", "--older-than", "90d", "--pg-dsn", dsn).result
    assert (purged["older_than_seconds"], purged["turn_count"]) == (90 * 86400, 0)
    assert cg("admin", "purge", "--pg-dsn", dsn).error["code"] == "invalid_arguments"


@pytest.mark.usefixtures("server")
def test_a_purge_takes_no_number_without_a_unit(cg: Cg, dsn: str) -> None:
    """Who means days must not get seconds."""
    refused = cg("admin", "purge", "--older-than", "30", "--pg-dsn", dsn)
    assert (refused.exit_code, refused.error["code"]) == (1, "invalid_arguments")
    assert "24h" in refused.error["message"]


@pytest.mark.usefixtures("server")
def test_a_dry_purge_removes_nothing(cg: Cg, dsn: str) -> None:
    """It tells the same numbers."""
    dry = cg("admin", "purge", "--older-than", "90d", "--dry-run", "--pg-dsn", dsn).result
    assert dry == {**cg("admin", "purge", "--older-than", "90d", "--pg-dsn", dsn).result, "dry_run": True}


@pytest.mark.usefixtures("server", "cg")
def test_a_purge_asks_a_person(dsn: str) -> None:
    """Anything but yes removes nothing; --yes and --dry-run do not ask."""
    command = ("admin", "purge", "--older-than", "90d", "--pg-dsn", dsn)
    for typed, expected in (("y\n", "turn count"), ("\n", "nothing was removed")):
        seen = on_a_terminal(*command, typed=typed)
        assert "Remove for ever from cg-demo what is over for 90d: 0 turns, 0 records" in seen
        assert expected in seen
    for flag in ("--yes", "--dry-run"):
        seen = on_a_terminal(*command, flag)
        assert "[y/N]" not in seen
        assert "turn count" in seen
