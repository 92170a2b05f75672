"""An object store for tests: moto's server, which speaks S3 on loopback."""

from __future__ import annotations

import base64
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.reader import free_port

S3_PROGRAM = Path(os.environ.get("CG_TEST_S3", Path(__file__).parents[1] / ".venv-mcp/bin/moto_server"))


@contextmanager
def s3_settings() -> Iterator[dict[str, Any]]:
    """Start an S3, and yield what `ObjectStore("s3://bucket/...")` needs to reach it.

    Its environment is another one: moto and nanobot-ai want different versions of python-dateutil.
    """
    if not S3_PROGRAM.exists():
        pytest.skip(
            f"S3 is NOT tested here: there is no {S3_PROGRAM.name}. `make .venv-mcp/development` installs it"
        )
    address = f"http://127.0.0.1:{free_port()}"
    server = subprocess.Popen(
        [S3_PROGRAM, "-H", "127.0.0.1", "-p", address.rpartition(":")[2]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(address)
        who = {"access_key_id": "test", "secret_access_key": "test-secret", "region": "us-east-1"}
        httpx.put(f"{address}/bucket").raise_for_status()
        yield {**who, "endpoint": address, "client_options": {"allow_http": True}}
    finally:
        server.kill()
        server.wait()


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            httpx.get(address)
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def write_key(path: Path) -> Path:
    """Write a key file, as `openssl rand -base64 32` would."""
    path.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
    path.chmod(0o600)
    return path
