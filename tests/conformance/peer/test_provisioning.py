"""Our provisioner, asked by the reference's `cg provision spawn`, and at the reference's server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from cgworker.private import replace_private
from cgworker.profiles import ConfigFile, Profile
from cgworker.provisioning import SPAWN_KIND
from tests.conformance.peer.desk import REQUESTER, Desk
from tests.conformance.peer.site import PROJECT
from tests.conformance.peer.software import OURS, Home, their_client

ANSWER = """printf '{"role": "%s"}' "$CG_AGENT_ROLE" > "$CG_FINAL_FILE" """
PARTNERS = {
    "their-cg-our-kernel": (their_client, "our_site"),
    "our-cg-their-kernel": (lambda: OURS, "their_site"),
    "their-cg-their-kernel": (their_client, "their_site"),
}


@pytest.fixture(params=PARTNERS)
def desk(request: pytest.FixtureRequest) -> Desk:
    """Somebody who asks, with a `cg` set up in the home of the kernel's operator."""
    program, site = PARTNERS[request.param]
    site = request.getfixturevalue(site)
    desk = Desk(Home(site.home, program()), site)
    desk.cg.result(
        "setup", "project", "client-config", "--project-id", PROJECT,
        "--base-url", site.url, "--admin-base-url", site.url,
    )  # fmt: skip
    desk.join_requester()
    return desk


@pytest.fixture
def provisioner(desk: Desk, tmp_path: Path) -> Iterator[str]:
    """`cg provision serve`, with a home of its own, and the admin API's bearer."""
    agent_id = f"provisioner-{secrets.token_hex(3)}"

    async def register() -> str:
        return await desk.site.register(agent_id, kind=SPAWN_KIND)

    token_file, bearer_file = tmp_path / "token", tmp_path / "bearer"
    replace_private(token_file, f"{anyio.run(register)}\n")
    replace_private(bearer_file, f"{desk.site.admin_bearer}\n")
    profile = Profile(project_id=PROJECT, agent_id=agent_id, token_file=token_file)
    ConfigFile(tmp_path / ".config/commonground/config.json").save_profile(profile)
    serve = (
        "provision", "serve", "--profile", f"{PROJECT}/{agent_id}", "--base-url", desk.site.url,
        "--admin-base-url", desk.site.url, "--admin-auth-token-file", str(bearer_file),
        "--role", "desk", "--grace-seconds", "5", "--command", "sh", "-c", ANSWER,
    )  # fmt: skip
    with Home(tmp_path, OURS).running(*serve) as process:
        yield agent_id
        process.terminate()
        assert process.wait(30) == 0


def test_an_agent_that_is_asked_for_is_admitted_and_answers(desk: Desk, provisioner: str) -> None:
    """The launch is on record, the deliverable names the agent, and the same request is the same turn."""
    asked = spawn(desk, provisioner, "desk", "first")
    assert (asked["turn_kind"], asked["requested_role"]) == (SPAWN_KIND, "desk")
    provided = desk.turn("wait", asked["turn_id"], "--timeout-seconds", "30")
    assert provided["outcome"] == "succeeded", provided
    agent_id = provided["final_payload"]["new_agent_ref"]["agent_id"]
    context = desk.turn("context", asked["turn_id"])["semantic_items"]
    records = {item["record"]["record_role"]: item["content"]["cards"][0]["content"] for item in context}
    launched = {"kind": "provision_launch_started.v1", "assigned_agent_id": agent_id, "role": "desk"}
    assert records["provision_launch_started"]["data"] == launched
    assert spawn(desk, provisioner, "desk", "first")["turn_id"] == asked["turn_id"]
    answered = desk.turn("wait", desk.dispatch(agent_id), "--timeout-seconds", "30")
    assert answered["final_payload"] == {"role": "desk"}


def test_a_role_that_is_not_provided_is_refused_in_the_turn(desk: Desk, provisioner: str) -> None:
    """The client that asks learns it as it learns every failure."""
    asked = spawn(desk, provisioner, "pirate", "second")
    refused = desk.turn("wait", asked["turn_id"], "--timeout-seconds", "30")
    assert (refused["outcome"], refused["final_payload"]["error"]) == ("failed", "role_not_provided")


def spawn(desk: Desk, provisioner: str, role: str, key: str) -> dict[str, str]:
    """`cg provision spawn` as the requester."""
    result: dict[str, str] = desk.cg.result(
        "provision", "spawn", "--project-id", PROJECT, "--requested-by", REQUESTER,
        "--provisioner-agent", provisioner, "--role", role, "--request-id", f"{provisioner}-{key}",
    )  # fmt: skip
    return result
