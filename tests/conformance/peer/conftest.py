"""The reference's own software as a peer.

Its client and `cg` at our kernel, our worker and `cg` at its server. Nothing of it is imported here: it
has a Python of its own, which runs `driver.py` and `mended_server.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.peer.elsewhere import _own_state_folder, desk, proxy
from tests.conformance.peer.site import PROJECT, Site, serving
from tests.conformance.peer.software import OURS, Home, reference_python, their_server
from tests.databases import a_database

__all__ = ["_own_state_folder", "desk", "proxy"]


@pytest.fixture(scope="session", autouse=True)
def _reference() -> None:
    reference_python()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def our_site() -> Iterator[Site]:
    """Our kernel as a user starts it, on its embedded database.

    Not below pytest's own folder: for root PostgreSQL runs under another account, which another run of
    pytest, when it starts, shuts out of there.
    """
    with tempfile.TemporaryDirectory(prefix="cg-") as home, serving(Home(Path(home), OURS)) as site:
        yield site


@pytest.fixture(scope="session")
def their_site(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The reference's server on a database of ours."""
    with a_database(postgres) as dsn:
        operator = Home(tmp_path_factory.mktemp("theirs"), their_server(), {"PG_DSN": dsn})
        operator.result("setup", "project", "seed", "--project-id", PROJECT)
        with serving(operator) as site:
            yield site
