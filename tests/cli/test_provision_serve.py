"""`cg provision serve`, killed and ended, against `cg local run` with admission."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from cgworker.paths import admin_service_path
from cgworker.profiles import ConfigFile, Profile
from tests.cli.conftest import Cg
from tests.cli.test_admission import bearer, ensure, operator_home, server  # noqa: F401  # fixtures
from tests.cli.test_worker import until
from tests.handlers.test_child import is_alive

ANSWER = """printf '{"worker": %s, "role": "%s"}' $PPID $CG_AGENT_ROLE >"$CG_FINAL_FILE" """
SPAWN = "turn.provision.agent.spawn.v1"


@frozen
class Site:
    """An asker and a provisioner, on the machine of the operator."""

    cg: Cg

    def serve(self, *flags: str) -> subprocess.Popen[bytes]:
        """Start the provisioner."""
        return self.cg.start(
            sys.executable,  # it is killed, and its memory closed: no warm one
            *("provision", "serve", "--profile", "cg-demo/provisioner", "--grace-seconds", "5", *flags),
            *("--command", "sh", "-c", ANSWER),
        )

    def spawn(self, role: str = "desk") -> Any:
        """Ask for an agent by `cg provision spawn`, and return the closed turn's deliverable."""
        asked = self.cg(
            *("provision", "spawn", "--project-id", "cg-demo", "--requested-by", "asker"),
            *("--provisioner-agent", "provisioner", "--role", role),
            *("--request-id", f"spawn-{role}"),
        ).result
        self.cg("turn", "wait", "--profile", "cg-demo/asker", asked["turn_id"], "--timeout-seconds", "60")
        return self.payload(asked["turn_id"])

    def payload(self, turn_id: str) -> Any:
        """The final payload of a turn."""
        return self.cg("turn", "context", "--profile", "cg-demo/asker", turn_id).result["turn"][
            "final_payload"
        ]

    def ask(self, agent_id: str, *more: str) -> Any:
        """Ask an agent, and return what came of it."""
        return self.cg(
            "ask", agent_id, *(more or ("hello",)), "--profile", "cg-demo/asker", "--timeout-seconds", "60"
        ).result["final_payload"]


@pytest.fixture
def site(cg: Cg, bearer: Path, operator_home: Path) -> Site:  # noqa: F811
    """Everything is registered."""
    assert bearer.exists()
    ensure(cg, "asker")
    there = admin_service_path("cg-demo").relative_to(cg.home)
    operator = ("--project-id", "cg-demo", "--admin-service-token-file", str(operator_home / there))
    cg("agent", "register", "--agent-id", "provisioner", "--role", "p", "--capability", SPAWN, *operator)
    issued = cg("agent", "credential", "issue", "--agent-id", "provisioner", *operator).result
    token_file = Path(issued["token_file"])
    ConfigFile.locate().save_profile(
        Profile(project_id="cg-demo", agent_id="provisioner", token_file=token_file)
    )
    return Site(cg)


def test_an_agent_is_provided_and_outlives_the_death_of_its_worker_and_of_its_provisioner(
    site: Site,
) -> None:
    """It is admitted once, has one worker at a time, and none after the provisioner was told to end."""
    first = site.serve()
    agent_id = site.spawn()["new_agent_ref"]["agent_id"]
    one = site.ask(agent_id)
    os.kill(one["worker"], signal.SIGKILL)
    two = site.ask(agent_id)
    assert two["worker"] != one["worker"]
    first.kill()
    first.wait()
    second = site.serve()
    three = site.ask(agent_id)
    second.terminate()
    assert second.wait(30) == 0
    until(lambda: not any(is_alive(answer["worker"]) for answer in (one, two, three)))
    assert site.spawn()["new_agent_ref"]["agent_id"] == agent_id  # the same request: nobody is admitted anew
