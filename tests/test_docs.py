"""The documentation says what is true: it is made from the code where it can be, and its code runs."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, Block, blocks
from tests.reader import Reader, run
from tests.warm import warm_folder

BIN = Path(sys.executable).parent
BLOCKS = [block for page in PAGES for block in blocks(page)]
SHELL = [block for block in BLOCKS if block.language == "sh"]
STORIES = [page for page in PAGES if any(block.mark for block in blocks(page))]

# What a reader of these pages has done before: there is a kernel, worker-1 has joined, and a requester.
# For the last, a turn has been answered as well.
AFTER_THE_README = {
    "docs/how-to/health.md": "to join",
    "docs/how-to/human-approval.md": "to join",
    "docs/how-to/conversations-in-order.md": "to join",
    "docs/how-to/priorities-and-fairness.md": "to join",
    "docs/how-to/steering.md": "to join",
    "docs/how-to/retries.md": "to join",
    "docs/how-to/schedules.md": "to join",
    "docs/how-to/typed-handlers.md": "to join",
    "docs/how-to/worker-three-forms.md": "to join",
    "docs/how-to/testing-handlers.md": "to ask",
}

_WORKERS = """from cgworker import Turn, Worker

desk = Worker.from_profile("cg-demo/worker-1")
workers = [desk]


def make_worker() -> Worker:
    return desk


@desk.turn("turn.conversation.v1")
async def answer(turn: Turn, question: dict[str, str]) -> dict[str, str]:
    return question
"""

# What is the reader's own, by the names that the page gives it.
OWN_FILES = {
    "docs/how-to/typed-handlers.md": {"desk.py": _WORKERS, "shop.py": _WORKERS},
    "docs/how-to/testing-handlers.md": {"desk.py": _WORKERS},
}

EVERY = "every block"
NOT_RUN = {
    ("docs/how-to/provisioning.md", EVERY): "tests/cli/test_provision_serve.py runs both commands",
    (
        "docs/how-to/pgbouncer.md",
        "export PG_DSN=postgresql://cgworker:secret@127.0.0.1:6432/cgworker",
    ): "it needs a PgBouncer; tests/kernel/test_pooler.py starts one",
    ("docs/how-to/failover.md", EVERY): "tests/journeys/test_failover.py plays one; `make failover` all",
    (
        "docs/how-to/container.md",
        EVERY,
    ): "tests/deploy/test_container.py builds and runs it (`make container`)",
    ("docs/how-to/many-databases.md", EVERY): "tests/deploy/test_two_databases.py runs the move",
    ("docs/reference/cli.md", EVERY): "tests/cli/test_commands.py parses each example",
    (
        "examples/skills/cgworker/SKILL.md",
        "cg doctor  # this machine: config, profiles, kernel",
    ): "tests/test_skill.py parses each",
    ("docs/how-to/mcp.md", EVERY): "tests/adapters/mcp_clients run it, in an environment of their own",
    ("README.md", "make demo"): "it installs into the clone; tests/cli/test_servers.py runs `cg demo`",
    ("docs/how-to/production.md", EVERY): "tests/test_production.py walks the page, less systemd itself",
    ("README.md", "python3 -m venv .venv"): "tests/test_newcomers.py follows it",
    (
        "docs/tutorial/first-handler.md",
        "python3 -m venv .venv",
    ): "tests/test_newcomers.py follows it",
    (
        "docs/tutorial/first-turn.md",
        "python3 -m venv .venv",
    ): "`make dist` installs so",
}


def name_of(page: Path) -> str:
    """A page, as it is listed here."""
    return str(page.relative_to(ROOT))


def first_line(block: Block) -> str:
    """A block of a page, as it is listed here."""
    return block.code.splitlines()[0]


def read_before(page: Path) -> list[Block]:
    """What a reader of the page has done from the README."""
    until = AFTER_THE_README.get(name_of(page))
    if until is None:
        return []
    told = list(blocks(ROOT / "README.md"))
    asked = next(number for number, block in enumerate(told) if "cg smoke pair" in block.code)
    told = told[: asked + 1]
    return told if until == "to ask" else [b for b in told if not re.match("cg (worker|smoke)", b.code)]


# ---------------------------------------------------------------- the pages themselves


def test_no_page_is_behind_the_code() -> None:
    """`make docs` would change nothing."""
    run([sys.executable, "docs/generate.py", "--check"])


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=str)
def test_every_python_block_is_python(block: Block) -> None:
    """Also those that are not run."""
    compile(block.code, str(block), "exec", flags=0x2000)  # PyCF_ALLOW_TOP_LEVEL_AWAIT: a part of a program


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_every_shell_block_is_shell(block: Block) -> None:
    """Also those that are not run."""
    run(["sh", "-n", "-c", block.code])


def test_the_first_page_leads_to_every_guide() -> None:
    """A guide that it does not name is found by nobody."""
    index = (ROOT / "docs/index.md").read_text()
    guides = {f"how-to/{path.name}" for path in (ROOT / "docs/how-to").glob("*.md")} - {"how-to/cookbook.md"}
    assert not {guide for guide in guides if f"({guide})" not in index}


def test_every_test_that_a_page_names_is_there() -> None:
    """Who reads what happens when something dies can look at it happening."""
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text())}
    assert named
    assert [name for name in named if f"def {name}(" not in tests] == []


# ---------------------------------------------------------------- the stories they tell


@pytest.mark.parametrize("page", STORIES, ids=name_of)
@pytest.mark.timeout(240)
def test_what_a_page_tells_works_as_told(page: Path) -> None:
    """A reader types its blocks one after the other, in a fresh home; so does this test."""
    # The README by what is installed; the others by what starts sooner.
    programs = BIN if name_of(page) == "README.md" else warm_folder()
    # Not pytest's folder: run by root, PostgreSQL is another user, and pytest takes its way away.
    with tempfile.TemporaryDirectory(prefix="cg-") as home, Reader(Path(home), programs) as reader:
        for block in read_before(page):
            reader.follow(block)
        for name, content in OWN_FILES.get(name_of(page), {}).items():
            reader.save(name, content)
        for block in blocks(page):
            reader.follow(block)


def test_every_command_runs_or_says_why_not() -> None:
    """A block for a shell that no story runs is listed with the reason, and the list holds no other."""
    left_out = {(name_of(block.page), first_line(block)) for block in SHELL if block.mark is None}
    walked = {page for page, line in NOT_RUN if line == EVERY}
    assert {key for key in left_out if key[0] not in walked} == {
        key for key in NOT_RUN if key[0] not in walked
    }
    assert walked <= {page for page, _ in left_out}


def test_what_is_said_of_pages_is_said_of_pages_that_are_run() -> None:
    """Preparations for pages that tell no story would be of no use."""
    stories = set(map(name_of, STORIES))
    assert {*AFTER_THE_README, *OWN_FILES} <= stories
    assert not {page for page, line in NOT_RUN if line == EVERY} & stories
