"""Profiles: the config file, the token files, and what beats what."""

import json
import os
import stat
from pathlib import Path
from threading import Thread

import pytest

from cgworker.errors import ProfileError, UsageError
from cgworker.paths import credential_path, state_folder
from cgworker.private import replace_private
from cgworker.profiles import ConfigFile, Profile, resolve_profile
from cgworker.wire.refs import AgentRef

TOKEN = "cgac_cred_x.secret"


@pytest.fixture
def config(tmp_path: Path) -> ConfigFile:
    return ConfigFile(tmp_path / "deep" / "config.json")


@pytest.fixture
def profile(config: ConfigFile, tmp_path: Path) -> Profile:
    made = Profile(
        project_id="p", agent_id="a", credential_id="cred_x", token_file=tmp_path / "tokens" / "cred_x.token"
    )
    assert made.token_file is not None
    replace_private(made.token_file, TOKEN + "\n")
    config.save_profile(made)
    return made


def refusal(config: ConfigFile, name: str = "p/a") -> tuple[str, int]:
    with pytest.raises(ProfileError) as refused:
        resolve_profile(name, config_path=config.path, environ={})
    return refused.value.code, refused.value.status


@pytest.mark.usefixtures("profile")
def test_a_profile_resolves_to_server_identity_and_token(config: ConfigFile) -> None:
    """A profile is all it takes to speak to a kernel as an agent; its token stays out of repr."""
    found = resolve_profile("p/a", config_path=config.path, environ={})
    assert (found.base_url, found.agent) == ("http://127.0.0.1:8000", AgentRef(project_id="p", agent_id="a"))
    assert found.token == TOKEN
    assert TOKEN not in repr(found)


@pytest.mark.usefixtures("profile")
def test_the_environment_beats_the_config_file_and_empty_is_unset(config: ConfigFile) -> None:
    """CG_BASE_URL beats the file's base_url; a blank value counts as none."""
    config.update(lambda content: content.update(base_url=" http://file "))
    for environ, expected in (
        ({}, "http://file"),
        ({"CG_BASE_URL": "  "}, "http://file"),
        ({"CG_BASE_URL": "http://env"}, "http://env"),
    ):
        found = resolve_profile("p/a", environ={"CG_CONFIG_PATH": str(config.path), **environ})
        assert found.base_url == expected


def test_an_unknown_profile_is_missing_and_reading_creates_nothing(config: ConfigFile) -> None:
    """A config file that does not exist reads as empty, and looking does not make it."""
    assert refusal(config) == ("profile_missing", 404)
    assert not config.path.parent.exists()


def test_a_token_file_that_is_gone_or_empty_makes_the_profile_stale(
    config: ConfigFile, profile: Profile
) -> None:
    """Gone and empty mean the same to its owner: get a new credential."""
    assert profile.token_file is not None
    profile.token_file.write_text(" \n")
    assert refusal(config) == ("profile_stale", 401)
    profile.token_file.unlink()
    assert refusal(config) == ("profile_stale", 401)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_token_file_open_to_others_is_refused(config: ConfigFile, profile: Profile, mode: int) -> None:
    """Any bit for group or others, and the token is not used."""
    assert profile.token_file is not None
    profile.token_file.chmod(mode)
    assert refusal(config) == ("profile_token_permissions", 403)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("{oops", "invalid_json"),
        ("[]", "invalid_input"),
        ('{"base_url": 1}', "invalid_input"),
        ('{"auth": []}', "invalid_input"),
        ('{"profiles": {"p/a": {"project_id": "p"}}}', "invalid_input"),
        ('{"profiles": {"p/a": 3}}', "invalid_input"),
        (b"\xff\xfe", "invalid_input"),
    ],
)
def test_a_broken_config_file_is_named_as_such(config: ConfigFile, content: str | bytes, code: str) -> None:
    """What is no JSON is invalid_json, what has another shape is invalid_input, both 422."""
    config.path.parent.mkdir()
    config.path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refusal(config) == (code, 422)


def test_rewriting_the_config_keeps_what_we_do_not_know(config: ConfigFile) -> None:
    """Keys of other programs survive; the file is sorted, indented by two, and ours alone."""
    config.path.parent.mkdir()
    config.path.write_text(
        '{"zeta": {"deep": [1, null]}, "profiles": {"x/y": {"project_id": "x", "agent_id": "y", "own": 1}}}'
    )
    config.save_profile(Profile(project_id="p", agent_id="ä", token_file=Path("/t")))
    written = config.path.read_text()
    content = json.loads(written)
    assert content["zeta"] == {"deep": [1, None]}
    assert content["profiles"]["x/y"]["own"] == 1
    assert written == json.dumps(content, indent=2, sort_keys=True) + "\n"
    assert stat.S_IMODE(config.path.stat().st_mode) == 0o600


def test_a_refused_change_leaves_the_file_and_no_litter(config: ConfigFile) -> None:
    """A change that would make the file unreadable is not written."""
    config.update(lambda content: content.update(base_url="http://a"))
    with pytest.raises(ProfileError):
        config.update(lambda content: content.update(base_url=7))
    assert config.read().base_url == "http://a"
    assert sorted(path.name for path in config.path.parent.iterdir()) == ["config.json", "config.json.lock"]


def test_profiles_saved_at_the_same_time_are_all_kept(config: ConfigFile) -> None:
    """Read, change and write are one step under the lock."""
    saved = [Profile(project_id="p", agent_id=f"a{n}", token_file=Path("/t")) for n in range(12)]
    threads = [Thread(target=config.save_profile, args=(profile,)) for profile in saved]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(config.read().profiles) == 12


@pytest.mark.parametrize("part", ["", ".", "..", "a/b", "a\\b", "nul\0"])
def test_an_id_that_would_lead_elsewhere_names_no_file(part: str) -> None:
    """Ids come from servers: they must not choose a folder."""
    with pytest.raises(ProfileError) as refused:
        credential_path("p", part, "c")
    assert refused.value.code == "invalid_input"


def test_without_a_home_folder_the_variables_to_set_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a number for a user: one line, and no fault of ours."""

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(UsageError, match="set HOME, or CG_CONFIG_PATH"):
        ConfigFile.locate(environ={})


def test_the_state_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a process that has asked for it before; the home folder is looked for once only."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    looks: list[Path] = []

    def is_dir(path: Path) -> bool:
        looks.append(path)
        return True

    monkeypatch.setattr(Path, "is_dir", is_dir)
    for home in (tmp_path / "a", tmp_path / "b", tmp_path / "a"):
        monkeypatch.setenv("USERPROFILE" if os.name == "nt" else "HOME", str(home))
        assert state_folder("outbox") == home / ".local/state/cgworker/outbox"
    assert looks == [tmp_path / "a", tmp_path / "b"]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder("outbox") == tmp_path / "cgworker/outbox"
