"""An object store for tests: moto's server, which speaks S3 on loopback."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx


@contextmanager
def s3_settings() -> Iterator[dict[str, Any]]:
    """Yield what `ObjectStore("s3://bucket/...")` needs to reach an S3 of this process."""
    from moto.server import ThreadedMotoServer  # slow to import, and only some tests need it

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        who = {"access_key_id": "test", "secret_access_key": "test-secret", "region": "us-east-1"}
        httpx.put(f"{address}/bucket").raise_for_status()
        yield {**who, "endpoint": address, "client_options": {"allow_http": True}}
    finally:
        server.stop()


def write_key(path: Path) -> Path:
    """Write a key file, as `openssl rand -base64 32` would."""
    path.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
    path.chmod(0o600)
    return path
