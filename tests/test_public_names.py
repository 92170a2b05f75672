"""One list says what is public."""

from __future__ import annotations

import inspect

import pytest

import cgworker


def test_the_list_is_what_can_be_imported() -> None:
    """Nothing public is missing from `__all__`, and nothing in it is missing from the package."""
    there = {
        name
        for name, found in vars(cgworker).items()
        if not name.startswith("_") and not inspect.ismodule(found)
    }
    assert set(cgworker.__all__) == there


def test_the_list_is_sorted_and_has_no_doubles() -> None:
    """A name is found where one looks for it."""
    assert list(cgworker.__all__) == sorted(set(cgworker.__all__))


@pytest.mark.parametrize("name", cgworker.__all__)
def test_every_public_name_says_what_it_is(name: str) -> None:
    """Each class and function has its docstring."""
    found = getattr(cgworker, name)
    if inspect.isclass(found) or inspect.isfunction(found):
        assert found.__doc__
        assert not found.__doc__.startswith(f"{name}(")
