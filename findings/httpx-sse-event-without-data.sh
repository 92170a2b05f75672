#!/usr/bin/env bash
# httpx-sse hands out an event for a block that has an id or a retry field and no data.
# Package: httpx-sse 0.4.3
# Guess: A block without a data line sets the last event id or the reconnection time and gives
#   the caller nothing, as the HTML standard says of an empty data buffer.
# Seen: Each such block is yielded as a `message` event with empty data: `id: 5` and `retry:
#   100` alone give two events.
# Why it matters: A server that keeps a stream's position alive with id-only blocks makes a
#   consumer parse an empty string as JSON and fail.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'httpx-sse==0.4.3' 'httpx==0.28.1'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import httpx
import httpx_sse

BODY = b"id: 5\n\nretry: 100\n\ndata: real\n\n"


def answer(request):
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=BODY)


with httpx.Client(transport=httpx.MockTransport(answer)) as client:
    with httpx_sse.connect_sse(client, "GET", "http://service/") as source:
        events = [(event.event, event.data) for event in source.iter_sse()]
print("events:", events)
assert events == [("message", ""), ("message", ""), ("message", "real")], events
PY
