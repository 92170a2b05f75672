"""Name the verb of a request to a kernel."""

from __future__ import annotations

import re

_VERBS = [
    ("claim", "POST", r"claims:claim(-many)?$"),
    ("renew", "POST", r"claims:renew(-many)?$"),
    ("reconcile", "POST", r"claims:reconcile-expired$"),
    ("dispatch", "POST", r"turns:dispatch$"),
    ("append", "POST", r"/semantic-records$"),
    ("finish", "POST", r"/turns/[^/]+:finish$|turns:settle-many$"),
    ("suspend", "POST", r"/turns/[^/]+:suspend$"),
    ("resume", "POST", r"/turns/[^/]+:resume$"),
    ("stop", "POST", r"/turns/[^/]+:stop$"),
    ("tell", "POST", r"/turns/[^/]+:tell$"),
    ("redo", "POST", r"/turns/[^/]+:redo$"),
    ("presence", "POST", r"/agents/[^/]+:heartbeat-presence$"),
    ("context", "GET", r"/turns/[^/]+/context$"),
    ("feed", "GET", r"/feed$"),
    ("get", "GET", r"/turns/[^/:]+$"),
]


def verb_of(method: str, path: str) -> str | None:
    """Return the verb of a request; None if the request has none of the verbs above.

    Args:
        method: the HTTP method.
        path: the path.
    """
    for verb, its_method, pattern in _VERBS:
        if method == its_method and re.search(pattern, path):
            return verb
    return None


def project_of(path: str) -> str:
    """Return the id of the project that a path belongs to; empty if there is none.

    Args:
        path: the path.
    """
    found = re.match(r"/v3r1/projects/([^/]+)/", path)
    return found[1] if found else ""
