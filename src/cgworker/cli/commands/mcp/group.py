"""`cg mcp`: offer a project's agents to programs that speak MCP."""

from __future__ import annotations

from cgworker.cli.command import Program, add_program, group
from cgworker.cli.commands.mcp.serve import serve

app: Program = group("Offer a project's agents to programs that speak MCP.")
add_program(app, "serve", serve)
