"""A scripted model behind an endpoint: it looks two things up at once, and says what came of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from tests.adapters.endpoint import calls, says, serving
from tests.adapters.killed import Script

Lookup = Callable[[str], tuple[str, Any]]
"""Returns the tool, and its arguments, that look a thing up."""

_open = ExitStack()  # while this process lives


def model_url(script: Script, lookup: Lookup) -> str:
    """The address of a model that notes what it is asked."""

    def answer(request: dict[str, Any]) -> Any:
        results = [message["content"] for message in request["messages"] if message["role"] == "tool"]
        number = 2 if results else 1
        script.came(f"model{number}")
        script.point(f"model{number}", "answered")
        if number == 1:
            return calls(lookup("a"), lookup("b"))
        return says("done: ", *(f"{result.split(chr(10))[0]}; " for result in results))

    return _open.enter_context(serving(answer)).base_url
