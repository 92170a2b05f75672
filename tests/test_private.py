"""Files and folders that are their owner's alone."""

import os
import stat
from pathlib import Path

import pytest

from cgworker.errors import ProfileError
from cgworker.private import check_writable, read_secret, replace_private


def test_secrets_are_written_for_their_owner_alone(tmp_path: Path) -> None:
    """0600 in new 0700 folders whatever the umask; a folder that was there keeps its mode."""
    tmp_path.chmod(0o755)
    before = os.umask(0)
    try:
        replace_private(tmp_path / "a" / "b" / "token", "s\n")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / part).stat().st_mode) for part in ("", "a", "a/b", "a/b/token")]
    assert modes == [0o755, 0o700, 0o700, 0o600]


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    """What fails half way leaves the old content and no litter."""
    path = tmp_path / "token"
    replace_private(path, "old\n")
    with pytest.raises(UnicodeEncodeError):
        replace_private(path, "new \ud800")
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_is_read_from_a_file_of_ones_own_alone(tmp_path: Path) -> None:
    """Missing and empty are no secret; a file that others can read is refused, not used."""
    path = tmp_path / "token"
    assert read_secret(path) is None
    replace_private(path, " \n")
    assert read_secret(path) is None
    replace_private(path, "s\n")
    assert read_secret(path) == "s"
    path.chmod(0o604)
    with pytest.raises(ProfileError) as refused:
        read_secret(path)
    assert (refused.value.code, refused.value.status) == ("profile_token_permissions", 403)


@pytest.mark.parametrize(
    ("owner", "group", "mode", "is_read"),
    [
        (0, 7001, 0o440, True),
        (0, 7001, 0o640, True),
        (0, 7001, 0o660, False),
        (0, 7001, 0o444, False),
        (0, 8001, 0o440, False),
        (7000, 7001, 0o440, False),
    ],
)
def test_a_secret_of_root_may_be_lent_to_a_group(
    owner: int, group: int, mode: int, is_read: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does Kubernetes mount one for a process that is not root: root owns it, and `fsGroup` may read."""
    path = tmp_path / "token"
    path.write_text("s")
    found = os.stat_result((mode | stat.S_IFREG, 0, 0, 1, owner, group, 1, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda _: found)
    monkeypatch.setattr(os, "geteuid", lambda: 7000)
    monkeypatch.setattr(os, "getegid", lambda: 7000)
    monkeypatch.setattr(os, "getgroups", lambda: [7001])
    if is_read:
        assert read_secret(path) == "s"
    else:
        with pytest.raises(ProfileError):
            read_secret(path)


def test_a_place_that_cannot_be_written_is_refused_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is made if need be; a file in its place, or a closed one, is an error."""
    check_writable(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="exists"):
        check_writable(tmp_path / "file")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(PermissionError, match="Permission denied"):
        check_writable(tmp_path / "a")
