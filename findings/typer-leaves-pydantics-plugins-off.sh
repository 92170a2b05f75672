#!/usr/bin/env bash
# Two command lines that typer parses at once can leave PYDANTIC_DISABLE_PLUGINS=1 behind.
# Package: typer 0.29.2
# Guess: Parsing a command line does not touch the environment of the process.
# Seen: While typer builds the adapter of a parameter, the variable is set for the whole process,
#   and put back as this thread found it: of two threads that overlap, the second found what the
#   first had set. The variable stays, and no error is raised.
# Why it matters: Every later program and model of the process works without pydantic's plugins
#   (logfire's instrumentation is one), where a server parses command lines in threads, or tests
#   of a command line run beside each other.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'typer==0.29.2'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import os
import threading

import typer
from pydantic_core import core_schema

NAME = "PYDANTIC_DISABLE_PLUGINS"
first_builds, second_builds, first_is_done = (threading.Event() for _ in range(3))


class Size:
    """A type with a schema of its own: its making is a moment in which typer builds an adapter."""

    def __init__(self, text):
        self.text = text

    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        if threading.current_thread().name == "first":
            first_builds.set()
            second_builds.wait(30)
        else:
            second_builds.set()
            first_is_done.wait(30)
        return core_schema.no_info_plain_validator_function(cls)


def parse():
    app = typer.Typer()

    @app.command()
    def main(size: Size):
        print(f"{threading.current_thread().name}: size {size.text}")

    app(["3"], standalone_mode=False)


assert NAME not in os.environ
first, second = (threading.Thread(target=parse, name=name) for name in ("first", "second"))
first.start()
first_builds.wait(30)
second.start()
first.join()
first_is_done.set()
second.join()
print(f"after both command lines: {NAME}={os.environ.get(NAME)}")
assert os.environ.get(NAME) == "1"
PY
