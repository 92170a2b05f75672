"""`cg worker why`: in words, why a turn is where it is."""

from __future__ import annotations

import typer

app = typer.Typer()
