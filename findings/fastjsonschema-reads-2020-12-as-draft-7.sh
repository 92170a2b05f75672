#!/usr/bin/env bash
# fastjsonschema takes a schema that names draft 2020-12 and validates by draft 7, so a valid tuple is refused.
# Package: fastjsonschema 2.22.3; jsonschema 4.26.0 beside it
# Guess: A validator that does not know the dialect in `$schema` says so when the schema is compiled.
# Seen: It compiles. `prefixItems` with `items: false` refuses the tuple it describes, and a number below the
#   minimum beside a `$ref`, an object without what `dependentRequired` asks for and one with an unevaluated
#   property pass. jsonschema gives the opposite answer to all four.
# Why it matters: Tools of agents are described in 2020-12 today. Swapping in the faster validator changes what is
#   let through, in both directions.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'fastjsonschema==2.22.3' 'jsonschema==4.26.0'
"$dir/venv/bin/python" - <<'PY'
import fastjsonschema
from jsonschema import Draft202012Validator

CASES = [
    ("prefixItems", {"prefixItems": [{"type": "integer"}], "items": False}, [1], True),
    ("beside $ref", {"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}, "minimum": 3}, 2, False),
    ("dependentRequired", {"dependentRequired": {"a": ["b"]}}, {"a": 1}, False),
    ("unevaluatedProperties", {"properties": {"a": {}}, "unevaluatedProperties": False}, {"b": 1}, False),
]


def fast(schema, value):
    try:
        fastjsonschema.compile(schema)(value)
    except fastjsonschema.JsonSchemaValueException:
        return False
    return True


for name, rules, value, valid in CASES:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **rules}
    print(f"{name}: valid {valid}, fastjsonschema says {fast(schema, value)}")
    assert Draft202012Validator(schema).is_valid(value) is valid
    assert fast(schema, value) is not valid
PY
echo "fastjsonschema 2.22.3: four 2020-12 schemas, four wrong answers."
