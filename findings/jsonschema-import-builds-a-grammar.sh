#!/usr/bin/env bash
# Where rfc3987-syntax is installed, `import jsonschema` builds a grammar of lark for a second.
# Package: jsonschema 4.26.0, rfc3987-syntax 1.1.0, lark 1.3.1
# Guess: An optional format costs its time when a schema with that format is checked, and the
#   import of jsonschema takes a tenth of a second as it does without.
# Seen: The import alone loads lark and reads the whole grammar of IRIs: about ten times as much
#   processor time as the import without the package, before any schema is seen.
# Why it matters: The extra `format-nongpl` brings it, for a whole environment. A server that
#   imports jsonschema at its first schema, in its event loop, stands still for that time.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
for extra in plain formats; do
	python3 -m venv "$dir/$extra"
	"$dir/$extra/bin/pip" install --quiet --disable-pip-version-check 'jsonschema==4.26.0'
done
"$dir/formats/bin/pip" install --quiet --disable-pip-version-check 'rfc3987-syntax==1.1.0' 'lark==1.3.1'
for extra in plain formats; do
	"$dir/$extra/bin/python" - "$extra" <<'PY'
import sys
import time

begun = time.process_time()
import jsonschema

spent, has_lark = time.process_time() - begun, "lark" in sys.modules
print(f"{sys.argv[1]}: import jsonschema took {spent:.2f} s of processor time; lark was loaded: {has_lark}")
assert has_lark == (sys.argv[1] == "formats")
PY
done
