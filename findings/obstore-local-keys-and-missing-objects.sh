#!/usr/bin/env bash
# obstore's LocalStore refuses keys that end in `#` and a number, and its delete raises where other stores say nothing.
#
# Packages: obstore 0.12.1 (LocalStore, MemoryStore)
# Guess: code that was tried with MemoryStore or S3 works with LocalStore too, since one interface covers them all.
# Seen: `put(store, "model#1", ...)` is a GenericError in LocalStore, which keeps such names for files that are being
#   written; "model#x" and "model#1.json" work. Deleting an object that is not there raises FileNotFoundError in LocalStore and
#   is silent in MemoryStore. "a" and "a/b" can both exist in MemoryStore; in LocalStore the second is a GenericError.
# Why it matters: step and attempt names like "model#1" are common in this field, and tests against the one store say
#   nothing about the other. Hash or escape the names, and treat a missing object as deleted.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'obstore==0.12.1'
"$folder/venv/bin/python" - "$folder/objects" <<'PYTHON'
import sys

import obstore
from obstore.store import LocalStore, MemoryStore


def outcome(call, *args):
    try:
        call(*args)
    except Exception as error:
        return type(error).__name__
    return "done"


def outcomes(store):
    seen = {key: outcome(obstore.put, store, key, b"x") for key in ("model#1", "model#x", "model#1.json", "a", "a/b")}
    return seen | {"delete": outcome(obstore.delete, store, "nothing")}


local, memory = outcomes(LocalStore(sys.argv[1], mkdir=True)), outcomes(MemoryStore())
print("local", local, "memory", memory, sep="\n")
assert set(memory.values()) == {"done"}
assert {name for name, seen in local.items() if seen != "done"} == {"model#1", "a/b", "delete"}
assert local["delete"] == "FileNotFoundError"
PYTHON
