#!/usr/bin/env bash
# rich cuts JSON in a Panel at the border without an ellipsis.
# Package: rich 15.0.0
# Guess: A value too long for the panel is folded onto the next line or ends in an ellipsis.
# Seen: The line stops at the border: the closing quote and the rest are missing and nothing
#   tells. Outside a panel, Text with no_wrap, overflow="ignore" and crop=False is still broken
#   at the console's width.
# Why it matters: An operator copies a truncated id or result from a worker's terminal output
#   and takes it for the whole.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'rich==15.0.0'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import io
import json

from rich.console import Console
from rich.json import JSON
from rich.panel import Panel
from rich.text import Text

output = io.StringIO()
console = Console(file=output, width=30)
console.print(Panel(JSON(json.dumps({"id": "x" * 60}))))
shown = output.getvalue()
print(shown)
assert shown.count("x") < 60 and "…" not in shown and "..." not in shown, shown
output.truncate(0)
console.print(Text("y" * 50, no_wrap=True, overflow="ignore"), crop=False)
lines = output.getvalue().strip("\0\n").split("\n")
print(lines)
assert [len(line) for line in lines] == [30, 20], lines
PY
