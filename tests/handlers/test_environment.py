"""What a child may see, and what is hidden in its output (difference 24)."""

from __future__ import annotations

import pytest

from cgworker.handlers.environment import ChildEnvironment, mask_for

SECRET = "cgac_cred_abc.0123456789"


@pytest.mark.parametrize(
    "name",
    [
        "CG_CLAIM_TOKEN",
        "CG_CLAIM_FILE",
        "CG_CLAIM_TIMEOUT_SECONDS",
        "CG_AGENT_CREDENTIAL_TOKEN",
        "CG_AGENT_CREDENTIAL_TOKEN_FILE",
        "CG_ADMIN_AUTH_TOKEN",
        "PG_DSN",
        "PGPASSWORD",
        "PGHOST",
        "PGSSLKEY",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "LISTEN_FDS",
    ],
)
def test_what_is_meant_for_us_alone_is_not_passed(name: str) -> None:
    """A runtime is configured by its environment, but not with our keys, nor does it speak for us."""
    assert ChildEnvironment().variables({name: "x", "KEPT": "y"}, [], {}) == {"KEPT": "y"}


def test_a_variable_that_holds_a_known_secret_is_not_passed_whatever_its_name() -> None:
    """Somebody exported the credential under a name of their own."""
    assert ChildEnvironment().variables({"MY_URL": f"http://x/?t={SECRET}", "OK": "1"}, [SECRET], {}) == {
        "OK": "1"
    }


def test_ordinary_variables_are_passed() -> None:
    """Also those that only look like ours, such as PGDATA or CG_EXTRA."""
    ours = {"PATH": "/bin", "OPENAI_API_KEY": "sk-1", "PGDATA": "/data", "CG_EXTRA": "2"}
    assert ChildEnvironment().variables(ours, [SECRET], {}) == ours


def test_a_clean_environment_starts_from_an_allow_list() -> None:
    """And holds what is added on purpose, and the turn's own variables."""
    environment = ChildEnvironment(clean=True, added={"MODEL": "m"})
    ours = {"PATH": "/bin", "LC_ALL": "C", "PYTHONPATH": "x", "https_proxy": "p", "SOMETHING": "z"}
    assert environment.variables(ours, [], {"CG_TURN_ID": "T-1"}) == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "PYTHONPATH": "x",
        "https_proxy": "p",
        "MODEL": "m",
        "CG_TURN_ID": "T-1",
    }


def test_a_child_that_settles_itself_keeps_its_credential() -> None:
    """`claim run` leaves the finish call to its child."""
    environment = ChildEnvironment(settles_itself=True)
    assert environment.variables({"CG_AGENT_CREDENTIAL_TOKEN": "t", "PG_DSN": "d"}, [], {}) == {
        "CG_AGENT_CREDENTIAL_TOKEN": "t"
    }


def test_secrets_are_masked_in_a_text() -> None:
    """Also where one secret contains another."""
    mask = mask_for([SECRET, SECRET + "-longer", "short"])
    assert mask(f"a {SECRET}-longer b {SECRET} c short") == "a *** b *** c short"
