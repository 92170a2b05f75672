#!/usr/bin/env bash
# A comment above a function of Microsoft's Agent Framework ends all stored runs of its workflow.
#
# Packages: agent-framework-core 1.23.0
# Guess: a stored run fits as long as its workflow has the same steps; with a `replay_key`, which is "the caller's
#   versioning contract", in any case. A comment changes nothing.
# Seen: What a stored run is compared with holds the line in which a function begins. One line of comment above it, and
#   the stored run raises ValueError ("created by a different version of workflow"), with a `replay_key` and without. So
#   does another text of a message. A comment below the functions is harmless.
# Why it matters: runs that wait for a person do not survive the next release of their program.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'agent-framework-core==1.23.0'
cat >"$folder/release.py" <<'PYTHON'
import asyncio
import sys
import warnings

warnings.simplefilter("ignore")
from agent_framework import FileCheckpointStorage, RunContext, step, workflow


@step%DECORATOR%
async def charge(customer: str) -> str:
    print("    charged", customer, file=sys.stderr)
    return f"paid by {customer}"


@workflow
async def order(customer: str, ctx: RunContext) -> str:
    paid = await charge(customer)
    answer = await ctx.request_info("ship it?", response_type=str, request_id="ship")
    return f"{paid}, {answer}"


async def main():
    storage = FileCheckpointStorage(sys.argv[1])
    run = order.build(checkpoint_storage=storage)
    if sys.argv[2] == "begin":
        await run.run("ada")
        return
    stored = await storage.get_latest(workflow_name="order")
    try:
        result = await run.run(checkpoint_id=stored.checkpoint_id, responses={"ship": "yes"})
    except ValueError as error:
        print(f"ValueError: {error}")
    else:
        print(result.get_outputs())


asyncio.run(main())
PYTHON
replayed() { # DECORATOR SED: begin a run, change the program, and go on with the stored run
    rm -rf "$folder/stored"
    sed "s/%DECORATOR%/$1/" "$folder/release.py" >"$folder/program.py"
    (cd "$folder" && venv/bin/python program.py stored begin)
    sed -i "$2" "$folder/program.py"
    (cd "$folder" && venv/bin/python program.py stored go-on)
}
keyed='(replay_key=lambda customer: "charge-1:" + customer)'
refused="ValueError.*created by a different version of workflow 'order'"
echo "with a replay_key, a comment below:"; replayed "$keyed" '$a # release 2' | tee "$folder/below"
echo "with a replay_key, a comment above:"; replayed "$keyed" '1i # release 2' | tee "$folder/above"
echo "without one, a comment above:"; replayed '' '1i # release 2' | tee "$folder/plain"
echo "without one, another text of a message:"; replayed '' 's/    charged/    has charged/' | tee "$folder/text"
grep -q "paid by ada, yes" "$folder/below"
for changed in above plain text; do grep -q "$refused" "$folder/$changed"; done
