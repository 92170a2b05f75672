"""The pages of the console, one module each."""

from __future__ import annotations

from starlette.routing import Route

from cgworker.console.pages import turn, turns

PAGE_ROUTES: list[Route] = [*turns.routes, *turn.routes]
