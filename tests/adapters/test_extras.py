"""The adapters' packages are optional."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cgworker import UsageError
from cgworker.adapters.extras import require


def test_a_missing_package_is_named_with_what_to_type() -> None:
    """The one who reads it can go on at once."""
    require("json", "openai")
    with pytest.raises(UsageError, match=r"pip install 'cgworker\[thing\]'"):
        require("no_such_package_of_ours", "thing")


def test_importing_an_adapter_loads_its_package_only_when_it_is_used() -> None:
    """A worker starts as fast with five adapters installed as with none."""
    told = "import sys, cgworker, cgworker.adapters.openai; print('openai' in sys.modules)"
    asked = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert asked.stdout.split() == ["False"]
