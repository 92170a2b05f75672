#!/usr/bin/env bash
# Ten retries of obstore, "exponential, base 2, from 0.1 to 15 seconds", are over after two or three seconds.
#
# Packages: obstore 0.12.1
# Guess: each pause is twice the one before. With the defaults (ten retries, 0.1 s at first, base 2, 15 s at most) a store
#   that is down is asked for about a minute (0.1 + 0.2 + 0.4 ... + 12.8 + 15 + 15 = 55 s), within the `retry_timeout` of 180.
# Seen: a pause is a random time between the first pause and `base` times the last one, so it also becomes shorter again: 0.11, 0.19,
#   0.27, 0.12, 0.21, 0.28 ... All ten are over after two to four seconds, and the operation fails. The limits of 15 and of
#   180 seconds are never reached.
# Why it matters: a store that restarts takes longer than that. Whoever wants to wait for it raises `init_backoff`, to which the
#   pauses come back, or `base`; a higher `retry_timeout` or `max_backoff` alone is never reached.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'obstore==0.12.1'
cat >"$folder/retries.py" <<'PYTHON'
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import obstore
from obstore.store import S3Store

asked = []


class DownStore(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(time.monotonic())
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), DownStore)
threading.Thread(target=server.serve_forever, daemon=True).start()
store = S3Store(
    "bucket",
    endpoint=f"http://127.0.0.1:{server.server_port}",
    region="us-east-1",
    access_key_id="id",
    secret_access_key="secret",
    client_options={"allow_http": True},
)
gives_up_early = becomes_shorter = 0
for _ in range(3):
    asked.clear()
    try:
        obstore.get(store, "key")
    except Exception as error:
        print(f"{type(error).__name__} after {asked[-1] - asked[0]:.1f} s and {len(asked) - 1} retries")
    pauses = [later - earlier for earlier, later in zip(asked, asked[1:])]
    print("  pauses:", *(f"{pause:.2f}" for pause in pauses))
    gives_up_early += len(pauses) == 10 and sum(pauses) < 20
    becomes_shorter += any(later < 0.9 * earlier for earlier, later in zip(pauses, pauses[1:]))
print("gives up long before a minute:", gives_up_early == 3)
print("a pause is shorter than the one before:", becomes_shorter > 0)
PYTHON
"$folder/venv/bin/python" "$folder/retries.py" | tee "$folder/seen"
grep -qx "gives up long before a minute: True" "$folder/seen"
grep -qx "a pause is shorter than the one before: True" "$folder/seen"
