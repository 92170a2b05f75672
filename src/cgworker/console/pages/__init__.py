"""The pages of the console, one module each."""

from __future__ import annotations

from starlette.routing import Route

from cgworker.console.pages import agents, dispatch, overview, questions, schedules, turn, turns

PAGE_ROUTES: list[Route] = [
    *overview.routes,
    *agents.routes,
    *turns.routes,
    *turn.routes,
    *questions.routes,
    *schedules.routes,
    *dispatch.routes,
]
"""The routes of all pages."""
