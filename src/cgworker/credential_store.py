"""Store credentials on this machine: each in a private file, with a profile that names the file."""

from __future__ import annotations

from cgworker.paths import credential_path, credentials_folder
from cgworker.private import check_writable, replace_private
from cgworker.profiles import ConfigFile, Profile
from cgworker.wire.admission import Admitted


def check_can_store(config_file: ConfigFile) -> None:
    """Check that a credential can be stored, before a code is used up or a credential is issued.

    Args:
        config_file: the config file.

    Raises:
        ProfileError: the config file is broken.
        OSError: its folder, or that of the credentials, cannot be written.
    """
    config_file.read()
    check_writable(config_file.path.parent)
    check_writable(credentials_folder())


def store_credential(config_file: ConfigFile, admitted: Admitted, display_name: str | None) -> Profile:
    """Write an admitted agent's token to its file, and then its profile, which names that file.

    Args:
        config_file: the config file.
        admitted: the admission service's answer.
        display_name: the agent's name for people; None for none.

    Raises:
        OSError: a file cannot be written.
    """
    issued = admitted.profile
    path = credential_path(admitted.project_id, admitted.agent_id, issued.credential_id)
    made = Profile(
        project_id=admitted.project_id,
        agent_id=admitted.agent_id,
        profile_kind=issued.profile_kind,
        runtime_kind=issued.runtime_kind,
        display_name=display_name,
        credential_id=issued.credential_id,
        token_file=path,
        status="ready",
    )
    replace_private(path, admitted.agent_credential_token + "\n")
    config_file.save_profile(made)
    return made
