#!/usr/bin/env bash
# cronsim leaves out minutes that exist where daylight saving moves the clock by half an hour.
#
# Packages: cronsim 2.8
# Guess: on Lord Howe Island the clock goes from 02:00 to 02:30 on 2024-10-06, so an hourly job at minute 30 or 45 runs at
#   02:30 or 02:45 that night as well: both minutes exist.
# Seen: going forward, `30 * * * *` and `45 * * * *` go from 01:30 and 01:45 to 03:30 and 03:45, so an hour and a
#   half passes between two runs. Asked backwards (`reverse=True`), cronsim lists 02:30 and 02:45, and leaves out
#   01:45. In seven zones whose clock moves by an hour both directions agreed for a year.
# Why it matters: a schedule that is computed forward loses a run once a year in that zone, and a catch-up that is
#   computed backward finds one more instant than the timer had.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'cronsim==2.8' tzdata
"$folder/venv/bin/python" - <<'PYTHON'
from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim

zone = ZoneInfo("Australia/Lord_Howe")


def forward(expression):
    midnight = datetime(2024, 10, 6, tzinfo=zone)
    return [f"{moment:%H:%M%z}" for moment in islice(CronSim(expression, midnight), 4)]


def backward(expression):
    four = datetime(2024, 10, 6, 4, tzinfo=zone)
    return [f"{moment:%H:%M%z}" for moment in islice(CronSim(expression, four, reverse=True), 3)][::-1]


for minute in ("30", "45"):
    print(f"{minute} * * * *", "forward", forward(f"{minute} * * * *"), "backward", backward(f"{minute} * * * *"))
assert forward("30 * * * *") == ["00:30+1030", "01:30+1030", "03:30+1100", "04:30+1100"]
assert forward("45 * * * *") == ["00:45+1030", "01:45+1030", "03:45+1100", "04:45+1100"]
assert backward("30 * * * *") == ["01:30+1030", "02:30+1100", "03:30+1100"]
assert backward("45 * * * *") == ["00:45+1030", "02:45+1100", "03:45+1100"]
PYTHON
