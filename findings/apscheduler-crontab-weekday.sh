#!/usr/bin/env bash
# APScheduler's `from_crontab` counts weekdays from Monday and joins day fields with AND.
# Package: APScheduler 3.11.3
# Guess: A crontab line means what cron means by it: weekday 0 is Sunday, and `13 * 4` runs on
#   every 13th and on every Thursday.
# Seen: `0 0 * * 0` fires on a Monday, `0 0 * * 7` is refused, and `0 0 13 * 4` fires only on a
#   13th that is a Friday.
# Why it matters: A schedule carried over from crontab to a worker fires a day late or hardly
#   ever, and nothing is reported.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'APScheduler==3.11.3'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
from datetime import datetime, timezone

from apscheduler.triggers.cron import CronTrigger

start = datetime(2026, 1, 1, tzinfo=timezone.utc)


def first(line):
    fired = CronTrigger.from_crontab(line, timezone="UTC").get_next_fire_time(None, start)
    return fired.strftime("%a %d %b")


seen = {line: first(line) for line in ("0 0 * * 0", "0 0 13 * 4")}
try:
    seen["0 0 * * 7"] = first("0 0 * * 7")
except ValueError as error:
    seen["0 0 * * 7"] = "refused"
    print(error)
print("seen:", seen)
assert seen == {"0 0 * * 0": "Mon 05 Jan", "0 0 13 * 4": "Fri 13 Feb", "0 0 * * 7": "refused"}
PY
