"""examples/deploy/container: the image is built; its worker is PID 1, not root, and on a read-only root."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import frozen

from cgworker.testing import LocalKernel
from tests.journeys.conftest import history, in_state
from tests.kernels import NewProject
from tests.pages import ROOT

FOLDER = ROOT / "examples" / "deploy" / "container"
# The options of buildah for a store that has an image of Debian with Python; `make container` makes it.
STORE = ROOT / ".peers" / "container" / "options"
BUILDAH = shutil.which("buildah")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(500),
    pytest.mark.skipif(
        BUILDAH is None or not STORE.exists() or os.geteuid() != 0,
        reason="no buildah, no base image, or not root: the container is NOT built here (make container)",
    ),
]

# What a container runtime does, with the tools that are there: namespaces, mounts, another user. A secret is
# mounted as Kubernetes does: root owns it, and the group of the container may read it.
RUNTIME = """
set -eu
root=$1; shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=0700,uid=10001,gid=10001 tmpfs "$root/state"
mount -t tmpfs tmpfs "$root/run"
cat >"$root/run/token"; chown 0:10001 "$root/run/token"; chmod 0440 "$root/run/token"
mount -o remount,bind,ro "$root"
exec chroot --userspec=10001:10001 --groups=10001 "$root" "$@"
"""

# The orphan's parent ends at once, so PID 1 inherits it. It is in /proc until it is reaped.
COMMAND = """
case "$(cat "$CG_INPUT_FILE")" in
*wait*) exec sleep 600 ;;
esac
orphan=$(sh -c 'setsid sleep 0.1 >/dev/null 2>&1 & echo $!')
while [ -e "/proc/$orphan" ]; do sleep 0.1; done
can_write=false
! touch /opt/file 2>/dev/null || can_write=true
first=$(cat /proc/1/comm)
printf '{"user": %s, "first": "%s", "can_write": %s}' "$(id -u)" "$first" "$can_write" >"$CG_FINAL_FILE"
"""


@frozen
class Image:
    """A built image: its files, and how a container of it begins."""

    root: Path
    settings: dict[str, Any]


@pytest.fixture
def anyio_backend() -> str:
    """One is enough: the worker is a process of its own."""
    return "asyncio"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image, built by buildah from this tree's wheel, without a registry."""
    wheels = _wheels(tmp_path_factory.mktemp("wheels"))

    def buildah(*arguments: str) -> str:
        command = [str(BUILDAH), *STORE.read_text().split(), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    given = ["BASE=localhost/debian", "PACKAGE=cgworker", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/wheels"]
    flags = [f"--build-arg={each}" for each in given] + [
        "--isolation=chroot",
        f"--volume={wheels}:/wheels:ro",
    ]
    built = buildah("build", "--quiet", *flags, str(FOLDER))
    begun = ""
    try:
        settings = json.loads(buildah("inspect", "--type=image", built))["OCIv1"]["config"]
        begun = buildah("from", built)
        yield Image(Path(buildah("mount", begun)), settings)
    finally:
        if begun:
            buildah("rm", begun)
        buildah("rmi", built)


def _wheels(folder: Path) -> Path:
    """This tree's wheel and those that it needs, for the Python of Debian 12."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    own = ["wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", str(ROOT)]
    subprocess.run([*pip, *own], check=True)
    chosen = ["--python-version=3.11", "--only-binary=:all:", f"--constraint={ROOT}/constraints.txt"]
    needed = [f"--dest={folder}", *map(str, folder.glob("cgworker-*.whl"))]
    subprocess.run([*pip, "download", *chosen, *needed], check=True)
    return folder


@asynccontextmanager
async def _running(image: Image, kernel: LocalKernel) -> AsyncIterator[anyio.abc.Process]:
    """A container of the image with a worker; the process ends as PID 1 does."""
    client = await kernel.agent("desk")
    given = [f"CG_BASE_URL={kernel.base_url}", "CG_AGENT_CREDENTIAL_TOKEN_FILE=/run/token"]
    begin = [
        *("unshare", "--pid", "--fork", "--kill-child", "--mount", "sh", "-c", RUNTIME, "sh", image.root),
        *("env", "-i", *image.settings["Env"], *given, *image.settings["Entrypoint"]),
    ]
    flags = ["worker", "loop", f"--project-id={kernel.project_id}", "--agent-id=desk", "--grace-seconds=1"]
    command = list(map(str, [*begin, *flags, "--command", "sh", "-c", COMMAND]))
    process = await anyio.open_process(command, stderr=sys.stderr, stdout=None)
    try:
        assert process.stdin is not None
        await process.stdin.send(client.secrets[0].encode())
        await process.stdin.aclose()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_worker_is_pid_1_reaps_orphans_and_cannot_write(
    image: Image, new_project: NewProject
) -> None:
    """An orphan of a command goes, the command is not root, and nothing but its folders can be written."""
    async with new_project() as kernel, _running(image, kernel):
        found = await kernel.closed(await kernel.dispatch("desk", "look"))
    assert found.final_payload == {"user": 10001, "first": "cg", "can_write": False}


async def test_the_end_of_a_container_hands_its_turn_back(image: Image, new_project: NewProject) -> None:
    """SIGTERM to PID 1: the command is ended after its grace, another worker may go on, exit status 0."""
    async with new_project() as kernel, _running(image, kernel) as process:
        client = await kernel.agent("desk")
        turn = await kernel.dispatch("desk", "wait")
        await in_state(client, turn, "running")
        children = await anyio.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        (first,) = map(int, children.split())
        os.kill(first, signal.SIGTERM)
        with anyio.fail_after(60):
            assert await process.wait() == 0
        assert (await client.turns.get(turn)).state == "queued"
        assert (await history(client, turn))[-2:] == ["turn.suspended", "turn.resumed"]
