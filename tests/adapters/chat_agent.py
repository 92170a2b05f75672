"""A scripted model of a chat endpoint as an agent, with a tool."""

from __future__ import annotations

import os
from typing import Any

from cgworker import Turn
from cgworker.adapters.openai import ChatAdapter
from cgworker.adapters.tools import function_tool
from tests.adapters.killed import Script
from tests.adapters.scripted_model import model_url


def scripted(script: Script) -> ChatAdapter:
    """The agent, whose model and tool note what they are asked."""

    def look(_: Turn, asked: dict[str, Any]) -> str:
        """Look at a thing."""
        script.came(f"look {asked['what']}")
        script.point(f"look {asked['what']}", "answered")
        return f"{asked['what']} is 7"

    os.environ["OPENAI_API_KEY"] = "none"
    url = model_url(script, lambda what: ("look", {"what": what}))
    return ChatAdapter(model="scripted", base_url=url, tools=[function_tool(look)])
