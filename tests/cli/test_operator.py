"""What an operator does with agents and credentials, by the rights of the agent it acts as."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from cgworker.paths import credential_path
from tests.cli.conftest import Cg, Kernel, Ran

RIGHTS = ("agent.registration.birth", "agent.credential.issue.any", "agent.credential.revoke.any")


class Operator:
    """`cg agent ...` as an agent with rights, in a project."""

    def __init__(self, cg: Cg, project: str, profile: str) -> None:
        self._cg = cg
        self._flags = ("--project-id", project, "--profile", profile)

    def __call__(self, *argv: str) -> Ran:
        return self._cg("agent", *argv, *self._flags)


@pytest.fixture
def operator(cg: Cg, kernel: Kernel) -> Operator:
    return Operator(cg, kernel.project, kernel.profile(cg, "boss", grants=RIGHTS))


@pytest.fixture
def desk(operator: Operator) -> str:
    """A newly registered agent."""
    agent_id = f"desk-{secrets.token_hex(3)}"
    operator("register", "--agent-id", agent_id, "--role", "desk", "--capability", "turn.conversation.v1")
    return agent_id


def snapshot(operator: Operator, agent_id: str) -> Any:
    return operator("get", "--agent-id", agent_id).result["snapshot"]


def test_an_agent_is_registered_as_its_flags_say(cg: Cg, operator: Operator) -> None:
    """Role, capacity, capabilities, rights, metadata; and whether it takes turns at all."""
    (cg.home / "meta.json").write_text('{"ui": {"label": "Desk"}}')
    agent_id = f"desk-{secrets.token_hex(3)}"
    registered = operator(
        "register", "--agent-id", agent_id, "--role", "desk", "--capacity", "7", "--no-work",
        "--capability", "k1", "--capability", "k2", "--grant", "turn.stop.any",
        "--public-metadata-file", str(cg.home / "meta.json"),
    ).result  # fmt: skip
    assert (registered["role"], registered["capacity"], registered["accepts_work"]) == ("desk", 7, False)
    assert (registered["capabilities"], registered["grants"]) == (["k1", "k2"], ["turn.stop.any"])
    assert registered["public_metadata"] == {"ui": {"label": "Desk"}}


def test_an_update_changes_what_it_names_and_nothing_else(operator: Operator, desk: str) -> None:
    """A list that is given replaces the old one; taking all away has a flag of its own."""
    operator("update", "--agent-id", desk, "--capacity", "5", "--grant", "turn.stop.any")
    found = snapshot(operator, desk)
    assert (found["capacity"], found["grants"], found["capabilities"]) == (
        5,
        ["turn.stop.any"],
        ["turn.conversation.v1"],
    )
    operator("update", "--agent-id", desk, "--no-grants", "--disable")
    found = snapshot(operator, desk)
    assert (found["capacity"], found["grants"], found["enabled"]) == (5, [], False)
    contradictory = operator("update", "--agent-id", desk, "--no-grants", "--grant", "x")
    assert contradictory.error["code"] == "invalid_arguments"


def test_a_credential_is_issued_to_a_file_listed_and_revoked(
    cg: Cg, kernel: Kernel, operator: Operator, desk: str
) -> None:
    """Its token is never printed; after it is revoked the kernel refuses it."""
    issued = operator("credential", "issue", "--agent-id", desk, "--expires-in", "1h")
    made = issued.result["credential"]
    path = credential_path(kernel.project, desk, made["credential_id"])
    assert issued.result["token_file"] == str(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().strip() not in issued.stdout
    reading = (
        "agent", "get", "--project-id", kernel.project, "--agent-id", desk, "--auth-token-file", str(path),
        "--caller-project-id", kernel.project, "--caller-agent-id", desk,
    )  # fmt: skip
    assert cg(*reading).exit_code == 0
    credential_id = made["credential_id"]
    operator("credential", "revoke", "--agent-id", desk, "--credential-id", credential_id)
    listed = operator("credential", "list", "--agent-id", desk).result["credentials"]
    assert [(each["credential_id"], each["status"]) for each in listed] == [(credential_id, "revoked")]
    assert cg(*reading).error["code"] == "forbidden"


def test_who_has_no_rights_is_refused(cg: Cg, kernel: Kernel, desk: str) -> None:
    """An agent cannot give itself any."""
    nobody = Operator(cg, kernel.project, kernel.profile(cg, "nobody"))
    refused = nobody("update", "--agent-id", desk, "--grant", "turn.stop.any")
    assert refused.exit_code == 1
    assert refused.error["code"] in ("conflict", "fencing")


def test_a_turn_and_an_agent_have_feeds(cg: Cg, kernel: Kernel) -> None:
    """Pages of events, after a number; waiting for the first one ends with it, or with nothing."""
    profile = kernel.profile(cg, f"desk-{secrets.token_hex(3)}")
    agent_id = profile.split("/")[1]
    turn_id = kernel.dispatch(agent_id)
    flags = ("--profile", profile, "--project-id", kernel.project)
    page = cg("turn", "feed", *flags, "--turn-id", turn_id).result
    assert [event["event_type"] for event in page["items"]] == ["turn.spawned", "turn.bootstrap_recorded"]
    after = ("--after-ledger-seq", str(page["next_after_ledger_seq"]))
    assert (
        cg("turn", "feed", *flags, "--turn-id", turn_id, *after, "--wait-seconds", "1").result["items"] == []
    )
    types = [
        event["event_type"] for event in cg("agent", "feed", *flags, "--agent-id", agent_id).result["items"]
    ]
    assert types[-2:] == ["turn.spawned", "turn.bootstrap_recorded"]
