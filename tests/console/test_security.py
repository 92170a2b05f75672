"""Who may see the console, and what may ask it to write."""

from __future__ import annotations

from typing import Any

import pytest

from cgworker import KernelClient
from cgworker.console import console_app
from cgworker.errors import UsageError
from tests.console.pretender import console_of

ORIGIN = {"origin": "http://127.0.0.1:1"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def signed_in(browser: Any) -> str:
    """Open the one-time link; return the token of a form."""
    token = browser.app.state.sessions.new_link_token()
    answer = await browser.get(f"/login?token={token}")
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    html = (await browser.get("/turns/T-1/stop")).text
    return str(html.partition('name="csrf" value="')[2].partition('"')[0])


async def test_a_page_needs_a_session() -> None:
    """Without the cookie of a link nothing is told; a link works once."""
    async with console_of("x", needs_link=True) as browser:
        for path in ("/", "/turns", "/live"):
            assert (await browser.get(path)).status_code == 401
        token = browser.app.state.sessions.new_link_token()  # type: ignore[attr-defined]
        assert (await browser.get(f"/login?token={token}")).status_code == 200
        browser.cookies.clear()
        assert (await browser.get(f"/login?token={token}")).status_code == 403
        assert (await browser.get("/login?token=")).status_code == 403


async def test_another_host_is_not_answered() -> None:
    """A name that resolves to this machine is not enough."""
    async with console_of("x") as browser:
        assert (await browser.get("/turns", headers={"host": "evil.example"})).status_code == 421


@pytest.mark.parametrize(
    "origin",
    [None, "http://evil.example", "null", "http://127.0.0.1:2", "http://[", "http://127.0.0.1:1@evil"],
)
async def test_a_write_from_elsewhere_is_refused(origin: str | None) -> None:
    """Even with the session and the token of a form."""
    headers = {} if origin is None else {"origin": origin}
    async with console_of("x", needs_link=True) as browser:
        form = {"csrf": await signed_in(browser)}
        assert (await browser.post("/turns/T-1/stop", data=form, headers=headers)).status_code == 403


@pytest.mark.parametrize(
    "path", ["/turns/T-1/stop", "/turns/T-1/redo", "/turns/T-1/tell", "/turns/T-1/resume"]
)
async def test_a_write_needs_the_token_of_its_session(path: str) -> None:
    """A form without it, or with that of another session, is refused."""
    async with console_of("x", needs_link=True) as browser:
        token = await signed_in(browser)
        for wrong in ({}, {"csrf": token[:-1] + ("0" if token[-1] != "0" else "1")}, {"csrf": "é"}):
            assert (await browser.post(path, data=wrong, headers=ORIGIN)).status_code == 403


async def test_each_answer_forbids_what_is_not_the_consoles_own() -> None:
    """No inline script or style, no frame, no other site, nothing kept; on refusals too."""
    async with console_of("x", needs_link=True) as browser:
        for path in ("/turns", "/static/console.css", "/login?token=x"):
            answer = await browser.get(path)
            assert (
                "default-src 'none'; script-src 'self'; style-src 'self'"
                in answer.headers["content-security-policy"]
            )
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "unsafe" not in answer.headers["content-security-policy"]


async def test_a_form_has_a_largest_size() -> None:
    """Four megabytes, and two thousand fields."""
    async with console_of("x") as browser:
        large = {"message": "x" * 5_000_000}
        assert (await browser.post("/turns/T-1/tell", data=large, headers=ORIGIN)).status_code == 413
        many = {f"a{number}": "" for number in range(3000)}
        assert (await browser.post("/turns/T-1/tell", data=many, headers=ORIGIN)).status_code == 413


@pytest.mark.parametrize(
    ("path", "form", "status"),
    [
        ("/turns/T-1/tell", {"message": '"\\ud800"'}, 503),  # it is sent as text, to a kernel that lacks it
        ("/dispatch/a/k", {"v-0": "x", "priority": "9" * 5000}, 422),
        ("/dispatch/a/k", {"v-0": "x", "delay_seconds": "nan"}, 422),
        ("/dispatch/a/k", {"v-0": "x", "delay_seconds": "1e999"}, 422),
    ],
    ids=str,
)
async def test_what_cannot_be_sent_is_answered_with_a_page(
    path: str, form: dict[str, str], status: int
) -> None:
    """Half a character, and numbers that are none."""
    async with console_of("x") as browser:
        token = (await browser.get("/turns/T-1/stop")).text.partition('name="csrf" value="')[2]
        form["csrf"] = token.partition('"')[0]
        assert (await browser.post(path, data=form, headers=ORIGIN)).status_code == status


async def test_a_number_in_a_path_may_have_any_length() -> None:
    """Python reads no number of more than 4,300 digits."""
    async with console_of("x") as browser:
        for number in ("9" * 5000, "0", "-1", "x"):
            assert (await browser.get(f"/turns/T-1/records/{number}")).status_code == 404


async def test_the_files_of_the_console_are_all_that_is_served() -> None:
    """A path that leads out of them does not."""
    async with console_of("x") as browser:
        for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/vendor/../../app.py"):
            assert (await browser.get(path)).status_code == 404


def test_a_console_needs_an_agent() -> None:
    """Its rights are the agent's."""
    with pytest.raises(UsageError):
        console_app(KernelClient("http://127.0.0.1:9"))
