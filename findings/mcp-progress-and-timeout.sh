#!/usr/bin/env bash
# Progress reports do not prolong a call's read timeout in the MCP Python SDK.
# Package: mcp 2.3.0
# Guess: `read_timeout_seconds` bounds the silence between messages, so a tool that reports
#   progress every 0.2 s outlives a limit of 0.7 s.
# Seen: The limit is on the whole call: three reports arrive, then MCPError -32001 after 0.7 s.
# Why it matters: A long tool with a heartbeat is cut off in the middle of its work.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'mcp==2.3.0'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import time

import anyio
from mcp.client import Client
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("server")


@server.tool()
async def slow(ctx: Context) -> str:
    for step in range(8):
        await anyio.sleep(0.2)
        await ctx.report_progress(step, 8)
    return "done"


async def main():
    reports = []

    async def heard(*report):
        reports.append(report)

    async with Client(server) as client:
        started = time.monotonic()
        try:
            outcome = await client.call_tool(
                "slow", {}, read_timeout_seconds=0.7, progress_callback=heard
            )
        except Exception as error:
            outcome = error
        return outcome, len(reports), time.monotonic() - started


outcome, reports, seconds = anyio.run(main)
print(f"{outcome!r} after {reports} reports and {seconds:.2f} s")
assert type(outcome).__name__ == "MCPError" and "Timed out" in str(outcome), outcome
assert reports >= 2, reports
PY
