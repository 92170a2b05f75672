"""`cg local run` is found by the commands of its machine, wherever it listens."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cgworker.local_server import find_server
from cgworker.paths import local_server_path
from cgworker.profiles import resolve_profile
from tests.cli.conftest import Cg
from tests.cli.test_servers import free_port, running, until

pytestmark = pytest.mark.usefixtures("cg")

NOWHERE = "http://127.0.0.1:1"


def test_a_local_kernel_is_found_on_whatever_port_it_is(cg: Cg) -> None:
    """Who invites, ensures a profile and asks on the same machine gives no address and no bearer."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running("local", "run", "--port", str(port)):
        until(lambda: find_server("cg-demo") == url)
        invite = cg("admission", "invite", "create", "--agent-id", "w").result
        assert invite["join_command"] == f"cg agent join {url} {invite['join_code']}"
        ensured = cg(
            "profile", "ensure-agent", "--profile", "cg-demo/asker", "--project-id", "cg-demo",
            "--requested-agent-id", "asker", "--runtime-kind", "test.v1", "--display-name", "Asker",
        )  # fmt: skip
        assert ensured.result["profile"] == "cg-demo/asker"
        assert resolve_profile("cg-demo/asker").base_url == url
        looked = cg(
            "agent", "get", "--profile", "cg-demo/asker", "--project-id", "cg-demo", "--agent-id", "w"
        )
        assert looked.error["code"] == "not_found"  # it has not joined
        # Who names another server is told where this one is.
        elsewhere = cg("admission", "invite", "create", "--agent-id", "v", "--admin-base-url", NOWHERE)
        assert f"A kernel on this machine serves cg-demo at {url}" in elsewhere.stderr
    assert find_server("cg-demo") is None


def test_what_a_killed_kernel_left_is_not_believed(cg: Cg) -> None:
    """Its address stays in the file; the port may be somebody else's by now."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "cgworker", "local", "run", "--port", str(port)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: find_server("cg-demo") is not None)
    finally:
        process.kill()
        process.wait()
    assert local_server_path("cg-demo").read_text() == f"http://127.0.0.1:{port}"
    assert find_server("cg-demo") is None
    refused = cg("admission", "invite", "create", "--agent-id", "w", "--json")
    assert f":{port}" not in refused.stdout + refused.stderr
