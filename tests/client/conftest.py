"""Fixtures of the client's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.client.peer import Peer


@pytest.fixture
def answering() -> Callable[..., Peer]:
    """A peer that answers with this JSON, status and headers."""

    def make(body: Any = None, status: int = 200, headers: dict[str, str] | None = None) -> Peer:
        return Peer(lambda _: httpx.Response(status, json=body, headers=headers))

    return make
