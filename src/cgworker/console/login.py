"""Open a session by a one-time link."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from cgworker.console.request_guard import NO_SESSION
from cgworker.console.session import session_id_of, set_cookie

# The page loads the next one itself: after a redirect from another site's page, a browser would not send
# the new `SameSite=Strict` cookie.
_SIGNED_IN = """<!doctype html><html lang="en"><head><title>Console</title>
<meta http-equiv="refresh" content="0;url=./"></head>
<body><main><h1>Console</h1><p><a href="./">To the console</a></p></main></body></html>
"""


async def login(request: Request) -> Response:
    """Open a session with the token of a link; each link works once."""
    sessions = request.app.state.sessions
    session_id = sessions.open(request.query_params.get("token", ""))
    if session_id is None and sessions.is_open(session_id_of(request)):
        return HTMLResponse(_SIGNED_IN)  # the same browser, again
    if session_id is None:
        return PlainTextResponse(f"This link was used, or is not of this console. {NO_SESSION}", 403)
    response = HTMLResponse(_SIGNED_IN)
    set_cookie(request, response, session_id)
    return response


routes: list[Route] = [Route("/login", login)]
