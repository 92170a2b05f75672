"""A primary killed under load, and its synchronous standby promoted by hand; `make failover` plays more."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest

from tests.failover.drill import Drill
from tests.failover.scenarios import by_hand
from tests.failover.servers import lacking


@pytest.mark.skipif(bool(lacking()), reason="PostgreSQL 15 is not installed (apt-get install postgresql-15)")
def test_a_promoted_standby_has_all_that_was_answered() -> None:
    """And the kernels, which never end, claim again from it."""
    with tempfile.TemporaryDirectory(prefix="cg-failover-") as folder:
        Path(folder).chmod(0o711)  # the account of the servers has folders in it
        verdict = asyncio.run(by_hand(Drill(Path(folder), turns_per_second=30, seconds=3)))
    assert verdict.passed, str(verdict)
