"""A small MCP server on stdin and stdout, which notes each call in a file: `python clock_server.py FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

from fastmcp import FastMCP

server = FastMCP("clock")


@server.tool
def time_in(city: str) -> str:
    """Tell the time in a city."""
    with Path(sys.argv[1]).open("a") as calls:
        calls.write(f"{city}\n")
    if city == "Atlantis":
        raise LookupError("there is no such city")
    return f"noon in {city}"


if __name__ == "__main__":
    server.run(show_banner=False)
