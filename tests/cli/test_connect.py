"""Which server, as whom, with which token: what beats what (command line 2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from cgworker.cli.connect import (
    as_actor,
    as_admin_service,
    as_claim_holder,
    as_operator,
    as_reader,
)
from cgworker.cli.identity import acting_agent, project_of
from cgworker.cli.options import AdminFlags, CallerFlags, OperatorFlags, ServerFlags
from cgworker.client import KernelClient
from cgworker.errors import CommonGroundError, ProfileError, UsageError
from cgworker.paths import admin_bearer_path, admin_service_path
from cgworker.private import replace_private
from cgworker.profiles import ConfigFile, Profile
from cgworker.wire.refs import AgentRef
from tests.cli.conftest import Cg

pytestmark = pytest.mark.usefixtures("home")

A = AgentRef(project_id="p", agent_id="a")
B = AgentRef(project_id="p", agent_id="b")


@pytest.fixture
def home(cg: Cg) -> Path:
    """A home with a profile for agent a."""
    token_file = cg.home / "a.token"
    replace_private(token_file, "of-profile\n")
    ConfigFile.locate().save_profile(Profile(project_id="p", agent_id="a", token_file=token_file))
    return cg.home


def token_of(kernel: KernelClient) -> str | None:
    return kernel.secrets[0] if kernel.secrets else None


def with_a_second_profile(project_id: str = "p", agent_id: str = "c") -> None:
    """Keep a second profile, so that none is the only one."""
    config = ConfigFile.locate()
    first = config.read().profile("p/a")
    config.save_profile(Profile(project_id=project_id, agent_id=agent_id, token_file=first.token_file))


def a_file(home: Path, content: str) -> str:
    path = home / f"{content}.txt"
    path.write_text(content + "\n")
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize("named", ["flag", "environment", "config"])
def test_a_token_file_that_others_can_read_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """As a profile's is, wherever the file is named."""
    file = a_file(home, "open")
    Path(file).chmod(0o640)
    if named == "environment":
        monkeypatch.setenv("CG_AGENT_CREDENTIAL_TOKEN_FILE", file)
    if named == "config":
        ConfigFile.locate().update(lambda content: content.update(auth={"token_file": file}))
    with pytest.raises(ProfileError, match="must be 0600") as refused:
        as_actor(ServerFlags(auth_token_file=file if named == "flag" else None), B)
    assert refused.value.code == "profile_token_permissions"


# ---------------------------------------------------------------- the address


def test_the_address_comes_from_flag_environment_config_or_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order; blank counts as not given."""
    assert as_actor(ServerFlags(), A).base_url == "http://127.0.0.1:8000"
    ConfigFile.locate().update(lambda content: content.update(base_url="http://config"))
    assert as_actor(ServerFlags(base_url=" "), A).base_url == "http://config"
    monkeypatch.setenv("CG_BASE_URL", "http://env")
    assert as_actor(ServerFlags(), A).base_url == "http://env"
    assert as_actor(ServerFlags(base_url="http://flag/"), A).base_url == "http://flag"


# ---------------------------------------------------------------- the token


def test_a_profile_beats_every_token_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is found by the actor's name."""
    monkeypatch.setenv("CG_AGENT_CREDENTIAL_TOKEN", "of-env")
    for flags in (ServerFlags(auth_token="of-flag"), ServerFlags(profile="p/a", auth_token="of-flag")):
        assert token_of(as_actor(flags, A)) == "of-profile"


