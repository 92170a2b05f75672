#!/usr/bin/env bash
# An MCP call returns while its progress callbacks still run, and a later callback can end before an earlier one.
# Package: mcp 2.3.0
# Guess: The client awaits the progress callback of each notification in turn, and `call_tool` returns when the
#   last of them is done.
# Seen: Over stdio each callback runs in a task of its own. A tool that reports 0 to 4 and answers: the call has
#   returned before any callback is done, and the first report is handled last where it takes longer. In one
#   process (`Client(server)`) the same callbacks run one after the other before the call returns.
# Why it matters: Who writes progress to a database or a person after an await gets it out of order and behind
#   the result, and only outside of tests that connect in memory.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'mcp==2.3.0'
cat >"$dir/server.py" <<'PY'
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("counter")


@server.tool()
async def count(context: Context) -> str:
    for number in range(5):
        await context.report_progress(number, 5)
    return "counted"


if __name__ == "__main__":
    server.run("stdio")
PY
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import sys

import anyio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from server import server


async def handled(target):
    """Returns what was handled when the call returned, and in the end."""
    done = []

    async def on_progress(progress, total, message):
        await anyio.sleep(0.5 if progress == 0 else 0.1)
        done.append(int(progress))

    async with Client(target) as client:
        await client.call_tool("count", progress_callback=on_progress)
        at_return = list(done)
        while len(done) < 5:
            await anyio.sleep(0.05)
    return at_return, done


async def main():
    stdio = await handled(stdio_client(StdioServerParameters(command=sys.executable, args=["server.py"])))
    memory = await handled(server)
    print("stdio: handled when the call returned", stdio[0], "in the end", stdio[1])
    print("in memory: handled when the call returned", memory[0])
    assert stdio[0] == []
    assert stdio[1][-1] == 0
    assert memory[0] == [0, 1, 2, 3, 4]


anyio.run(main)
PY
echo "mcp 2.3.0: the call returned before its progress was handled."
