"""Read the forms that a browser sends."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from cgworker.console.session import session_id_of

_MAX_BYTES = 4 * 1024 * 1024
_MAX_FIELDS = 2000


async def read_form(request: Request) -> dict[str, str]:
    """Read a form, and check that it is one of the session's own.

    Args:
        request: the request of the browser.

    Returns:
        The fields; of one that is given twice, the last. `request.state.typed` has them as well.

    Raises:
        HTTPException: 403 if the form lacks the token of the session, 413 if it is too large.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BYTES:
            raise HTTPException(413, f"The form is larger than {_MAX_BYTES} bytes.")
    try:
        text = body.decode("utf-8", "replace")
        form = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError as wrong:
        raise HTTPException(413, f"The form has more than {_MAX_FIELDS} fields.") from wrong
    token = form.pop("csrf", "")
    if not request.app.state.sessions.is_from_own_form(session_id_of(request), token):
        raise HTTPException(403, "The form is too old: load its page again.")
    request.state.typed = form
    return form
