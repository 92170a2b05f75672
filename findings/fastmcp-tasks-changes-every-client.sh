#!/usr/bin/env bash
# Importing fastmcp_tasks makes every fastmcp client of the process declare tasks.
#
# Packages: fastmcp 4.1.4, fastmcp-tasks 4.1.4
# Guess: a client declares the extension `io.modelcontextprotocol/tasks` when it is told to.
# Seen: the import adds a factory to fastmcp's own list, from which every client takes its extensions, also one that
#   is made by a module that never heard of tasks.
# Why it matters: a server that sees the extension may answer a call with a task. A client then gets other answers
#   because something else in its process imported a package.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'fastmcp==4.1.4' 'fastmcp-tasks==4.1.4'
cat >"$folder/look.py" <<'PYTHON'
import sys

from fastmcp.client import extension_hooks

before = len(extension_hooks._internal_client_extension_factories)
import fastmcp_tasks

print(before, len(extension_hooks._internal_client_extension_factories))
PYTHON
found=$("$folder/venv/bin/python" "$folder/look.py" 2>/dev/null | tail -n 1)
echo "factories before and after the import: $found"
test "$found" = "0 1"
