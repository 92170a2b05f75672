#!/usr/bin/env bash
# What obstore's `put` returns cannot be given to the next `put` as the version to update.
# Package: obstore 0.12.1
# Guess: `put` returns the entity tag and the version of the object. Both have the shape of `UpdateVersion`,
#   whose fields may be None, so `put(store, name, data, mode=result)` is a compare-and-swap.
# Seen: A store without versions returns `{"e_tag": ..., "version": None}`, and `put` refuses that None with
#   a TypeError. The same holds for what `head` returns. Without the key "version" the update works.
# Why it matters: Code that is tried against a bucket with versions works there, and raises at any other.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'obstore==0.12.1'
"$dir/venv/bin/python" - <<'PY'
import obstore
from obstore.store import MemoryStore

store = MemoryStore()
first = obstore.put(store, "state", b"1")
print("put returned", first)
assert first == {"e_tag": '"0"', "version": None}
for version in (first, obstore.head(store, "state")):
    try:
        obstore.put(store, "state", b"2", mode=version)
    except TypeError as refused:
        print("TypeError:", refused)
        assert "None" in str(refused)
    else:
        raise SystemExit("it is taken now")
known = {key: value for key, value in first.items() if value is not None}
obstore.put(store, "state", b"2", mode=known)
assert bytes(obstore.get(store, "state").bytes()) == b"2"
PY
echo "obstore 0.12.1: a version of None, as put returns it, is refused by put."
