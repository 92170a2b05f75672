"""Pages for what went wrong: the kernel is away, refuses, or lacks something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cgworker.console.render import render
from cgworker.errors import AnswerInvalid, CommonGroundError, KernelLacks, KernelTrouble


async def kernel_away(request: Request, trouble: Exception) -> Response:
    """Say that the kernel does not answer. The page loads itself anew when it does again.

    What was typed into a form is kept: a button sends it once more.
    """
    typed = getattr(request.state, "typed", None)
    return _page(
        request,
        "The kernel does not answer",
        str(trouble),
        status=503,
        live="*",
        is_away=request.method == "GET",
        typed=typed,
    )


async def kernel_lacks(request: Request, lack: Exception) -> Response:
    """Say that the kernel does not have what the page shows or asked for."""
    return _page(request, "This kernel lacks it", str(lack), status=501)


async def refused(request: Request, refusal: Exception) -> Response:
    """Say why the kernel, or the library, refused what was asked."""
    status = getattr(refusal, "status", 400)
    return _page(request, "Refused", str(refusal), status=status if 400 <= status < 600 else 400)


async def not_served(request: Request, error: Exception) -> Response:
    """Say why the console itself refused a request."""
    assert isinstance(error, HTTPException)
    return _page(request, HTTPStatus(error.status_code).phrase, error.detail, status=error.status_code)


def _page(
    request: Request,
    title: str,
    message: str,
    *,
    status: int,
    live: str = "",
    is_away: bool = False,
    typed: Mapping[str, str] | None = None,
) -> Response:
    return render(
        request,
        "refused.html",
        title=title,
        message=message,
        status=status,
        live=live,
        is_away=is_away,
        typed=typed,
        path=quote(request.scope["path"]),
    )


HANDLERS: Mapping[Any, Callable[[Request, Exception], Any]] = {
    KernelTrouble: kernel_away,
    AnswerInvalid: kernel_away,
    KernelLacks: kernel_lacks,
    CommonGroundError: refused,
    HTTPException: not_served,
}
