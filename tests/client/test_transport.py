"""Every way an exchange can end is one error of ours, or an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from cgworker import AdmissionClient, KernelClient, KernelRefused, KernelTrouble
from cgworker.client.transport import WAIT_MARGIN_SECONDS
from cgworker.errors import (
    AnswerInvalid,
    CommonGroundError,
    ConflictError,
    FencingError,
    ForbiddenError,
    InvalidRequest,
    InvariantError,
    KernelOverloaded,
    KernelTimedOut,
    KernelUnreachable,
    NotFoundError,
    PayloadTooLarge,
    UnauthorizedError,
    UsageError,
)
from tests.client.peer import AGENT, Peer


async def error_of(peer: Peer) -> CommonGroundError:
    """What a call raises."""
    with pytest.raises(CommonGroundError) as raised:
        await peer.kernel().readyz()
    return raised.value


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("status", "named", "cls"),
    [
        (401, "UnauthorizedError", UnauthorizedError),
        (403, "ForbiddenError", ForbiddenError),
        (404, "NotFoundError", NotFoundError),
        (409, "ConflictError", ConflictError),
        (409, "FencingError", FencingError),
        (422, "InvariantError", InvariantError),
    ],
)
async def test_a_kernels_refusal_is_the_class_it_names(
    status: int, named: str, cls: type[KernelRefused], answering: Callable[..., Peer]
) -> None:
    """Two errors of one status are told apart, and the kernel's words are kept."""
    error = await error_of(answering({"error": named, "message": "said so"}, status))
    assert type(error) is cls
    assert (str(error), error.status) == ("said so", status)
    assert error.answer == f'{{"error":"{named}","message":"said so"}}'


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, KernelRefused),
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (405, KernelRefused),
        (409, ConflictError),
        (410, KernelRefused),
        (413, PayloadTooLarge),
        (418, KernelRefused),
        (422, KernelRefused),
    ],
)
@pytest.mark.parametrize(
    "body", [{"detail": "no"}, {"error": "Unheard", "message": "no"}, ["no"], "no", None]
)
async def test_any_other_refusal_is_known_by_its_status(
    status: int, cls: type[KernelRefused], body: Any, answering: Callable[..., Peer]
) -> None:
    """A proxy's words do not matter; they are still shown."""
    error = await error_of(answering(body, status))
    assert type(error) is cls
    assert str(error)


async def test_a_refusal_without_a_word_shows_its_status() -> None:
    """So that a message is never empty."""
    assert str(await error_of(Peer(lambda _: httpx.Response(404)))) == "HTTP status 404"


async def test_an_invalid_request_brings_its_faults(answering: Callable[..., Peer]) -> None:
    """All of them, with their places."""
    faults = [{"type": "missing", "loc": ["body", "agent"], "msg": "Field required", "input": {}}]
    error = await error_of(answering({"detail": faults}, 422))
    assert isinstance(error, InvalidRequest)
    assert list(error.faults) == faults
    assert str(error) == "body.agent: Field required"


async def test_the_admission_service_gives_codes_of_its_own(answering: Callable[..., Peer]) -> None:
    """They say more than the class does (admission 3)."""
    body = {"error": "ForbiddenError", "code": "join_code_used", "message": "already"}
    with pytest.raises(KernelRefused) as refused:
        await answering(body, 403).admission().redeem("cgjoin_1")
    assert (refused.value.code, refused.value.status, str(refused.value)) == (
        "join_code_used",
        403,
        "already",
    )


# ---------------------------------------------------------------- trouble


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
async def test_a_kernel_in_trouble_is_worth_another_try(status: int, answering: Callable[..., Peer]) -> None:
    """Whatever it says, also a body that would be a refusal under another status."""
    for body in (
        {"error": "ConflictError", "message": "m"},
        {"error": "E", "code": "c", "message": "m"},
        "m",
    ):
        error = await error_of(answering(body, status))
        assert type(error) is KernelOverloaded
        assert isinstance(error, KernelTrouble)
        assert error.status == status


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("-3", None),
        ("inf", None),
        ("nan", None),
        ("", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
async def test_retry_after_is_taken_in_seconds(
    said: str, seconds: float | None, answering: Callable[..., Peer]
) -> None:
    """Anything else counts as not said; above all nothing that would mean waiting for ever."""
    error = await error_of(answering("busy", 503, {"retry-after": said}))
    assert isinstance(error, KernelOverloaded)
    assert error.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("broken", "cls"),
    [
        (httpx.ConnectError("refused"), KernelUnreachable),
        (httpx.ReadError("reset"), KernelUnreachable),
        (httpx.RemoteProtocolError("hung up"), KernelUnreachable),
        (httpx.UnsupportedProtocol("gopher"), KernelUnreachable),
        (httpx.ConnectTimeout("late"), KernelTimedOut),
        (httpx.ReadTimeout("late"), KernelTimedOut),
        (httpx.PoolTimeout("late"), KernelTimedOut),
    ],
)
async def test_a_broken_connection_is_trouble(broken: httpx.TransportError, cls: type[KernelTrouble]) -> None:
    """The cause is kept, the class is ours, and a text is never empty."""

    def breaks(_: httpx.Request) -> httpx.Response:
        raise broken

    error = await error_of(Peer(breaks))
    assert type(error) is cls
    assert error.__cause__ is broken
    assert str(error)


