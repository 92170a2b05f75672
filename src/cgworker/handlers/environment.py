"""Make a child's environment, and hide secrets in its output (difference 24)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from attrs import frozen

_SECRET_NAMES = re.compile(r"CG_CLAIM|CG_AGENT_CREDENTIAL|CG_ADMIN_|PG_(?:LISTEN_)?DSN\Z")
_CLAIM_RUN_KEEPS = re.compile(r"CG_AGENT_CREDENTIAL")

# libpq's connection variables: a child must not reach the kernel's database by them.
_PG_NAMES = re.compile(
    r"PG(HOST|HOSTADDR|PORT|DATABASE|USER|PASSWORD|PASSFILE|SERVICE|SERVICEFILE|OPTIONS|REQUIRESSL"
    r"|SSL.*|KRBSRVNAME|GSS.*|TARGETSESSIONATTRS)\Z"
)

# systemd would take a message that a child sends for the worker's own.
_SUPERVISOR_NAMES = re.compile(r"(NOTIFY_SOCKET|WATCHDOG_(PID|USEC)|LISTEN_(PID|FDS|FDNAMES))\Z")

_CLEAN_NAMES = re.compile(
    r"(PATH|HOME|LANG|LC_.*|TZ|TMPDIR|SHELL|USER|TERM|PYTHON.*|VIRTUAL_ENV"
    r"|(http|https|no|all)_proxy|(HTTP|HTTPS|NO|ALL)_PROXY"
    r"|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE)\Z"
)

_SHORTEST_SECRET = 8  # shorter values would hide ordinary words


@frozen
class ChildEnvironment:
    """How a command's environment is made from that of this process.

    Attributes:
        clean: pass on only an allow list (PATH, HOME, locale, proxies ...); the default passes on all but
            secrets.
        added: variables to set in addition.
        settles_itself: the command settles the turn itself (`claim run`), and keeps `CG_AGENT_CREDENTIAL*`.
    """

    clean: bool = False
    added: Mapping[str, str] = {}
    settles_itself: bool = False

    def variables(
        self, inherited: Mapping[str, str], secrets: Iterable[str], turn_variables: Mapping[str, str]
    ) -> dict[str, str]:
        """Return the child's whole environment.

        Args:
            inherited: this process's environment.
            secrets: a variable that contains one of these is left out.
            turn_variables: the `CG_*` variables of the turn; they take precedence.
        """
        passed, values = _passed(tuple(dict(inherited).items()), self.clean, self.settles_itself)
        for secret in secrets:
            if len(secret) >= _SHORTEST_SECRET and secret in values:
                passed = {name: value for name, value in passed.items() if secret not in value}
        return {**passed, **self.added, **turn_variables}


@lru_cache(maxsize=16)  # each turn inherits the same
def _passed(
    inherited: tuple[tuple[str, str], ...], clean: bool, settles_itself: bool
) -> tuple[Mapping[str, str], str]:
    """Return the variables whose names may be passed on, and all their values as one text."""
    passed = {name: value for name, value in inherited if _may_pass(name, clean, settles_itself)}
    return passed, "\0".join(passed.values())  # no value has a NUL, so no secret is found across two


def _may_pass(name: str, clean: bool, settles_itself: bool) -> bool:
    if settles_itself and _CLAIM_RUN_KEEPS.match(name):
        return True
    if any(kept.match(name) for kept in (_SECRET_NAMES, _PG_NAMES, _SUPERVISOR_NAMES)):
        return False
    return not clean or _CLEAN_NAMES.match(name) is not None


def mask_for(secrets: Iterable[str]) -> Callable[[str], str]:
    """Make a function that hides secrets in a text.

    Args:
        secrets: the secrets; values of less than 8 characters are not hidden, since words would be.
    """
    known = sorted((s for s in secrets if len(s) >= _SHORTEST_SECRET), key=len, reverse=True)

    def mask(text: str) -> str:
        for secret in known:  # no regular expression: compiling one for each claim costs more than it saves
            text = text.replace(secret, "***")
        return text

    return mask
