#!/usr/bin/env bash
# jsonschema keeps an error object for every element under every branch of a failing anyOf.
# Package: jsonschema 4.26.0
# Guess: Reading only the first error stops at the first one; a failing anyOf costs about as
#   much as one of its branches.
# Seen: `next(iter_errors(value))` on 2,000 elements and 5 branches holds 10,000 errors in the
#   context of that one.
# Why it matters: One refused answer of a few kilobytes costs a worker memory and time in
#   proportion to elements times branches, before anyone reads a message.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'jsonschema==4.26.0'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import jsonschema

BRANCHES, ELEMENTS = 5, 2_000
branch = {"items": {"type": "integer"}}
schema = {"anyOf": [branch] * BRANCHES}
error = next(jsonschema.Draft202012Validator(schema).iter_errors(["x"] * ELEMENTS))
print("errors kept under the first one:", len(error.context))
assert len(error.context) == BRANCHES * ELEMENTS, len(error.context)
PY