def test_a_direct_token_beats_a_file_wherever_they_stand(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flag, environment, config; first for tokens, then for files."""
    config = ConfigFile.locate()
    config.update(lambda content: content.update(auth={"token_file": a_file(home, "config-file")}))
    assert token_of(as_actor(ServerFlags(), B)) == "config-file"
    monkeypatch.setenv("CG_AGENT_CREDENTIAL_TOKEN_FILE", a_file(home, "env-file"))
    assert token_of(as_actor(ServerFlags(), B)) == "env-file"
    by_file = ServerFlags(auth_token_file=a_file(home, "flag-file"))
    assert token_of(as_actor(by_file, B)) == "flag-file"
    config.update(lambda content: content.update(auth={"token": "config-token"}))
    assert token_of(as_actor(by_file, B)) == "config-token"
    monkeypatch.setenv("CG_AGENT_CREDENTIAL_TOKEN", "env-token")
    assert token_of(as_actor(by_file, B)) == "env-token"
    assert token_of(as_actor(ServerFlags(auth_token="flag-token"), B)) == "flag-token"


def test_without_profile_and_token_the_profile_is_missing() -> None:
    """Its name is told, since it is what one would make."""
    with pytest.raises(ProfileError, match="p/b") as refused:
        as_actor(ServerFlags(), B)
    assert refused.value.code == "profile_missing"


def test_a_profile_of_another_agent_is_refused() -> None:
    """Nobody acts as another by mistake; an unknown profile is missing before it is wrong."""
    for connect in (as_actor, as_claim_holder):
        with pytest.raises(UsageError, match="does not match command actor"):
            connect(ServerFlags(profile="p/a"), B)
        with pytest.raises(ProfileError, match="p/ghost"):
            connect(ServerFlags(profile="p/ghost"), B)


def test_claims_are_worked_with_a_profile_or_token_that_is_given() -> None:
    """They do not find a profile by themselves."""
    with pytest.raises(UsageError, match="token is required"):
        as_claim_holder(ServerFlags(), A)
    assert token_of(as_claim_holder(ServerFlags(profile="p/a"), A)) == "of-profile"
    assert token_of(as_claim_holder(ServerFlags(auth_token="t"), B)) == "t"


# ---------------------------------------------------------------- who reads


def test_a_reader_is_a_profile_or_a_token_with_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caller from flags, environment or config; with several profiles and none named, the kernel says no."""
    with_a_second_profile()
    anybody = as_reader(ServerFlags(), CallerFlags())
    assert (anybody.agent, token_of(anybody)) == (None, None)
    assert as_reader(ServerFlags(profile="p/a"), CallerFlags()).agent == A
    monkeypatch.setenv("CG_CALLER_PROJECT_ID", "p")
    with pytest.raises(UsageError, match="both project and agent ids"):
        as_reader(ServerFlags(auth_token="t"), CallerFlags())
    with pytest.raises(UsageError, match="token is required"):
        as_reader(ServerFlags(), CallerFlags(caller_agent_id="b"))
    assert as_reader(ServerFlags(auth_token="t"), CallerFlags(caller_agent_id="b")).agent == B


def test_a_caller_that_is_not_the_profile_is_refused() -> None:
    """A contradiction is never resolved silently."""
    for caller in (CallerFlags(caller_project_id="q"), CallerFlags(caller_agent_id="b")):
        with pytest.raises(UsageError, match="does not match profile"):
            as_reader(ServerFlags(profile="p/a"), caller)


@pytest.mark.parametrize(
    ("profile", "project_id", "agent_id", "expected"),
    [
        ("p/a", None, None, A),
        ("p/a", "p", "a", A),
        (None, "p", "b", B),
        ("p/a", "p", None, A),
        ("p/a", "q", None, "--project-id"),
        ("p/a", None, "b", "--agent-id"),
        (None, "p", None, A),
        (None, None, "a", A),
        (None, None, None, A),
        (None, "q", None, "--profile"),
        (None, None, "b", "this machine has the profiles p/a"),
        ("noslash", None, None, "noslash"),
    ],
)
def test_a_worker_works_for_the_agent_named_or_its_profiles(
    profile: str | None, project_id: str | None, agent_id: str | None, expected: AgentRef | str
) -> None:
    """--project-id with --agent-id, else --profile; what contradicts is wrong usage."""
    flags = ServerFlags(profile=profile)
    if isinstance(expected, AgentRef):
        assert acting_agent(flags, project_id, agent_id) == expected
    else:
        with pytest.raises(CommonGroundError, match=expected):
            acting_agent(flags, project_id, agent_id)


def test_the_only_profile_is_the_default() -> None:
    """Of all, or of the project that is named; a token that is given belongs to somebody else."""
    assert as_reader(ServerFlags(), CallerFlags()).agent == A
    assert project_of(ServerFlags(), None) == "p"
    with pytest.raises(UsageError, match="--profile"):
        acting_agent(ServerFlags(auth_token="t"))
    with_a_second_profile("q", "c")
    for ambiguous in (acting_agent, lambda server: project_of(server, None)):
        with pytest.raises(UsageError, match="this machine has the profiles p/a, q/c"):
            ambiguous(ServerFlags())
    assert acting_agent(ServerFlags(), "p") == A
    assert as_reader(ServerFlags(), CallerFlags(), "p").agent == A
    assert as_reader(ServerFlags(auth_token="t"), CallerFlags(), "p").agent is None


# ---------------------------------------------------------------- operators


def test_the_operators_bearer_is_looked_for_in_the_projects_own_file_last() -> None:
    """A missing or empty file counts as none; one that others may read is refused."""
    bearer = admin_bearer_path("p")
    with pytest.raises(ProfileError, match="to invite") as refused:
        as_operator(AdminFlags(), "p", to="invite")
    assert refused.value.code == "admin_auth_required"
    replace_private(bearer, "bearer\n")
    assert "bearer" not in repr(as_operator(AdminFlags(), "p", to="invite"))
    bearer.chmod(0o644)
    with pytest.raises(ProfileError) as refused:
        as_operator(AdminFlags(), "p", to="invite")
    assert (refused.value.code, refused.value.status) == ("admin_auth_token_file_invalid", 403)
    as_operator(AdminFlags(admin_auth_token="given"), "p", to="invite")


def test_admin_service_acts_by_the_credential_its_operator_keeps() -> None:
    """Or another agent with the same rights does, by its profile."""
    with pytest.raises(FileNotFoundError):
        as_admin_service(OperatorFlags(), "p")
    replace_private(admin_service_path("p"), "of-service\n")
    kernel = as_admin_service(OperatorFlags(), "p")
    assert (str(kernel.agent), token_of(kernel)) == ("p/admin-service", "of-service")
    assert as_admin_service(OperatorFlags(profile="p/a"), "p").agent == A
