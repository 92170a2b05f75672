#!/usr/bin/env bash
# obstore's `list(prefix=…)` matches whole path segments, not the beginning of a key.
# Package: obstore 0.12.1
# Guess: A prefix is a prefix, as in the S3 API: `run-1` lists run-1, run-10 and run-1/a, and
#   `run-` lists all of them.
# Seen: `run-1` lists only run-1/a: neither run-10 nor the object run-1 itself. `run-` lists
#   nothing.
# Why it matters: A sweep of a run's objects by id prefix leaves the object of that very name
#   behind, and keys sharded by a leading string look like an empty store.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'obstore==0.12.1'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import obstore
from obstore.store import MemoryStore

store = MemoryStore()
for key in ("run-1", "run-10", "run-1/a", "run-10/a"):
    obstore.put(store, key, b"x")


def listed(prefix):
    return sorted(item["path"] for batch in obstore.list(store, prefix=prefix) for item in batch)


seen = {prefix: listed(prefix) for prefix in ("run-1", "run-")}
print("seen:", seen)
assert seen == {"run-1": ["run-1/a"], "run-": []}, seen
PY
