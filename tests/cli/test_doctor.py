"""`cg doctor`: one thing wrong at a time, found and told with what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from cgworker.cli.commands.doctor import check_clock
from cgworker.client import KernelClient
from cgworker.profiles import ConfigFile
from tests.cli.conftest import Cg, Kernel, Ran


def findings(ran: Ran) -> dict[str, tuple[bool, str, Any]]:
    return {
        check["name"]: (check["healthy"], check["message"], check["advice"]) for check in ran.result["checks"]
    }


def test_a_sound_installation_is_told_as_such(cg: Cg, kernel: Kernel) -> None:
    """Config, token, server, database, clock and agent."""
    name = kernel.profile(cg, "desk", capacity=3)
    ran = cg("doctor")
    assert (ran.exit_code, ran.result["healthy"]) == (0, True)
    found = findings(ran)
    assert list(found) == ["config", f"token of {name}", "server", "clock", f"agent {name}"]
    assert found[f"agent {name}"][1].endswith("it takes turn.conversation.v1, 3 at once")


def test_a_machine_without_a_config_is_no_error(cg: Cg, kernel: Kernel) -> None:
    """The defaults hold until one joins."""
    ran = cg("doctor", "--base-url", kernel.url)
    assert (ran.exit_code, findings(ran)["config"][0]) == (0, True)


def test_a_broken_config_ends_the_examination(cg: Cg) -> None:
    """Nothing else can be looked at; the file is named, with what to do."""
    path = ConfigFile.locate().path
    path.parent.mkdir(parents=True)
    path.write_text("{oops")
    ran = cg("doctor")
    assert (ran.exit_code, list(findings(ran))) == (1, ["config"])
    _, message, _ = findings(ran)["config"]
    assert message.startswith(f"{path} is no config: ")
    assert "move it away" in message


def test_an_address_that_is_none_is_told_as_such(cg: Cg) -> None:
    """No server runs at what is no address."""
    _, _, advice = findings(cg("doctor", "--base-url", "localhost:8000"))["server"]
    assert advice == "A server's address begins with http:// or https://: mend --base-url, or the config's."


def test_an_unsafe_token_file_is_told_with_the_remedy(cg: Cg, kernel: Kernel) -> None:
    """chmod is what to do."""
    name = kernel.profile(cg, "desk")
    (cg.home / "desk.token").chmod(0o644)
    healthy, _, advice = findings(cg("doctor"))[f"token of {name}"]
    assert not healthy
    assert "chmod 600" in advice


def test_a_server_that_is_down_is_named(cg: Cg) -> None:
    """With the command that starts one; what depends on it is not looked at."""
    ran = cg("doctor", "--base-url", "http://127.0.0.1:1")
    healthy, message, advice = findings(ran)["server"]
    assert (ran.exit_code, healthy, message) == (1, False, "[Errno 111] Connection refused")
    assert "cg local run" in advice
    assert "clock" not in findings(ran)


def test_the_database_of_a_kernel_started_here_is_looked_at(
    cg: Cg, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where this environment names one, and nothing is changed in it."""
    monkeypatch.setenv("PG_DSN", dsn)
    healthy, message, _ = findings(cg("doctor"))["database"]
    assert healthy
    assert message.startswith("PostgreSQL ")
    monkeypatch.setenv("PG_DSN", "postgresql://nobody@127.0.0.1:1/none")
    healthy, message, advice = findings(cg("doctor"))["database"]
    assert not healthy
    assert message.startswith("PostgreSQL is unavailable")
    assert "PG_DSN" in advice


def test_a_credential_that_is_no_longer_accepted_is_found(cg: Cg, kernel: Kernel) -> None:
    """The kernel is asked, not only the file looked at."""
    name = kernel.profile(cg, "desk")
    (cg.home / "desk.token").write_text("cgac_cred_x.y\n")
    healthy, message, _ = findings(cg("doctor", "--profile", name))[f"agent {name}"]
    assert (healthy, message) == (False, "agent credential not found")


@pytest.mark.parametrize(
    ("skew", "healthy", "told"), [(1, True, "agrees"), (90, False, "behind"), (-90, False, "ahead of")]
)
async def test_a_clock_that_differs_is_found(skew: int, healthy: bool, told: str) -> None:
    """By the date that every answer carries."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=skew), usegmt=True)

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={}, headers={"date": date})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        check = await check_clock(KernelClient("http://kernel", http=http))
    assert check.healthy == healthy
    assert told in check.message
