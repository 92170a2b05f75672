"""What the project is built from and released as: versions, links, the change log, and the forge's checks."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.pages import PAGES, ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = {
    name: [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    for name in ("constraints.txt", "constraints-clusters.txt", "constraints-mcp.txt", "constraints-sbom.txt")
}
INDEXES = re.compile(r"py" r"pi\.org|pythonhos" r"ted|registry\.np" r"mjs|deb\.deb" r"ian", re.IGNORECASE)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PROSE = [*PAGES, *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))]


def wanted() -> Iterator[Requirement]:
    """Everything that pyproject.toml asks for, for users and for developers."""
    project = PYPROJECT["project"]
    groups = [*project["optional-dependencies"].values(), *PYPROJECT["dependency-groups"].values()]
    for line in [*project["dependencies"], *(line for group in groups for line in group)]:
        if isinstance(line, str) and not line.startswith("cgworker"):
            yield Requirement(line)


# ---------------------------------------------------------------- versions


@pytest.mark.parametrize("pins", PINS.values(), ids=list(PINS))
def test_constraints_are_names_and_versions_and_nothing_else(pins: list[str]) -> None:
    """No host, path, hash or marker of the machine that they were made on; each name once."""
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!]*", pin)] == []
    names = [canonicalize_name(pin.partition("==")[0]) for pin in pins]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("requirement", list(wanted()), ids=str)
def test_every_dependency_is_pinned_to_a_version_that_is_allowed(requirement: Requirement) -> None:
    """A new release of it turns no gate red, and a raised floor asks for `make constraints`."""
    pins = [pin.partition("==") for pins in PINS.values() for pin in pins]
    wanted_name = canonicalize_name(requirement.name)
    versions = [version for name, _, version in pins if canonicalize_name(name) == wanted_name]
    assert any(requirement.specifier.contains(version, prereleases=True) for version in versions)


# ---------------------------------------------------------------- what a reader follows


def test_no_page_names_the_host_of_a_package_index() -> None:
    """A package is named; where it comes from is the reader's own setting."""
    named = [(page.name, found[0]) for page in PROSE if (found := INDEXES.search(page.read_text()))]
    assert named == []


def test_the_links_of_the_readme_lead_somewhere_on_a_package_index_too() -> None:
    """There they are absolute, at the project's own address, and each file is there."""
    readme = (ROOT / "README.md").read_text()
    (rule,) = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]
    shown = re.sub(rule["pattern"], rule["replacement"], readme)
    base = rule["replacement"].removeprefix("](").removesuffix(r"\1)")
    assert base.startswith(PYPROJECT["project"]["urls"]["Source"] + "/")
    links = re.findall(r"\]\(([^)]+)\)", shown)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
    paths = [link.removeprefix(base).partition("#")[0] for link in links if link.startswith(base)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "findings/README.md"])
def test_a_link_of_a_page_outside_the_site_leads_to_a_file(name: str) -> None:
    """mkdocs checks the links of those inside."""
    page = ROOT / name
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", page.read_text())]
    assert links
    missing = [
        link for link in links if not link.startswith("https://") and not (page.parent / link).exists()
    ]
    assert missing == []


def test_every_make_target_that_a_page_names_is_there() -> None:
    """Also those that the forge runs."""
    texts = [page.read_text() for page in PROSE]
    texts += [(ROOT / name).read_text() for name in (".github/workflows/ci.yml", ".pre-commit-config.yaml")]
    named = {
        name for text in texts for name in re.findall(r"(?:`|run: |^)make ([a-z-]+)", text, re.MULTILINE)
    }
    assert {"test", "check", "dist"} <= named
    assert named - TARGETS == set()


# ---------------------------------------------------------------- releases


def test_the_change_log_begins_with_what_is_not_released_and_then_this_version() -> None:
    """Each version has each kind of change once, in one order."""
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert versions[0].startswith("[Unreleased]\n")
    assert re.match(rf"\[{re.escape(PYPROJECT['project']['version'])}\] - \d{{4}}-\d\d-\d\d\n", versions[1])
    order = ["Security", "Added", "Changed", "Deprecated", "Removed", "Fixed"]
    for version in versions:
        kinds = re.findall(r"^### (.+)$", version, re.MULTILINE)
        assert kinds == [kind for kind in order if kind in kinds], version.partition("\n")[0]


def test_the_forge_runs_every_python_postgresql_and_event_loop_that_is_promised() -> None:
    """The classifiers say which Pythons; the pages say PostgreSQL 15 or newer."""
    jobs: Any = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    prefix = "Programming Language :: Python :: "
    promised = [
        each.removeprefix(prefix) for each in PYPROJECT["project"]["classifiers"] if "Python :: 3." in each
    ]
    assert jobs["python"]["strategy"]["matrix"]["python"] == promised == ["3.11", "3.12", "3.13", "3.14"]
    assert jobs["postgresql"]["strategy"]["matrix"]["postgresql"] == [15, 16, 17, 18]
    assert jobs["loop"]["strategy"]["matrix"]["loop"] == ["asyncio", "uvloop"]
