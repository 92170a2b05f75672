#!/usr/bin/env bash
# a2a-sdk turns the integers of a data part into doubles and drops the last digits of large
#   ones.
# Package: a2a-sdk 1.3.0
# Guess: A data part carries the JSON it is given: 3 stays 3, and 9007199254740993 arrives
#   whole.
# Seen: The part is a protobuf Value: 3 is written as 3.0 and 9007199254740993 as
#   9007199254740992.0, without an error.
# Why it matters: Row ids and amounts in nano-units that pass between agents change by one, and
#   a strict integer schema refuses 3.0 or hashes it differently.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'a2a-sdk==1.3.0'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import json

import a2a.types
from google.protobuf.json_format import MessageToJson, ParseDict

sent = {"n": 3, "big": 9007199254740993}
part = ParseDict({"data": sent}, a2a.types.Part())
received = json.loads(MessageToJson(part))["data"]
print("sent:", sent, "received:", received)
assert [repr(received[key]) for key in ("n", "big")] == ["3.0", "9007199254740992.0"], received
PY
