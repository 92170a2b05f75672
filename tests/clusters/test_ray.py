"""`RayHandler` on a real cluster of two nodes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cgworker.adapters.ray import RayHandler
from cgworker.testing import LocalKernel
from tests.clusters import stories
from tests.pages import ROOT

ray = pytest.importorskip(
    "ray", reason="ray is not installed here: `make clusters` installs it and runs this"
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("default"),  # Ray's own
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and a node, with a processor each."""
    os.environ["PYTHONPATH"] = str(ROOT)  # for what the processes import
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    made = _start_cluster()
    for number, handler in before.items():
        signal.signal(number, handler)
    yield made
    made.shutdown()


@pytest.fixture
def make(cluster: Any) -> stories.MakeHandler:
    """Makes handlers on the cluster."""
    return partial(RayHandler, address=cluster.address, num_cpus=1)


async def test_functions_give_their_results(kernel: LocalKernel, make: stories.MakeHandler) -> None:
    """Each kind of function, result and error."""
    await stories.functions_give_their_results(kernel, make)


async def test_the_worker_keeps_its_signal_handlers(kernel: LocalKernel, make: stories.MakeHandler) -> None:
    """Ray would exit the program on SIGTERM, and the worker drains."""
    before = signal.getsignal(signal.SIGTERM)
    await stories.functions_give_their_results(kernel, make)
    assert signal.getsignal(signal.SIGTERM) is before


async def test_a_dead_node_costs_nothing(
    kernel: LocalKernel, cluster: Any, make: stories.MakeHandler, tmp_path: Path
) -> None:
    """Ray runs the task again on another one."""

    def kill_node(pid: int) -> None:
        for node in cluster.worker_nodes:
            raylet = node.all_processes["raylet"][0].process
            if _parent_of(pid) == raylet.pid:
                cluster.remove_node(node, allow_graceful=False)
                cluster.add_node(num_cpus=1)
                return
        stories.kill(pid)  # it ran on the head, which the cluster needs: its process alone

    await stories.a_lost_process_costs_nothing(kernel, make, tmp_path, kill_node)


async def test_a_deadly_function_fails_its_turn(kernel: LocalKernel, make: stories.MakeHandler) -> None:
    """After its retries Ray gives up."""
    await stories.a_deadly_function_fails_its_turn(kernel, partial(make, max_retries=1), "WorkerCrashedError")


async def test_a_stop_ends_the_function(
    kernel: LocalKernel, make: stories.MakeHandler, tmp_path: Path
) -> None:
    """By a KeyboardInterrupt."""
    await stories.a_stop_ends_the_function(kernel, make, tmp_path)
    assert stories.marked(tmp_path, "interrupted")


async def test_a_deadline_ends_a_stubborn_function(
    kernel: LocalKernel, make: stories.MakeHandler, tmp_path: Path
) -> None:
    """Its process is killed."""
    await stories.a_deadline_ends_a_stubborn_function(kernel, make, tmp_path)


async def test_a_shutdown_hands_the_turn_back(
    kernel: LocalKernel, make: stories.MakeHandler, tmp_path: Path
) -> None:
    """Another worker works it."""
    await stories.a_shutdown_hands_the_turn_back(kernel, make, tmp_path)


async def test_many_short_turns(kernel: LocalKernel, make: stories.MakeHandler) -> None:
    """A thousand, sixteen at once."""
    await stories.many_short_turns(kernel, make, 1000)


def _start_cluster(*, tries: int = 5) -> Any:
    """Start the nodes, again if a busy machine took more than the half minute that Ray waits for each."""
    from ray.cluster_utils import Cluster

    made = Cluster()
    try:
        made.add_node(num_cpus=1, include_dashboard=False)
        made.add_node(num_cpus=1)
    except Exception as late:
        made.shutdown()
        if tries == 1 or "timed out during startup" not in str(late):
            raise
        return _start_cluster(tries=tries - 1)
    return made


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