async def test_an_address_that_is_none_is_trouble() -> None:
    """A mistyped base URL is an error with a text and no traceback of a library below."""
    for address in ("http://[", "kernel:8000", "http://"):
        async with KernelClient(address) as kernel:
            with pytest.raises(KernelUnreachable):
                await kernel.readyz()


def test_a_port_that_is_none_is_said_at_once() -> None:
    """No server will ever answer there."""
    with pytest.raises(UsageError, match="not a port: 70000"):
        KernelClient("http://127.0.0.1:70000/")


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize("content", [b"<html>", b"{", b"[NaN]", b'"\xff"', b"\xed\xa0\x80 1234567890123456"])
async def test_an_answer_that_is_not_json_is_invalid(content: bytes) -> None:
    """Something else answers at this address."""
    assert isinstance(await error_of(Peer(lambda _: httpx.Response(200, content=content))), AnswerInvalid)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # httpx leaves its stream open, and trio complains
async def test_an_answer_that_cannot_be_unpacked_is_invalid() -> None:
    """A proxy that promises gzip and sends something else."""
    headers = {"content-encoding": "gzip"}
    peer = Peer(lambda _: httpx.Response(200, headers=headers, stream=httpx.ByteStream(b"no gzip")))
    assert isinstance(await error_of(peer), AnswerInvalid)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_taken_for_no_work(status: int, answering: Callable[..., Peer]) -> None:
    """An empty answer means that there is no turn; a redirect means that the address is wrong."""
    peer = answering(None, status, {"location": "https://elsewhere/"})
    with pytest.raises(AnswerInvalid, match="https://elsewhere/"):
        await peer.kernel().claims.claim(AGENT)


async def test_an_answer_of_the_wrong_form_is_invalid(answering: Callable[..., Peer]) -> None:
    """JSON, but not this protocol's."""
    with pytest.raises(AnswerInvalid, match="AgentSnapshot"):
        await answering({"hello": "world"}).kernel().agents.get(AGENT)


# ---------------------------------------------------------------- time


def timeouts(peer: Peer) -> set[float]:
    return set(peer.asked.extensions["timeout"].values())


async def test_a_call_waits_no_longer_than_it_was_told(answering: Callable[..., Peer]) -> None:
    """Five seconds, unless said otherwise."""
    peer = answering({"status": "ready"})
    await peer.kernel().readyz()
    assert timeouts(peer) == {5.0}
    patient = answering({"status": "ready"})
    await KernelClient("http://k", timeout_seconds=60, http=patient.connections()).readyz()
    assert timeouts(patient) == {60.0}


async def test_a_long_poll_outlasts_the_kernels_wait(answering: Callable[..., Peer]) -> None:
    """Giving up before the kernel answers would lose a claim."""
    peer = answering(None)
    await peer.kernel().claims.claim(AGENT, wait_seconds=20)
    assert timeouts(peer) == {5.0 + 20 + WAIT_MARGIN_SECONDS}


@pytest.mark.parametrize(
    ("wait_seconds", "prefer"), [(0, None), (0.5, None), (1, "wait=1"), (59.9, "wait=59")]
)
async def test_a_wish_to_wait_is_in_whole_seconds(
    wait_seconds: float, prefer: str | None, answering: Callable[..., Peer]
) -> None:
    """RFC 7240 knows no others; less than one is not asked for."""
    peer = answering({"items": [], "next_after_ledger_seq": 0})
    await peer.kernel().agents.feed(AGENT, wait_seconds=wait_seconds)
    assert peer.asked.headers.get("prefer") == prefer


@pytest.mark.parametrize(
    ("applied", "waited"),
    [
        (None, False),
        ("return=representation", False),
        ("return=representation, wait=20", True),
        ("wait=1", True),
    ],
)
async def test_whether_the_kernel_waited_is_known(
    applied: str | None, waited: bool, answering: Callable[..., Peer]
) -> None:
    """The reference's kernel does not wait; a worker then has to."""
    peer = answering(None, headers={"preference-applied": applied} if applied else {})
    assert (await peer.kernel().claims.claim(AGENT, wait_seconds=20)).waited is waited


# ---------------------------------------------------------------- connections


async def test_given_connections_stay_open_and_own_ones_are_closed(answering: Callable[..., Peer]) -> None:
    """Who opened them closes them."""
    peer = answering({"status": "ready"})
    given = peer.connections()
    for client in (KernelClient, AdmissionClient):
        async with client("http://k", http=given):
            pass
    assert not given.is_closed
    async with KernelClient("http://127.0.0.1:9") as kernel:
        pass
    with pytest.raises(RuntimeError):
        await kernel.readyz()


async def test_a_client_shows_no_secret(answering: Callable[..., Peer]) -> None:
    """It is printed in tracebacks."""
    kernel = answering().kernel()
    assert "cgac" not in repr(kernel) + repr(vars(kernel)["turns"])
    assert repr(kernel) == "KernelClient('http://kernel:8000', agent=p/a)"
