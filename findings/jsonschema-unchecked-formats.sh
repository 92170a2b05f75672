#!/usr/bin/env bash
# jsonschema with a FormatChecker accepts any text as date-time, uri or duration.
# Package: jsonschema 4.26.0
# Guess: With `format_checker=FormatChecker()` every format of the standard is asserted, or an
#   unknown one is reported.
# Seen: A plain install asserts date, time, email, ipv4 and uuid; date-time, uri, duration and
#   hostname pass any text, as their optional packages are missing.
# Why it matters: An answer to a question typed `format: date-time` is taken as valid and fails
#   later in the handler, where it counts as the handler's fault.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'jsonschema==4.26.0'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import jsonschema

checker = jsonschema.FormatChecker()


def accepts(name):
    schema = {"type": "string", "format": name}
    return jsonschema.Draft202012Validator(schema, format_checker=checker).is_valid("not one!")


asserted = ("date", "time", "email", "ipv4", "uuid")
skipped = ("date-time", "uri", "duration")
seen = {name: accepts(name) for name in asserted + skipped}
print("accepts 'not one!':", seen)
assert seen == {name: name in skipped for name in seen}, seen
PY
