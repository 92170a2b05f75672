"""A credential in a file may be replaced while its client lives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from cgworker import AgentRef, KernelClient
from cgworker.errors import ForbiddenError, ProfileError, UnauthorizedError
from cgworker.private import replace_private

AGENT = AgentRef(project_id="p", agent_id="a")


class Door:
    """Lets one token in, and keeps what it was shown."""

    def __init__(self, admitted: str, status: int = 401) -> None:
        self.admitted = admitted
        self.status = status
        self.shown: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.shown.append(token)
        return httpx.Response(200 if token == self.admitted else self.status, json=None)

    def client(self, file: Path, token: str | None = None) -> KernelClient:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self))
        return KernelClient("http://kernel", agent=AGENT, token=token, token_file=file, http=http)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    replace_private(tmp_path / "a.token", "old\n")
    return tmp_path / "a.token"


async def test_a_file_that_changed_is_read_before_the_next_request(file: Path) -> None:
    """Also by the client's twin, and nothing is refused meanwhile."""
    door = Door("old")
    kernel = door.client(file)
    twin = kernel.with_own_connections()
    await kernel.send("GET", "/")
    replace_private(file, "new\n")
    door.admitted = "new"
    for client in (kernel, twin):
        await client.send("GET", "/")
    assert door.shown == ["old", "new", "new"]
    assert kernel.secrets == ("new", "old")  # both are to be kept out of logs


async def test_the_file_is_looked_at_once_a_request(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading it is for a change only."""
    kernel, looks, stat = Door("old").client(file), list[Path](), Path.stat

    def counting(path: Path, **options: Any) -> os.stat_result:
        looks.append(path)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", counting)
    for _ in range(10):
        await kernel.send("GET", "/")
    assert looks == [file] * 10


def _write_unnoticed(file: Path, text: str) -> None:
    before = file.stat()
    file.write_text(text)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _harm(file: Path, harm: str) -> None:
    if harm == "gone":
        file.unlink()
    elif harm == "readable by others":
        file.write_text("new")
        file.chmod(0o644)
    else:
        file.write_bytes(b"" if harm == "empty" else b"\xff\xfe")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_read_again_and_the_request_made_once_more(file: Path, status: int) -> None:
    """Although nothing about the file seems to have changed."""
    door = Door("new", status)
    kernel = door.client(file)
    _write_unnoticed(file, "new\n")
    await kernel.send("GET", "/")
    assert door.shown == ["old", "new"]


@pytest.mark.parametrize(("status", "error"), [(401, UnauthorizedError), (403, ForbiddenError)])
async def test_a_refusal_stands_where_the_file_says_the_same(
    file: Path, status: int, error: type[Exception]
) -> None:
    """It is not asked a second time; without a file neither."""
    door = Door("other", status)
    with pytest.raises(error):
        await door.client(file).send("GET", "/")
    http = httpx.AsyncClient(transport=httpx.MockTransport(door))
    with pytest.raises(error):
        await KernelClient("http://kernel", agent=AGENT, token="t", http=http).send("GET", "/")
    assert door.shown == ["old", "t"]


@pytest.mark.parametrize("harm", ["gone", "empty", "readable by others", "not text"])
async def test_a_file_that_cannot_be_read_again_leaves_the_token(file: Path, harm: str) -> None:
    """As in the middle of its replacement; the next change is seen."""
    door = Door("old")
    kernel = door.client(file)
    _harm(file, harm)
    await kernel.send("GET", "/")
    replace_private(file, "newer")
    door.admitted = "newer"
    await kernel.send("GET", "/")
    assert door.shown == ["old", "newer"]


def test_a_file_that_others_may_read_is_refused_at_first(file: Path) -> None:
    """As a profile's is."""
    file.chmod(0o640)
    with pytest.raises(ProfileError, match="0600"):
        KernelClient("http://kernel", agent=AGENT, token_file=file)
