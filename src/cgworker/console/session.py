"""The session of a browser: a one-time link opens it, a cookie carries it, and a token guards each write."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

_MAX_SESSIONS = 1000


class Sessions:
    """The sessions of one console, in memory: they end with it.

    Args:
        needs_link: True if only a one-time link opens a session; False opens one for every browser, where
            the application around the console has its own login.
    """

    def __init__(self, *, needs_link: bool) -> None:
        self.needs_link = needs_link
        self._secret = secrets.token_bytes(32)
        self._links: set[str] = set()
        self._sessions: dict[str, None] = {}

    def new_link_token(self) -> str:
        """Return the token of a new link, which opens one session."""
        token = secrets.token_urlsafe(32)
        self._links.add(token)
        return token

    def open(self, link_token: str) -> str | None:
        """Return the id of a new session; None if the link is unknown or was used."""
        if link_token not in self._links:
            return None
        self._links.discard(link_token)
        session_id = secrets.token_urlsafe(32)
        self._sessions[session_id] = None
        if len(self._sessions) > _MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return session_id

    def is_open(self, session_id: str) -> bool:
        """Return whether the browser with this session may see the console."""
        if not self.needs_link:
            return bool(session_id)
        return session_id in self._sessions

    def csrf_token(self, session_id: str) -> str:
        """Return the token that each form of the session carries."""
        return hmac.new(self._secret, session_id.encode(), hashlib.sha256).hexdigest()

    def is_from_own_form(self, session_id: str, token: str) -> bool:
        """Return whether the token of a form belongs to the session."""
        return hmac.compare_digest(self.csrf_token(session_id).encode(), token.encode())


def cookie_name(request: HTTPConnection) -> str:
    """Return the name of the cookie. A browser does not tell ports apart, so the name does."""
    return f"cg_console_{request.url.port or request.url.scheme}"


def session_id_of(request: HTTPConnection) -> str:
    """Return the session that the browser's cookie names; empty without one."""
    return request.cookies.get(cookie_name(request), "")


def set_cookie(request: Request, response: Response, session_id: str) -> None:
    """Give the browser its session, which no script can read and no other site can use."""
    response.set_cookie(
        cookie_name(request),
        session_id,
        path=request.scope.get("root_path", "") or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
