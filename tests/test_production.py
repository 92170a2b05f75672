"""docs/how-to/production.md, followed to the letter: its commands, units and nginx configuration, in order.

Left out are systemd itself, whose units are started as it would, and TLS. Paths and ports are others here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.databases import a_database
from tests.pages import ROOT, Block, blocks
from tests.warm import warm_folder

PAGE = ROOT / "docs" / "how-to" / "production.md"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
NO_NGINX = "nginx is not installed, so nobody walks production.md: apt-get install nginx-light"

RUNTIME = """#!/bin/sh
printf '{"text": "done"}' >"$CG_FINAL_FILE"
"""

SURROUNDINGS = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {}
http {
access_log off;
client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
"""


class Site:
    """A machine for the page, below a folder: what it saves, starts and runs."""

    def __init__(self, root: Path, dsn: str) -> None:
        self._root = root
        ports = {name: free_port() for name in ("8000", "8001", "8002", "443")}
        self.proxy = f"http://127.0.0.1:{ports['443']}"
        self._swaps: dict[str, str | Callable[[re.Match[str]], str]] = {
            r'"postgresql://[^"]*"': f'"{dsn}"',
            r"https://kernel\.example\.org": self.proxy,
            r"\b443 ssl": f"127.0.0.1:{ports['443']}",
            r" *ssl_.*\n": "",
            r"\b800[012]\b": lambda found: str(ports[found[0]]),
            r"/opt/cgworker/bin/": f"{warm_folder()}/",
            r"/(etc/cgworker|var/lib/cgworker|opt/runtimes)\b": rf"{root}/\1",
        }
        self._units: dict[str, str] = {}
        self._codes: list[str] = []
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for folder in ("etc/cgworker", "var/lib/cgworker", "opt/runtimes"):
            (root / folder).mkdir(parents=True)
        runtime = root / "opt" / "runtimes" / "desk"
        runtime.write_text(RUNTIME)
        runtime.chmod(0o755)

    def follow(self, block: Block) -> str:
        """Do what the page says with a block; returns what its commands said."""
        text = self.adapted(block.code)
        named = re.match(r"# (/[\w./@-]+)", text)
        if block.language == "ini" and named:
            self._units[Path(named[1]).name.removesuffix(".service")] = text
        elif block.language == "nginx":
            self._start_nginx(text)
        elif block.language == "sh" and named:
            Path(named[1]).write_text(text)
        elif block.language == "sh" and text.startswith("systemctl enable --now "):
            for unit in text.split()[3:]:
                self._start_unit(unit)
        elif block.language == "sh" and "cgjoin_X" in text:
            return "".join(self.run(re.sub(r"cgjoin_X+", code, text)) for code in self._codes)
        elif block.language == "sh":
            said = self.run(text)
            self._codes += re.findall(r'"join_code": ?"(cgjoin_[\w-]+)"', said)
            return said
        return ""

    def adapted(self, text: str) -> str:
        """With this machine's paths and ports."""
        for told, here in self._swaps.items():
            text = re.sub(told, here, text)
        return text

    def run(self, script: str) -> str:
        """Run commands that must succeed."""
        done = subprocess.run(
            ["bash", "-euc", script], cwd=self._root, env=self._environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def stop(self, unit: str) -> None:
        """End what runs, in order."""
        process = self._running.pop(unit)
        process.terminate()
        assert process.wait(30) == 0, f"{unit}:\n{self._log_of(unit).read_text()}"

    def stop_all(self) -> None:
        """End everything, what was started last first."""
        for unit in reversed(list(self._running)):
            self.stop(unit)

    def _start_unit(self, name: str) -> None:
        """As systemd would: the environment of its files and lines, and then its command."""
        template, at, instance = name.partition("@")
        lines = self._units[template + at].replace("%i", instance).splitlines()
        settings = [line.partition("=")[::2] for line in lines if "=" in line and not line.startswith("#")]
        environment = self._environment()
        for key, value in settings:
            assignments = Path(value).read_text().splitlines() if key == "EnvironmentFile" else [value]
            if key in ("EnvironmentFile", "Environment"):
                words = shlex.split("\n".join(assignments), comments=True)
                environment |= dict(word.split("=", 1) for word in words)
        self._start(name, shlex.split(dict(settings)["ExecStart"]), environment)
        if "CG_HOST" in environment:
            port = environment["CG_PORT" if "kernel" in template else "CG_ADMIN_PORT"]
            self._wait_for(name, f"http://127.0.0.1:{port}/readyz")

    def _start_nginx(self, server: str) -> None:
        config = self._root / "nginx.conf"
        config.write_text(f"{SURROUNDINGS}{server}\n}}\n")
        assert NGINX is not None
        self._start(
            "nginx", [NGINX, "-e", "stderr", "-p", str(self._root), "-c", str(config)], dict(os.environ)
        )
        self._wait_for("nginx", f"{self.proxy}/readyz")

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        with self._log_of(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                command, cwd=self._root, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def _wait_for(self, name: str, url: str) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._running[name].poll() is None:
            try:
                if httpx.get(url, timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)  # a server in another process has no event to wait for
        pytest.fail(f"{name} did not become ready:\n{self._log_of(name).read_text()}")

    def _log_of(self, name: str) -> Path:
        return self._root / f"{name}.log"

    def _environment(self) -> dict[str, str]:
        kept = {n: value for n, value in os.environ.items() if not n.startswith(("CG_", "PG", "XDG_"))}
        path = f"{warm_folder()}{os.pathsep}{kept['PATH']}"
        return {**kept, "HOME": str(self._root), "PATH": path}


@pytest.fixture
def site(postgres: str) -> Iterator[Site]:
    """A machine with an empty database."""
    with a_database(postgres) as dsn, tempfile.TemporaryDirectory(prefix="cg-") as root:
        made = Site(Path(root), dsn)
        try:
            yield made
        finally:
            made.stop_all()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.skipif(NGINX is None, reason=NO_NGINX)
@pytest.mark.timeout(180)
def test_production_followed_to_the_letter_answers_a_turn(site: Site) -> None:
    """Two kernels, admission, nginx; agents join through it, a worker answers, also with a kernel less."""
    said: Callable[[str], Any] = json.loads
    smoke = ""
    for block in blocks(PAGE):
        output = site.follow(block)
        if block.code.startswith("cg agent join"):
            joined = [said(line)["result"] for line in output.splitlines()]
            assert [one["profile"] for one in joined] == ["acme/desk", "acme/asker"]
            assert {one["base_url"] for one in joined} == {site.proxy}
        if block.code.startswith("cg smoke"):
            smoke = block.code
            assert said(output)["result"]["terminal_payload"] == {"text": "done"}
    assert smoke

    def status(path: str, host: str = "kernel.example.org") -> int:
        return httpx.get(f"{site.proxy}{path}", headers={"host": host}).status_code

    assert (status("/readyz"), status("/readyz", "evil.example")) == (200, 421)
    assert (status("/metrics"), status("/admin/v1/projects/acme/agent-join-invites")) == (404, 404)
    site.stop(site.adapted("cg-kernel@8000"))
    assert said(site.run(smoke))["result"]["terminal_payload"] == {"text": "done"}
