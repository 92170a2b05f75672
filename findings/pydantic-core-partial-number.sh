#!/usr/bin/env bash
# pydantic_core's `allow_partial` keeps a number that is cut in the middle.
# Package: pydantic-core 2.50.5 (pydantic 2.14.4)
# Guess: Where partial JSON drops a string that has not ended, it drops a number that may go on,
#   too: `{"amount": 12` may become 1250.
# Seen: The number is handed out as complete: `{"amount": 12` gives {'amount': 12}, while
#   `{"amount": "12` gives {}.
# Why it matters: A tool call whose arguments are read while the model still streams them acts
#   on a tenth or a hundredth of the amount.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'pydantic==2.14.4'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
from pydantic_core import from_json

whole = '{"amount": 1250}'
number = from_json(whole[:13], allow_partial=True)
string = from_json('{"amount": "12', allow_partial=True)
print("cut number:", number, "cut string:", string)
assert number == {"amount": 12}, number
assert string == {}, string
PY
