"""The kernel's settings."""

from __future__ import annotations

import re
from ipaddress import ip_network

import pytest

from cgworker.errors import UsageError
from cgworker.kernel.config import KernelConfig


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    """Unset and blank variables leave the default (wire 13, differences 2 and 11)."""
    config = KernelConfig.from_env({"CG_PORT": " ", "PG_DSN": ""})
    assert config == KernelConfig()
    assert (config.host, config.port, config.pg_dsn) == ("127.0.0.1", 8000, None)
    assert (config.max_body_bytes, config.max_depth, config.max_page_items) == (16 * 2**20, 200, 1000)


@pytest.mark.parametrize(("lease", "interval"), [("30", 5.0), ("60", 10.0), ("1", 0.5), ("0.2", 0.5)])
def test_the_reaper_looks_six_times_a_lease_but_not_more_than_twice_a_second(
    lease: str, interval: float
) -> None:
    """The default interval is a sixth of the lease, at least half a second (difference 2)."""
    config = KernelConfig.from_env({"CG_CLAIM_TIMEOUT_SECONDS": lease})
    assert config.claim_reaper_interval_seconds == interval


def test_the_reaper_can_be_turned_off() -> None:
    """An interval of 0 is kept as 0."""
    config = KernelConfig.from_env({"CG_CLAIM_REAPER_INTERVAL_SECONDS": "0"})
    assert config.claim_reaper_interval_seconds == 0


def test_every_variable_is_read() -> None:
    """Each setting has one variable, and its value arrives."""
    config = KernelConfig.from_env(
        {
            "PG_DSN": "postgresql://db",
            "CG_POSTGRES_FOLDER": "/data",
            "CG_HOST": "::1",
            "CG_PORT": "0",
            "CG_LOG_LEVEL": "WARNING",
            "CG_SERVICE_NAME": "mine",
            "CG_CLAIM_TIMEOUT_SECONDS": "12.5",
            "CG_CLAIM_REAPER_INTERVAL_SECONDS": "3",
            "CG_AGENT_PROJECT_HEADER": "X-P",
            "CG_AGENT_ID_HEADER": "X-A",
            "CG_MAX_BODY_BYTES": "100",
            "CG_MAX_BODY_SECONDS": "9",
            "CG_MAX_DEPTH": "5",
            "CG_MAX_WAIT_SECONDS": "1",
            "CG_MAX_PAGE_ITEMS": "7",
            "CG_POOL_SIZE": "2",
            "CG_REDEEMS_PER_MINUTE": "0",
            "CG_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
            "CG_ALLOWED_HOSTS": "Kernel.example.org, [fd00::1]:443",
            "CG_METRICS": "off",
            "CG_METRICS_AGENTS": "5",
            "CG_RETENTION_DAYS": "36h",
        }
    )
    assert config == KernelConfig(
        pg_dsn="postgresql://db",
        postgres_folder="/data",
        host="::1",
        port=0,
        log_level="warning",
        service_name="mine",
        claim_timeout_seconds=12.5,
        claim_reaper_interval_seconds=3,
        project_header="X-P",
        agent_header="X-A",
        max_body_bytes=100,
        max_body_seconds=9,
        max_depth=5,
        max_wait_seconds=1,
        max_page_items=7,
        pool_size=2,
        redeems_per_minute=0,
        trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("::1")),
        allowed_hosts=("kernel.example.org", "fd00::1"),
        metrics=False,
        metrics_agents=5,
        retention_seconds=36 * 3600,
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CG_PORT", "http"),
        ("CG_PORT", "65536"),
        ("CG_CLAIM_TIMEOUT_SECONDS", "nan"),
        ("CG_CLAIM_TIMEOUT_SECONDS", "1e300"),
        ("CG_CLAIM_TIMEOUT_SECONDS", "0"),
        ("CG_CLAIM_REAPER_INTERVAL_SECONDS", "-1"),
        ("CG_POOL_SIZE", "0"),
        ("CG_METRICS", "perhaps"),
        ("CG_METRICS_AGENTS", "many"),
        ("CG_RETENTION_DAYS", "0"),
        ("CG_RETENTION_DAYS", "soon"),
        ("CG_RETENTION_DAYS", "90 d"),
        ("CG_LOG_LEVEL", "loud"),
        ("CG_TRUSTED_PROXIES", "*"),
        ("CG_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("CG_TRUSTED_PROXIES", "10.0.0.1,"),
        ("CG_ALLOWED_HOSTS", "https://kernel.example.org"),
        ("CG_ALLOWED_HOSTS", "a,,b"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_is_wanted(variable: str, value: str) -> None:
    """The message says which variable, what it holds and what it may hold."""
    with pytest.raises(UsageError, match=f"^{variable} must be .+, not '{re.escape(value)}'$"):
        KernelConfig.from_env({variable: value})


def test_the_address_of_the_database_is_not_shown() -> None:
    """PG_DSN may hold a password."""
    assert "secret" not in repr(KernelConfig(pg_dsn="postgresql://user:secret@db"))
