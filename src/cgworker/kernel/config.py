"""`KernelConfig`: the settings of a kernel, read once from environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from attrs import NOTHING, Attribute, field, fields, frozen

from cgworker.errors import UsageError
from cgworker.kernel.addresses import Network, read_host_names, read_networks

# ---------------------------------------------------------------- how a variable is read


_MAX_SECONDS = 10**8  # three years, which overflows no clock and no interval of PostgreSQL


def _seconds(least: float) -> Callable[[str], int | float]:
    def read(text: str) -> int | float:
        number = float(text)
        if not least <= number <= _MAX_SECONDS:
            raise ValueError(text)
        return int(number) if number.is_integer() else number

    return read


_DAYS = re.compile(r"([0-9]+(?:\.[0-9]+)?)([dhms]?)\Z")
_UNIT_SECONDS = {"": 86_400, "d": 86_400, "h": 3600, "m": 60, "s": 1}


def _read_days(text: str) -> float:
    found = _DAYS.match(text)
    seconds = float(found[1]) * _UNIT_SECONDS[found[2]] if found else 0.0
    if not 0 < seconds <= 100 * _MAX_SECONDS:
        raise ValueError(text)
    return seconds


def _integer(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise ValueError(text)
        return number

    return read


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(text)
        return text.lower()

    return read


def _switch(text: str) -> bool:
    return {"on": True, "off": False}[text.lower()]


def _setting(
    variable: str, read: Callable[[str], Any], wanted: str, default: Any = NOTHING, *, secret: bool = False
) -> Any:
    """Define a field that is read from an environment variable; `wanted` describes its valid values."""
    return field(
        default=default,
        repr=not secret,
        metadata={"variable": variable, "read": read, "wanted": wanted},
    )


_LOG_LEVELS = ("critical", "error", "warning", "info", "debug", "trace")


@frozen(kw_only=True)
class KernelConfig:
    """A kernel's settings.

    Attributes:
        pg_dsn: PG_DSN. The PostgreSQL to use, as `postgresql://user:password@host:port/database`; unset
            means the embedded one. Of several hosts (`one:5432,two:5432`) it is the one that takes writes.
        pg_listen_dsn: PG_LISTEN_DSN, the address of PG_DSN. A direct address of the same database, for LISTEN
            and NOTIFY, if PG_DSN is that of a pooler in transaction mode.
        postgres_folder: CG_POSTGRES_FOLDER. Where the embedded PostgreSQL keeps its data; unset means
            `cgworker/postgres` in the XDG data folder.
        host: CG_HOST, 127.0.0.1. The address to listen on.
        port: CG_PORT, 8000. The port to listen on; 0 takes a free one.
        log_level: CG_LOG_LEVEL, info. One of critical, error, warning, info, debug, trace.
        service_name: CG_SERVICE_NAME, commonground-v3-service. What the health routes call this kernel.
        claim_timeout_seconds: CG_CLAIM_TIMEOUT_SECONDS, 30 s. The length of a lease.
        claim_reaper_interval_seconds: CG_CLAIM_REAPER_INTERVAL_SECONDS, a sixth of the lease but at least
            0.5 s. How often ended leases are looked for; 0 never does.
        project_header: CG_AGENT_PROJECT_HEADER, X-CG-Project-Id. Which header names the caller's project.
        agent_header: CG_AGENT_ID_HEADER, X-CG-Agent-Id. Which header names the calling agent.
        max_body_bytes: CG_MAX_BODY_BYTES, 16777216 bytes. A longer request body is refused (413).
        max_bodies_bytes: CG_MAX_BODIES_BYTES, 268435456 bytes. The most bytes that the bodies of all
            requests under way may have together; a large one above it is refused (503, with Retry-After).
        max_body_seconds: CG_MAX_BODY_SECONDS, 60 s. A body that takes longer to arrive is refused (408).
        max_depth: CG_MAX_DEPTH, 200 levels. JSON nested deeper is refused (422).
        max_wait_seconds: CG_MAX_WAIT_SECONDS, 60 s. The longest that `Prefer: wait` can make a request wait.
        max_page_items: CG_MAX_PAGE_ITEMS, 1000. The longest page of a context or feed.
        pool_size: CG_POOL_SIZE, 10. How many connections to PostgreSQL are kept for requests.
        redeems_per_minute: CG_REDEEMS_PER_MINUTE, 120. How many join codes one source may try in a minute;
            0 sets no limit.
        trusted_proxies: CG_TRUSTED_PROXIES, none. Proxies whose `X-Forwarded-For` is believed: addresses and
            networks, comma separated. The clients of any other proxy count as one source.
        allowed_hosts: CG_ALLOWED_HOSTS, none. Names of hosts, comma separated, that are answered to beside
            `localhost` and loopback addresses; all others are refused (421). Unset, a server that listens on
            a loopback address answers to loopback names alone, any other to every name.
        retention_seconds: CG_RETENTION_DAYS, none. What was closed or revoked longer ago is removed for ever,
            as by `cg admin purge`: a number of days, or a time with a unit such as 36h.
        metrics: CG_METRICS, on. Whether `/metrics` is served; "off" hides it.
        metrics_agents: CG_METRICS_AGENTS, 200. How many agents have series of their own at `/metrics`: those
            with the most turns that are ready or running. The turns of all others are one sum.
    """

    pg_dsn: str | None = _setting("PG_DSN", str, "a postgresql:// address", None, secret=True)
    pg_listen_dsn: str | None = _setting("PG_LISTEN_DSN", str, "a postgresql:// address", None, secret=True)
    postgres_folder: str | None = _setting("CG_POSTGRES_FOLDER", str, "a folder", None)
    host: str = _setting("CG_HOST", str, "an address to listen on", "127.0.0.1")
    port: int = _setting("CG_PORT", _integer(0, 65535), "a port from 0 to 65535", 8000)
    log_level: str = _setting(
        "CG_LOG_LEVEL", _one_of(*_LOG_LEVELS), "one of " + ", ".join(_LOG_LEVELS), "info"
    )
    service_name: str = _setting("CG_SERVICE_NAME", str, "a name", "commonground-v3-service")
    claim_timeout_seconds: float = _setting(
        "CG_CLAIM_TIMEOUT_SECONDS", _seconds(0.1), "a number of seconds, at least 0.1", 30
    )
    claim_reaper_interval_seconds: float = _setting(
        "CG_CLAIM_REAPER_INTERVAL_SECONDS", _seconds(0), "a number of seconds, or 0 for never"
    )
    project_header: str = _setting("CG_AGENT_PROJECT_HEADER", str, "a header's name", "X-CG-Project-Id")
    agent_header: str = _setting("CG_AGENT_ID_HEADER", str, "a header's name", "X-CG-Agent-Id")
    max_body_bytes: int = _setting("CG_MAX_BODY_BYTES", _integer(1), "a number of bytes", 16 * 1024 * 1024)
    max_bodies_bytes: int = _setting(
        "CG_MAX_BODIES_BYTES", _integer(1, 2**40), "a number of bytes", 256 * 1024 * 1024
    )
    max_body_seconds: float = _setting(
        "CG_MAX_BODY_SECONDS", _seconds(0.1), "a number of seconds, at least 0.1", 60
    )
    max_depth: int = _setting("CG_MAX_DEPTH", _integer(1, 500), "a number of levels from 1 to 500", 200)
    max_wait_seconds: float = _setting("CG_MAX_WAIT_SECONDS", _seconds(0), "a number of seconds", 60)
    max_page_items: int = _setting("CG_MAX_PAGE_ITEMS", _integer(1), "a number of items", 1000)
    pool_size: int = _setting("CG_POOL_SIZE", _integer(1), "a number of connections, at least 1", 10)
    redeems_per_minute: int = _setting(
        "CG_REDEEMS_PER_MINUTE", _integer(0), "a number, or 0 for no limit", 120
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        "CG_TRUSTED_PROXIES", read_networks, "addresses or networks, comma separated", ()
    )
    allowed_hosts: tuple[str, ...] = _setting(
        "CG_ALLOWED_HOSTS", read_host_names, "names of hosts, comma separated, without a scheme", ()
    )
    retention_seconds: float | None = _setting(
        "CG_RETENTION_DAYS", _read_days, "a number of days above 0, or a time such as 90d or 36h", None
    )
    metrics: bool = _setting("CG_METRICS", _switch, '"on" or "off"', True)
    metrics_agents: int = _setting(
        "CG_METRICS_AGENTS", _integer(0, 10_000), "a number of agents from 0 to 10000", 200
    )

    @claim_reaper_interval_seconds.default
    def _a_sixth_of_the_lease(self) -> float:
        return max(0.5, self.claim_timeout_seconds / 6)

    @property
    def lease(self) -> timedelta:
        """The length of a lease."""
        return timedelta(seconds=self.claim_timeout_seconds)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> KernelConfig:
        """Read the settings from the environment; an unset or blank variable leaves the default.

        Raises:
            UsageError: a variable has an invalid value; the message names the variable.
        """
        settings: tuple[Attribute[Any], ...] = fields(cls)
        given = {setting.name: environ.get(setting.metadata["variable"], "").strip() for setting in settings}
        return cls(**{s.name: _value_of(s, given[s.name]) for s in settings if given[s.name]})


def _value_of(setting: Attribute[Any], text: str) -> Any:
    try:
        return setting.metadata["read"](text)
    except (ValueError, LookupError):
        wanted = setting.metadata["wanted"]
        raise UsageError(f"{setting.metadata['variable']} must be {wanted}, not {text!r}") from None
