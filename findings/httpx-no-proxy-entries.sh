#!/usr/bin/env bash
# httpx fails to start on `NO_PROXY=[::1]` and lets `*.example.com` match nothing.
# Package: httpx 0.28.1
# Guess: A bracketed IPv6 literal and a leading `*.` are usual NO_PROXY entries: both bypass the
#   proxy, at worst they are ignored.
# Seen: `httpx.Client()` raises InvalidURL ("Invalid port") for `[::1]`, whatever it would be
#   used for. `*.example.com` becomes a pattern that api.example.com does not match, so the call
#   goes to the proxy.
# Why it matters: One entry of the host's environment stops every HTTP client of a worker at
#   construction, or sends internal calls through the proxy.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'httpx==0.28.1'
cd "$dir"
env -u http_proxy -u no_proxy -u ALL_PROXY -u all_proxy "$dir/venv/bin/python" - <<'PY'
import os

import httpx

os.environ["HTTP_PROXY"] = "http://127.0.0.1:9"


def goes_to_proxy(entry, url):
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = entry
    client = httpx.Client()
    return client._transport_for_url(httpx.URL(url)) is not client._transport


try:
    goes_to_proxy("[::1]", "http://[::1]/")
    bracketed = "accepted"
except httpx.InvalidURL as error:
    bracketed = str(error)
starred = goes_to_proxy("*.example.com", "http://api.example.com/")
plain = goes_to_proxy("example.com", "http://api.example.com/")
print("[::1]:", bracketed, "| *.example.com via proxy:", starred, "| example.com via proxy:", plain)
assert "Invalid port" in bracketed, bracketed
assert (starred, plain) == (True, False), (starred, plain)
PY
