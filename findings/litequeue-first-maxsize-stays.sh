#!/usr/bin/env bash
# The first `maxsize` that a litequeue file was ever opened with bounds it for ever, whatever later openers say.
#
# Packages: litequeue 0.9
# Guess: `maxsize` belongs to the object that is given it: a later opener with a larger one, or with none, has that.
# Seen: The bound is a trigger in the file, made only if there is none. An opener with `maxsize=1000`, and one
#   without any, both fail at the third message of a file that was once opened with `maxsize=2`, and both say of
#   themselves what they were given.
# Why it matters: raising the size of a full queue and restarting changes nothing; the error names a number that
#   stands in no configuration any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'litequeue==0.9'
"$folder/venv/bin/python" - "$folder/queue.sqlite" <<'PYTHON'
import sqlite3
import sys

from litequeue import LiteQueue

path = sys.argv[1]
LiteQueue(path, maxsize=2).conn.close()
for number, given in enumerate(({"maxsize": 1000}, {})):
    queue = LiteQueue(path, **given)
    while queue.pop() is not None:
        pass
    queue.put("first")
    queue.put("second")
    try:
        queue.put("third")
    except sqlite3.IntegrityError as error:
        print(f"opened with {given}, says maxsize={queue.maxsize}: {error}")
        assert str(error) == "Max queue length reached: 2"
    else:
        raise AssertionError("the third message was taken")
    queue.conn.close()
PYTHON
