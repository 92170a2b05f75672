#!/usr/bin/env bash
# Two cron libraries read `0 0 */2 * 1` as different days.
#
# Packages: cronsim 2.8, croniter 7.0.0
# Guess: `*/2` is a list of days like `1-31/2`, so with a weekday beside it the job runs on either, in both libraries.
# Seen: croniter runs on either. cronsim follows Debian's cron: a field that begins with `*` counts as a star, so the
#   job runs only on odd days that are Mondays (2026-12-07, 2026-12-21, 2027-01-11). With `1-31/2` both run on either.
# Why it matters: a schedule that moves from one queue to another (Procrastinate uses croniter) runs on other days, and
#   two spellings of one set of days are not the same schedule.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'cronsim==2.8' 'croniter==7.0.0'
"$folder/venv/bin/python" - <<'PYTHON'
from datetime import datetime
from itertools import islice

from croniter import croniter
from cronsim import CronSim

start = datetime(2026, 11, 28, 12)


def by_cronsim(expression):
    return [f"{day:%Y-%m-%d}" for day in islice(CronSim(expression, start), 3)]


def by_croniter(expression):
    days = croniter(expression, start)
    return [f"{days.get_next(datetime):%Y-%m-%d}" for _ in range(3)]


for expression in ("0 0 */2 * 1", "0 0 1-31/2 * 1"):
    print(expression, "cronsim", by_cronsim(expression), "croniter", by_croniter(expression))
either = ["2026-11-29", "2026-11-30", "2026-12-01"]
assert by_cronsim("0 0 */2 * 1") == ["2026-12-07", "2026-12-21", "2027-01-11"]
assert by_croniter("0 0 */2 * 1") == either
assert by_cronsim("0 0 1-31/2 * 1") == by_croniter("0 0 1-31/2 * 1") == either
PYTHON
