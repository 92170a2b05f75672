#!/usr/bin/env bash
# LangGraph's serializer gives a set of tuples back as a list and a deque without its bound.
# Package: langgraph-checkpoint 4.3.2
# Guess: Types the serializer knows (set, deque) come back equal, or dumping raises.
# Seen: {1, (2, 3)} comes back as [[2, 3], 1] with one log line; deque([1], maxlen=3) comes back
#   unbounded; a zoned datetime keeps its offset only, so its zone and fold are gone.
# Why it matters: A node that adds to a set of (tool, argument) pairs works until the run is
#   resumed on another worker, then fails with AttributeError; a bounded window grows for ever.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'langgraph-checkpoint==4.3.2' 'tzdata==2026.1'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
from collections import deque
from datetime import datetime
from zoneinfo import ZoneInfo

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

serializer = JsonPlusSerializer()


def again(value):
    return serializer.loads_typed(serializer.dumps_typed(value))


pairs = again({1, (2, 3)})
window = again(deque([1], maxlen=3))
moment = again(datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")))
print("set:", pairs, "deque:", window, "zone:", repr(moment.tzinfo))
assert isinstance(pairs, list) and [2, 3] in pairs, pairs
assert isinstance(window, deque) and window.maxlen is None, window
assert not isinstance(moment.tzinfo, ZoneInfo), moment
PY
