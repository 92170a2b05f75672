#!/usr/bin/env bash
# A DBOS workflow that goes on from its journal can meet another exception type than the one its step raised.
#
# Packages: dbos 3.4.0 (SQLite system database)
# Guess: a step's error is kept in the journal, so `except OutOfStock` catches it again when the workflow is replayed.
# Seen: an exception whose `__init__` has a required keyword argument is stored, but cannot be read back. The first run
#   catches OutOfStock; the replayed one gets TypeError ("missing 1 required keyword-only argument") at the same step and
#   takes the other branch. DBOS logs a warning when the value is listed, and none when it is written.
# Why it matters: the two runs of one workflow differ, and only after a crash. Give exceptions that steps raise a
#   `__reduce__`, or return such outcomes as values.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'dbos==3.4.0'
cd "$folder"
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
from dbos import DBOS, SetWorkflowID

DBOS(config={"name": "orders", "system_database_url": "sqlite:///orders.sqlite", "run_admin_server": False})


class OutOfStock(Exception):
    def __init__(self, item, *, wanted):
        super().__init__(f"{wanted} x {item}")


@DBOS.step()
def reserve():
    raise OutOfStock("lamp", wanted=3)


@DBOS.step()
def tell(outcome):
    return outcome


@DBOS.workflow()
def order():
    try:
        reserve()
    except OutOfStock:
        return tell("sorry, sold out")
    except Exception as error:
        return tell(f"unforeseen: {type(error).__name__}")


DBOS.launch()
with SetWorkflowID("order-1"):
    first = order()
replayed = DBOS.fork_workflow("order-1", 2).get_result()
print("first run:", first, "| replayed from step 2:", replayed)
assert first == "sorry, sold out"
assert replayed == "unforeseen: TypeError"
DBOS.destroy()
PYTHON
