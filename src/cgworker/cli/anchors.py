"""Read the request id and the dispatch key, by which a repeated dispatch gives the same turn."""

from __future__ import annotations

from cgworker.errors import UsageError
from cgworker.profiles import non_blank
from cgworker.wire.turns import read_anchor
from cgworker.wire.values import Fault


def anchors(command_name: str, request_id: str | None, dispatch_key: str | None) -> tuple[str, str]:
    """Read both; if one is missing, the other is used for it.

    Args:
        command_name: the command, for the message of a failure.
        request_id: the value of --request-id, if it is given.
        dispatch_key: the value of --dispatch-key, if it is given.

    Returns:
        The request id and the dispatch key.

    Raises:
        UsageError: both are missing, or one has a form that the kernel would refuse.
    """
    request_id, dispatch_key = non_blank(request_id), non_blank(dispatch_key)
    one = request_id or dispatch_key
    if one is None:
        raise UsageError(f"{command_name} requires --request-id or --dispatch-key")
    try:
        return read_anchor(request_id or one, "request_id"), read_anchor(dispatch_key or one, "dispatch_key")
    except Fault as fault:
        raise UsageError(fault.msg) from fault
