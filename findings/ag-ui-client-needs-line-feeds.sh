#!/usr/bin/env bash
# AG-UI's JavaScript client cannot read server-sent events whose lines end in CR LF, as sse-starlette writes them.
#
# Packages: @ag-ui/client 1.0.0 (npm), sse-starlette 3.7.0, ag-ui-protocol 1.0.0, starlette, uvicorn
# Guess: an agent that sends its AG-UI events through sse-starlette is read like one that uses AG-UI's own encoder: the
#   format of server-sent events allows LF, CR LF and CR.
# Seen: sse-starlette ends lines with CR LF by default. The client looks for two line feeds in a row, finds none, takes the
#   whole stream for one event and fails with "Unexpected non-whitespace character after JSON"; no event arrives. With
#   `EventSourceResponse(..., sep="\n")` the same events arrive.
# Why it matters: both are what their documentation suggests for the job. Say `sep="\n"`, or use `ag_ui.encoder`.
set -euo pipefail
folder=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'sse-starlette==3.7.0' 'ag-ui-protocol==1.0.0' starlette uvicorn
npm install --silent --no-fund --no-audit --prefix "$folder" '@ag-ui/client@1.0.0' >/dev/null
cat >"$folder/agent.py" <<'PYTHON'
import socket
import sys

import uvicorn
from ag_ui.core import RunFinishedEvent, RunStartedEvent
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.routing import Route

EVENTS = [
    RunStartedEvent(type="RUN_STARTED", thread_id="thread", run_id="run"),
    RunFinishedEvent(type="RUN_FINISHED", thread_id="thread", run_id="run"),
]


def answer(sep):
    async def events():
        for event in EVENTS:
            yield {"data": event.model_dump_json(by_alias=True, exclude_none=True)}

    async def endpoint(request):
        return EventSourceResponse(events(), **({"sep": sep} if sep else {}))

    return endpoint


app = Starlette(
    routes=[Route("/default", answer(None), methods=["POST"]), Route("/feeds", answer("\n"), methods=["POST"])]
)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], file=open(sys.argv[1], "w"))
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
PYTHON
cat >"$folder/client.mjs" <<'JS'
import { HttpAgent } from "@ag-ui/client";

console.error = () => {};
const outcomes = {};
for (const path of ["default", "feeds"]) {
  const seen = [];
  const agent = new HttpAgent({ url: `http://127.0.0.1:${process.argv[2]}/${path}` });
  try {
    await agent.runAgent({}, { onEvent: ({ event }) => void seen.push(event.type) });
    outcomes[path] = seen.join(" ");
  } catch (error) {
    outcomes[path] = `${seen.length} events, ${error.name}`;
  }
}
console.log(JSON.stringify(outcomes));
JS
"$folder/venv/bin/python" "$folder/agent.py" "$folder/port" &
server=$!
until test -s "$folder/port"; do sleep 0.1; done
outcomes=$(node "$folder/client.mjs" "$(cat "$folder/port")")
echo "$outcomes"
test "$outcomes" = '{"default":"0 events, SyntaxError","feeds":"RUN_STARTED RUN_FINISHED"}'
