"""Fill the templates: everything is escaped, and text of agents is made safe to read."""

from __future__ import annotations

import secrets
from functools import cache
from importlib.metadata import version
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from cgworker.console import text
from cgworker.console.console import console_of
from cgworker.console.session import session_id_of, set_cookie

PAGES = (
    ("Overview", ""),
    ("Agents", "agents"),
    ("Turns", "turns"),
    ("Questions", "questions"),
    ("Schedules", "schedules"),
    ("Dispatch", "dispatch"),
)
"""The pages of the menu: their titles and paths."""

_MAX_PART = 1000


def render(
    request: Request,
    template: str,
    *,
    title: str,
    status: int = 200,
    live: str = "",
    is_away: bool = False,
    **context: Any,
) -> Response:
    """Return a page, or only its moving part to a page that loads that anew.

    Args:
        request: the request of the browser.
        template: the name of the template.
        title: the title of the page.
        status: the HTTP status.
        live: the turn whose changes load the page anew; "*" for any change, empty for none.
        is_away: whether the page stands for one that could not be made, and is loaded again until it can.
        context: what the template shows.
    """
    console, sessions = console_of(request), request.app.state.sessions
    session_id = session_id_of(request)
    new_session = "" if session_id or sessions.needs_link else secrets.token_urlsafe(32)
    page = _environment().get_template(template)
    response = HTMLResponse(
        page.render(
            is_whole="hx-request" not in request.headers,
            root=request.scope.get("root_path", ""),
            pages=PAGES,
            title=title,
            live=live,
            is_away=is_away,
            version=request.scope["console_version"],
            project_id=console.project_id,
            agent_id=console.agent.agent_id,
            kernel_url=console.kernel.base_url,
            trouble=console.feed.trouble,
            here=_here(request) if request.method == "GET" else "",
            csrf=sessions.csrf_token(session_id or new_session),
            **context,
        ),
        status_code=status,
    )
    if request.method == "POST":  # a browser cannot load it anew for somebody who goes back to it
        response.headers["Cache-Control"] = "private, no-cache"
    if new_session:
        set_cookie(request, response, new_session)
    return response


def link(request: Request, *path: str, **query: Any) -> str:
    """Return the link to a view of the console.

    Args:
        request: the request of the browser.
        path: the segments of its path.
        query: its parameters; those that are None or empty are left out.
    """
    return build_link(request.scope.get("root_path", ""), *path, **query)


def build_link(root: str, *path: str, **query: Any) -> str:
    """Return the link to a view below a root path; see `link`."""
    given = {name: value for name, value in query.items() if value not in (None, "", False)}
    if any(len(str(part)) > _MAX_PART for part in (*path, *given.values())):
        return "#"  # no id of a kernel is so long
    address = "/".join([root, *(quote(segment, safe="") for segment in path)])
    return f"{address}?{urlencode(given)}" if given else address


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cgworker.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        shown=text.shown,
        with_commands=text.with_commands,
        json=text.shown_json,
        iso=text.iso,
        clock=text.clock,
        ago=text.ago,
        span=text.span,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.globals.update(link=build_link, cgworker_version=version("cgworker"))
    return environment


def _here(request: Request) -> str:
    """Return the address of the page itself, which its moving part is loaded from again."""
    path = quote(request.scope["path"])
    return f"{path}?{request.url.query}" if request.url.query else path
