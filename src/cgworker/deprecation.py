"""Warn of names that still work in this version but have new ones."""

from __future__ import annotations

import warnings
from typing import Any

from attrs import fields

_OLD = "_old_"


def use_old_names(made: Any) -> None:
    """Move what was passed under old names to the fields of the new names, and warn.

    A field `_old_<new name>` takes an argument by its old name, which is its alias. Afterwards it is None
    again, so that `attrs.evolve` does not pass the old name on.

    Args:
        made: an object of a frozen attrs class; to be called in its `__attrs_post_init__`.
    """
    for each in fields(type(made)):
        if each.name.startswith(_OLD) and (value := getattr(made, each.name)) is not None:
            new = each.name.removeprefix(_OLD)
            warn_renamed(f"{type(made).__name__}({each.alias}=)", f"{new}=", stacklevel=5)
            object.__setattr__(made, new, value)
            object.__setattr__(made, each.name, None)


def warn_renamed(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn, with a DeprecationWarning, that a program uses the old name of something.

    Args:
        old: the name that the program uses.
        new: the name to use instead.
        stacklevel: which caller the warning points at; by default the caller of the function that warns.
    """
    warnings.warn(
        f"{old} is deprecated and will be removed in the next version: use {new}",
        DeprecationWarning,
        stacklevel=stacklevel,
    )
