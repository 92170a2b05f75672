#!/usr/bin/env bash
# GeneratorExit raised in a `to_thread.run_sync` function closes the waiting coroutine.
# Package: anyio 4.16.0 (asyncio backend)
# Guess: What the function raises is raised at the await, so `except GeneratorExit as e` sees
#   that very exception and may await while it cleans up.
# Seen: The task's coroutine is closed: the await raises another, empty GeneratorExit, an await
#   in the cleanup ends in RuntimeError ("coroutine ignored GeneratorExit") and the code after
#   it never runs.
# Why it matters: Handler code in a thread that leaks a generator's exit skips the settlement
#   that a runner awaits in its `finally`.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'anyio==4.16.0'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import anyio

seen = []


def handler():
    raise GeneratorExit("from the handler")


async def main():
    try:
        await anyio.to_thread.run_sync(handler)
    except BaseException as error:
        seen.append(repr(error))
        await anyio.sleep(0)
        seen.append("settled")


try:
    anyio.run(main)
    outcome = None
except BaseException as error:
    outcome = error
print("at the await:", seen, "| out of run():", repr(outcome))
assert seen == ["GeneratorExit()"], seen
assert "ignored GeneratorExit" in str(outcome), repr(outcome)
PY
