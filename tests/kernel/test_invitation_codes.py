"""Invitation codes in a file of the operator's (admission 8)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cgworker.errors import ForbiddenError, UsageError
from cgworker.kernel.invitation_codes import Invitations

WORKER = "byoa.conversation_worker.v1"
REPORTER = "byoa.work_memory_reporter.v1"
ENTRY: dict[str, Any] = {
    "invite_id": "inv-1",
    "project_id": "p",
    "issued_by_user_id": "owner",
    "issuer_role": "project_owner",
    "code": "open sesame",
}


def load(path: Path, content: Any) -> Invitations:
    path.write_text(json.dumps(content))
    return Invitations.load(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "invitations.json"


@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: {"invitations": e}, lambda e: {"invites": e}])
def test_a_file_is_a_list_or_an_object_with_one(file: Path, wrap: Any) -> None:
    """Three spellings are in use."""
    found = load(file, wrap([ENTRY])).approve("open sesame", project_id="p", profile_kind=WORKER)
    assert (found.invite_id, found.issued_by_user_id) == ("inv-1", "owner")


@pytest.mark.parametrize("prefix", ["", "sha256:", "SHA256:"])
def test_a_file_need_not_hold_the_code_itself(file: Path, prefix: str) -> None:
    """Its SHA-256 will do, with or without saying so, in either case."""
    digest = prefix + hashlib.sha256(b"open sesame").hexdigest().upper()
    others = {name: value for name, value in ENTRY.items() if name not in ("code", "invite_id")}
    invitations = load(file, [{**others, "id": "inv-2", "code_sha256": digest}])
    found = invitations.approve("open sesame", project_id="p", profile_kind=WORKER)
    assert found.invite_id == "inv-2"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"code": "another"}, "is invalid"),
        ({"enabled": False}, "is disabled"),
        ({"enabled": "no"}, "is disabled"),
        ({"project_id": "q"}, "is not valid for project"),
        ({"allowed_profile_kinds": [REPORTER]}, "is not valid for profile_kind"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "is expired"),
        ({"expires_at": "2020-01-01"}, "is expired"),
    ],
)
def test_a_code_that_does_not_apply_says_why(file: Path, changes: dict[str, Any], why: str) -> None:
    """One code for programs, the reason in words for people."""
    with pytest.raises(ForbiddenError) as refused:
        load(file, [{**ENTRY, **changes}]).approve("open sesame", project_id="p", profile_kind=WORKER)
    assert (refused.value.code, refused.value.message) == (
        "invitation_code_invalid",
        f"BYOA invitation code {why}",
    )


def test_the_first_entry_with_the_code_decides(file: Path) -> None:
    """A later one with the same code is not looked at."""
    with pytest.raises(ForbiddenError, match="is disabled"):
        load(file, [{**ENTRY, "enabled": False}, ENTRY]).approve(
            "open sesame", project_id="p", profile_kind=WORKER
        )


def test_codes_do_not_show(file: Path) -> None:
    """Neither the code nor its hash is in what a log could print."""
    shown = repr(load(file, [ENTRY]))
    assert "sesame" not in shown
    assert hashlib.sha256(b"open sesame").hexdigest() not in shown


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({}, "a list is wanted"),
        ([1], "each invitation must be an object"),
        ([{**ENTRY, "issuer_role": "member"}], "unsupported issuer_role: member"),
        ([{**ENTRY, "allowed_profile_kinds": []}], "allowed_profile_kinds must be a non-empty list"),
        ([{**ENTRY, "allowed_profile_kinds": ["zz"]}], "unsupported profile_kind: zz"),
        ([{**ENTRY, "code": ""}], "code must be a non-empty string"),
        ([{**ENTRY, "code_sha256": "abc"}], "code_sha256 must be 64 hexadecimal digits"),
        ([{**ENTRY, "invite_id": 3}], "invite_id must be a non-empty string"),
        ([{**ENTRY, "expires_at": "soon"}], "valid datetime"),
        ([{**ENTRY, "enabled": "perhaps"}], "valid boolean"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_at_start(file: Path, content: Any, why: str) -> None:
    """With its name and what is wrong, before anybody is let in."""
    with pytest.raises(UsageError, match=f"invitations in .*invitations.json cannot be used: .*{why}"):
        load(file, content)


def test_a_file_that_cannot_be_read_is_said_at_start(file: Path) -> None:
    """Missing, or not JSON."""
    with pytest.raises(UsageError, match="cannot be read"):
        Invitations.load(file)
    file.write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        Invitations.load(file)
