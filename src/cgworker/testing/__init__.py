"""The test kit: play handlers without a kernel, run a real kernel in the process, and inject faults.

`play` and `virtual_time` need only `cgworker`, `local_kernel` needs `cgworker[kernel]`. Each name is loaded
on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cgworker.testing.clocks import virtual_time
    from cgworker.testing.faults import Faults
    from cgworker.testing.kernel import LocalKernel, local_kernel
    from cgworker.testing.played import Played, PlayedChild, PlayedQuestion, PlayedRecord
    from cgworker.testing.playing import play

_MODULES = {
    "Faults": "faults",
    "LocalKernel": "kernel",
    "Played": "played",
    "PlayedChild": "played",
    "PlayedQuestion": "played",
    "PlayedRecord": "played",
    "local_kernel": "kernel",
    "play": "playing",
    "virtual_time": "clocks",
}

__all__ = [
    "Faults",
    "LocalKernel",
    "Played",
    "PlayedChild",
    "PlayedQuestion",
    "PlayedRecord",
    "local_kernel",
    "play",
    "virtual_time",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
