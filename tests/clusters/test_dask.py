"""`DaskHandler` on a real cluster of two processes."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cgworker.adapters.dask import DaskHandler
from cgworker.testing import LocalKernel
from tests.clusters import stories
from tests.pages import ROOT

dask = pytest.importorskip("dask", reason="dask is not installed here: see `make clusters`")
distributed = pytest.importorskip(
    "distributed",
    reason="distributed is not installed here: `make clusters` installs it and runs these tests",
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("default"),  # Dask's own
]


@pytest.fixture(scope="module")
def cluster() -> Any:
    """A scheduler and two processes with a thread each."""
    os.environ["PYTHONPATH"] = str(ROOT)  # for what the processes import
    # A process that takes more than 15 s to come back, as on a busy machine, is given up by a LocalCluster.
    patient = {"distributed.deploy.lost-worker-timeout": "20 minutes"}
    with (
        dask.config.set(patient),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as made,
    ):
        yield made


@pytest.fixture
def make(cluster: Any) -> stories.MakeHandler:
    """Makes handlers on the cluster."""
    return partial(DaskHandler, address=cluster.scheduler_address, restart_workers=True)


async def test_functions_give_their_results(kernel: LocalKernel, make: stories.MakeHandler) -> None:
    """Each kind of function, result and error."""
    await stories.functions_give_their_results(kernel, make)


async def test_a_killed_process_costs_nothing(
    kernel: LocalKernel, make: stories.MakeHandler, tmp_path: Path
) -> None:
    """Dask runs the task again in another one."""
    await stories.a_lost_process_costs_nothing(kernel, make, tmp_path, stories.kill)


async def test_a_deadly_function_fails_its_turn(kernel: LocalKernel, make: stories.MakeHandler) -> None:
    """After the fourth process Dask gives up."""
    await stories.a_deadly_function_fails_its_turn(kernel, make, "KilledWorker")


async def test_a_stop_ends_the_function(
    kernel: LocalKernel, make: stories.MakeHandler, tmp_path: Path
) -> None:
    """By a restart of its process."""
    await stories.a_stop_ends_the_function(kernel, make, tmp_path)


async def test_a_deadline_ends_a_stubborn_function(
    kernel: LocalKernel, make: stories.MakeHandler, tmp_path: Path
) -> None:
    """By a restart of its process."""
    await stories.a_deadline_ends_a_stubborn_function(kernel, make, tmp_path)


async def test_a_function_that_goes_on_is_logged(
    kernel: LocalKernel, cluster: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without `restart_workers` it runs until it ends, and reaches nothing."""
    make = partial(DaskHandler, address=cluster.scheduler_address)
    with caplog.at_level(logging.WARNING, "cgworker"):
        await stories.a_shutdown_hands_the_turn_back(kernel, make, tmp_path)
    assert "its function goes on at tcp://" in caplog.text


async def test_many_short_turns(kernel: LocalKernel, make: stories.MakeHandler) -> None:
    """A thousand, sixteen at once."""
    await stories.many_short_turns(kernel, make, 1000)
