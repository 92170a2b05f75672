#!/usr/bin/env bash
# huey reads the hours `22-2` as a night across midnight.
#
# Packages: huey 3.5.4
# Guess: a range whose end is before its beginning matches nothing, so `crontab(hour="22-2")` is refused.
# Seen: the task runs at 22, 23, 0, 1 and 2 o'clock. A step after a single number is what huey refuses: `5/20` "matches no values".
# Why it matters: two numbers in the wrong order are not found when the schedule is written; the task runs around the clock's end.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'huey==3.5.4'
"$folder/venv/bin/python" - <<'PYTHON'
from datetime import datetime

from huey import crontab

due = crontab(minute="0", hour="22-2")
hours = [hour for hour in range(24) if due(datetime(2026, 1, 1, hour))]
print("22-2:", hours)
assert hours == [0, 1, 2, 22, 23]
try:
    crontab(minute="5/20")
except ValueError as error:
    print("5/20:", error)
    assert "matches no values" in str(error)
else:
    raise SystemExit("5/20 is accepted")
PYTHON
