"""Load the workers that a program of the user's defines, named as `module:worker`."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from cgworker.errors import CommonGroundError, UsageError
from cgworker.worker import Worker


def load_workers(apps: Sequence[str]) -> tuple[Worker, ...]:
    """Load workers.

    Args:
        apps: names, each `module:worker`. The worker may be a `Worker`, a list of them, or a function that
            makes either. Modules are looked for in the working directory first.

    Returns:
        The workers, in the order of the names.

    Raises:
        UsageError: there is no such module or worker, or the module cannot be imported.
        CommonGroundError: the module itself raised it, as for a missing profile.
    """
    return tuple(worker for app in apps for worker in _load(app))


def _load(app: str) -> list[Worker]:
    module_name, colon, name = app.partition(":")
    if not (module_name and colon and name):
        raise UsageError(f"{app!r} names no worker: write module:worker, such as desk:worker for desk.py")
    module = _import(module_name.removesuffix(".py").replace("/", "."))
    found = _find(module, name)
    made = found() if callable(found) and not isinstance(found, type) else found
    workers = [made] if isinstance(made, Worker) else list(made) if isinstance(made, Iterable) else []
    if not workers or not all(isinstance(each, Worker) for each in workers):
        raise UsageError(f"{app} is {_described(found)}: name a Worker, a list of them, or what makes one")
    return workers


def _import(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except CommonGroundError:
        raise
    except ModuleNotFoundError as missing:
        if missing.name is not None and f"{name}.".startswith(f"{missing.name}."):
            raise UsageError(
                f"there is no module {missing.name!r} in {here} or on the Python path"
            ) from missing
        raise _not_imported(name, missing) from missing
    except Exception as broken:
        raise _not_imported(name, broken) from broken


def _not_imported(name: str, broken: Exception) -> UsageError:
    traceback.print_exception(broken, file=sys.stderr)  # its author needs the line to fix it
    return UsageError(f"{name} cannot be imported: {type(broken).__name__}: {broken}")


def _find(module: ModuleType, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            others = [known for known, value in vars(module).items() if isinstance(value, Worker)]
            has = f"its workers are {', '.join(others)}" if others else "it has no worker"
            raise UsageError(f"{module.__name__} has no {name!r}; {has}")
        found = getattr(found, part)
    return found


def _described(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"a {type(value).__name__}"
