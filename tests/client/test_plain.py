"""Who sends a secret over plain http to another machine is warned."""

from __future__ import annotations

import logging

import pytest

from cgworker.client import AdmissionClient, KernelClient
from cgworker.client.plaintext_warning import warn_of_plain_http


@pytest.fixture(autouse=True)
def _nobody_was_warned() -> None:
    warn_of_plain_http.cache_clear()


@pytest.mark.parametrize("url", ["http://kernel.example.org", "HTTP://10.0.0.7:8000", "http://[fd00::1]/api"])
def test_a_bearer_over_plain_http_is_warned_of_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the host; not at each client, or a fleet's log would hold nothing else."""
    with caplog.at_level(logging.WARNING, "cgworker"):
        for _ in range(2):
            KernelClient(url, token="cgac_secret")
    assert len(caplog.records) == 1
    assert "is plain http" in caplog.text
    assert "cgac_secret" not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "https://kernel.example.org",
        "http://127.0.0.1:8000",
        "http://127.8.8.8",
        "http://localhost:8000",
        "http://[::1]:8000",
        "http://desk.localhost",
    ],
)
def test_loopback_and_tls_are_not_warned_of(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is in between."""
    KernelClient(url, token="cgac_secret")
    AdmissionClient(url, token="a-bearer")
    assert caplog.records == []


def test_who_sends_no_secret_is_not_warned(caplog: pytest.LogCaptureFixture) -> None:
    """The health routes need none."""
    KernelClient("http://kernel.example.org")
    AdmissionClient("http://admission.example.org")
    assert caplog.records == []


def test_the_operators_bearer_is_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    """As an agent's credential is."""
    AdmissionClient("http://admission.example.org", token="a-bearer")
    assert "admission.example.org is plain http" in caplog.text


async def test_a_join_code_is_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever reads it first has the agent."""
    from cgworker.errors import KernelTrouble

    async with AdmissionClient("http://admission.invalid") as admission:
        with pytest.raises(KernelTrouble):
            await admission.redeem("cgjc_code")
    assert "admission.invalid is plain http" in caplog.text
