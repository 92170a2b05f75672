"""How many commands a newcomer types, pasted from the pages: to a question answered, and to an own handler.

The times are printed and not asserted: they depend on the machine.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from tests.console.browser import chromium
from tests.pages import ROOT, Block, blocks
from tests.reader import end, free_port

pytestmark = pytest.mark.timeout(900)

TASK, NAME = "Please ask me something", "Newcomer"
CLONED = ("src", "pyproject.toml", "README.md", "LICENSE")
NO_INDEX = re.compile(
    "NewConnectionError|Failed to establish a new connection|name resolution|Read timed out"
)


class Newcomer:
    """Somebody with a clone of the repository and a wheel of it, and nothing else.

    Args:
        folder: where everything is.
    """

    def __init__(self, folder: Path) -> None:
        self.clone = folder / "clone"
        self.clone.mkdir()
        for name in CLONED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, self.clone / name)
        self._folder = folder
        self._port = str(free_port())
        self.go_home("first")
        build = [
            sys.executable,
            "-m",
            "build",
            "--no-isolation",
            "--wheel",
            "--outdir",
            str(folder),
            str(ROOT),
        ]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)

    def go_home(self, name: str) -> None:
        """Begin anew, with an empty home; what is installed stays."""
        home = self._folder / name
        home.mkdir()
        own = ("CG_", "PG", "XDG_", "VIRTUAL_ENV")
        kept = {name: text for name, text in os.environ.items() if not name.startswith(own)}
        links = f"{self._folder} {kept.get('PIP_FIND_LINKS', '')}".strip()
        self._environment = {
            "PIP_CACHE_DIR": str(Path("~/.cache/pip").expanduser()),  # each package is fetched once
            **kept,
            "HOME": str(home),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]]),
            "PIP_FIND_LINKS": links,
            "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
            "PIP_COMPILE": "0",  # little of what is installed is imported here
        }

    def paste(self, command: str) -> str:
        """Paste a command, and wait for its end; returns what it printed."""
        done = subprocess.run(
            ["bash", "-ec", self._adapted(command)],
            cwd=self.clone,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and "pip install" in command and NO_INDEX.search(done.stderr):
            pytest.skip("NO PACKAGE INDEX: pip cannot reach one, so that no newcomer can install cgworker")
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def pasted(self, command: str) -> Iterator[str]:
        """Paste a command that stays; yields what it printed until it said how to end it."""
        log = self._folder / f"{free_port()}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-ec", self._adapted(f"exec {command}")],
                cwd=self.clone,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            deadline = time.monotonic() + 120
            while "Ctrl-C" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)  # another process: nothing tells
            yield log.read_text()
        finally:
            assert end(process) == 0, log.read_text()

    def _adapted(self, command: str) -> str:
        command = command.replace("port 8000", f"port {self._port}")
        is_in_environment = re.match(r"(exec )?cg ", command)  # the page says: activate it in each terminal
        return f". .venv/bin/activate && {command}" if is_in_environment else command


def shell(page: str) -> Iterator[Block]:
    """The shell blocks of a page."""
    return (block for block in blocks(ROOT / page) if block.language == "sh")


@pytest.fixture
def anyio_backend() -> str:
    """The browser's driver runs on asyncio."""
    return "asyncio"


@pytest.fixture
def newcomer() -> Iterator[Newcomer]:
    """A newcomer. Not in pytest's folder: run by root, PostgreSQL is another user, whom pytest shuts out."""
    with tempfile.TemporaryDirectory(prefix="cg-") as folder:
        yield Newcomer(Path(folder))


async def test_a_newcomer_types_few_commands(newcomer: Newcomer, capsys: pytest.CaptureFixture[str]) -> None:
    """Three from the wheel to a question answered in the browser, eight from the clone to a handler."""
    told = []
    begun = time.monotonic()
    *installing, dev = next(shell("README.md")).code.splitlines()
    for command in installing:
        newcomer.paste(command)
    with newcomer.pasted(dev) as shown:
        link = shown.partition("Look:")[2].split()[0]
        used = "Chromium" if chromium() else "HTTP, NO CHROMIUM"
        await (_in_chromium(link) if chromium() else _over_http(link))
    count = len([*installing, dev])
    told.append(f"question answered ({used}): {count} commands, {time.monotonic() - begun:.0f} s")
    assert count <= 3

    newcomer.go_home("second")
    begun, count = time.monotonic(), 1  # the second terminal is activated too
    for block in blocks(ROOT / "docs/tutorial/first-handler.md"):
        if block.file:
            (newcomer.clone / block.file).write_text(block.code)
        elif block.mark == "run in the background":
            stays, count = block.code.strip(), count + 1
        elif block.mark == "run":
            asks, count = block.code.strip(), count + 1
            break
        elif block.language == "sh":
            *commands, activate = block.code.splitlines()
            assert activate == ". .venv/bin/activate"
            count += len(commands) + 1
            for command in commands:
                newcomer.paste(command)
    with newcomer.pasted(stays):
        assert '"words":5' in newcomer.paste(asks).replace(" ", "")
    told.append(f"own handler's first answer: {count} commands, {time.monotonic() - begun:.0f} s")
    with capsys.disabled():
        sys.stdout.write("".join(f"\n  {line}" for line in told))
    assert count <= 8


async def _in_chromium(link: str) -> None:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = await browser.new_page()
        page.set_default_timeout(60_000)
        await page.goto(link)
        await page.wait_for_url(lambda url: "/login" not in url)
        await page.get_by_role("link", name="Dispatch").click()
        await page.get_by_role("link", name="hello: ").click()
        await page.get_by_label("task").fill(TASK)
        await page.get_by_role("button", name="Dispatch", exact=True).last.click()
        await page.wait_for_url("**/turns/T-*")
        await page.get_by_role("link", name="Questions").first.click()
        await page.get_by_role("link", name="Answer or decline").click()
        await page.get_by_label("Answer").fill(NAME)
        await page.get_by_role("button", name="Answer", exact=True).last.click()
        await page.locator("pre", has_text=f"Nice to meet you, {NAME}").first.wait_for()
        await browser.close()


async def _over_http(link: str) -> None:
    """The same without a browser: read a page's form, fill it in, send it."""
    url = link.split("/login")[0]
    async with httpx.AsyncClient(base_url=url, headers={"origin": url}, timeout=30) as browser:
        await browser.get(link)
        path = "/dispatch/hello/turn.conversation.v1"
        sent = await browser.post(path, data=_fields(await _until(browser, path, "task")) | {"v-0": TASK})
        assert sent.status_code == 303, sent.text
        asked = await _until(browser, "/questions", "Answer or decline")
        path = next(iter(re.findall(r'href="(/questions/T-[^"]*)"', asked)))
        form, _, _ = (await browser.get(html.unescape(path))).text.rpartition(
            '<form method="post"'
        )  # decline
        answer = _fields(form) | {"v": NAME}
        sent = await browser.post(f"{path.partition('?')[0]}/answer", data=answer)
        assert sent.status_code == 303, sent.text
        await _until(browser, sent.headers["location"], f"Nice to meet you, {NAME}")


async def _until(browser: httpx.AsyncClient, path: str, text: str) -> str:
    """The page, once it has the text."""
    with anyio.fail_after(60):
        while text not in (page := html.unescape((await browser.get(path)).text)):  # noqa: ASYNC110  # it can only be asked
            await anyio.sleep(0.2)
    return page


def _fields(page: str) -> dict[str, str]:
    """The hidden fields of the page's last form."""
    form = page.rpartition('<form method="post"')[2]
    return dict(re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', form))
