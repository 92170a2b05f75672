#!/usr/bin/env bash
# AG-UI's Python encoder takes what the client accepts, and does not look at it.
#
# Package: ag-ui-protocol 1.0.0
# Guess: `EventEncoder(accept="application/vnd.ag-ui.event+proto")` writes the protocol's binary form, or refuses.
# Seen: content type `text/event-stream`, and `data: {"type":"RUN_STARTED",...}` whatever was accepted.
# Why it matters: a server that answers with the media type that it was asked for, and this encoder's bytes, sends
#   server-sent events under the name of another format. Take the type from `get_content_type()` alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'ag-ui-protocol==1.0.0'
"$folder/venv/bin/python" - <<'PYTHON'
from ag_ui.core import RunStartedEvent
from ag_ui.encoder import EventEncoder

started = RunStartedEvent(thread_id="t", run_id="r")
for accepted in ("text/event-stream", "application/vnd.ag-ui.event+proto", "application/xml"):
    encoder = EventEncoder(accept=accepted)
    print(accepted, "->", encoder.get_content_type(), encoder.encode(started).strip())
    assert encoder.get_content_type() == "text/event-stream"
    assert encoder.encode(started) == 'data: {"type":"RUN_STARTED","threadId":"t","runId":"r"}\n\n'
PYTHON
