"""Where a server of this machine is: said by who serves, and believed while it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from cgworker.local_server import announced, find_server, find_servers
from cgworker.paths import local_server_path
from cgworker.profiles import DEFAULT_BASE_URL, Config, kernel_url_of

URL = "http://127.0.0.1:4711"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_server_is_found_while_it_serves() -> None:
    """By its project."""
    assert find_server("p") is None
    with announced("p", URL):
        assert (find_server("p"), find_server("q")) == (URL, None)
        assert find_servers() == {"p": URL}
    assert (find_server("p"), find_servers()) == (None, {})


def test_what_nobody_holds_is_not_believed() -> None:
    """A server that was killed leaves its address behind."""
    with announced("p", URL):
        pass
    local_server_path("p").write_text(URL)
    assert find_server("p") is None


def test_the_first_of_two_servers_is_found() -> None:
    """The second serves nevertheless, and takes nothing away when it ends."""
    with announced("p", URL):
        with announced("p", "http://127.0.0.1:1"):
            assert find_server("p") == URL
        assert find_server("p") == URL


def test_a_server_that_cannot_say_where_it_is_serves(home: Path) -> None:
    """A home that cannot be written, or an id that is no name of a file."""
    (home / ".local").write_text("a file, where a folder should be")
    for project in ("p", "../p"):
        with announced(project, URL):
            assert find_server(project) is None


def test_what_is_named_beats_what_is_found() -> None:
    """Variable and config are somebody's word; where nothing is found, the default holds."""
    with announced("p", URL):
        assert kernel_url_of(Config(), "p", {}) == URL
        assert kernel_url_of(Config(), "q", {}) == DEFAULT_BASE_URL
        assert kernel_url_of(Config(), None, {}) == DEFAULT_BASE_URL
        assert kernel_url_of(Config(base_url="http://c"), "p", {}) == "http://c"
        assert kernel_url_of(Config(), "p", {"CG_BASE_URL": "http://e"}) == "http://e"
