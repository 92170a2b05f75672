"""Copies of one new cluster in place of each run of `initdb`, which needs more than a second of CPU."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import subprocess
import tempfile
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cgworker.kernel.store.postgres import embedded

# Fixtures take variables of CG_ away.
_VARIABLE = "TEST_CLUSTERS"


def share_clusters() -> None:
    """Make the folder of the run's clusters, which all processes that start from now on share."""
    if _VARIABLE not in os.environ:
        made = tempfile.mkdtemp(prefix="cg-clusters-")
        Path(made).chmod(0o755)  # PostgreSQL's account copies from it
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        os.environ[_VARIABLE] = made


def run_initdb_once() -> None:
    """Have the embedded PostgreSQL of this process copy the cluster that the run's first `initdb` made."""
    run = partial(_run, Path(os.environ[_VARIABLE]))
    vars(embedded)["subprocess"] = SimpleNamespace(run=run, PIPE=subprocess.PIPE)


def _run(clusters: Path, command: list[str | Path], **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run a program as `subprocess.run` does; in place of `initdb`, copy what the same one made."""
    program = Path(command[0])
    if program.name != "initdb":
        return subprocess.run(command, **options)
    cluster = clusters / sha256(bytes(program)).hexdigest()
    with cluster.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cluster.exists():
            made = subprocess.run(command, **options)
            if made.returncode == 0:
                unfinished = cluster.with_suffix(".unfinished")
                subprocess.run(["cp", "-a", options["cwd"], unfinished], check=True)
                unfinished.rename(cluster)
            return made
    return subprocess.run(["cp", "-a", f"{cluster}/.", "."], **options)
