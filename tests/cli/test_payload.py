"""JSON from flags, files and stdin; claim files; durations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cgworker.cli.payload import PayloadFlags, parse_json, read_claim, read_duration, write_json_file
from cgworker.errors import UsageError
from cgworker.wire.converter import dumps

CLAIM = {
    "project_id": "p",
    "turn_id": "T-1",
    "agent_id": "a",
    "token": "secret-token",
    "expires_at": "2026-11-24T02:12:30.186389+00:00",
}


def test_a_payload_is_given_in_one_way(tmp_path: Path) -> None:
    """By file, by flag or by stdin; none and two are wrong."""
    path = tmp_path / "p.json"
    path.write_text('{"n": 1}')
    assert PayloadFlags(payload_file=str(path)).read() == {"n": 1}
    assert PayloadFlags(payload_json="null").read() is None
    for flags in (PayloadFlags(), PayloadFlags(payload_json="1", payload_stdin=True)):
        with pytest.raises(UsageError):
            flags.read()


@pytest.mark.parametrize("text", ["{oops", "", "[1,", '{"a":}', "'x'"])
def test_broken_json_is_described_by_its_place(text: str) -> None:
    """The words are those of Python's parser, which other clients show as well."""
    with pytest.raises(json.JSONDecodeError) as ours:
        parse_json(text)
    with pytest.raises(json.JSONDecodeError) as theirs:
        json.loads(text)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("text", ["NaN", '{"x": [Infinity]}', "-Infinity"])
def test_what_json_cannot_say_is_refused(text: str) -> None:
    """NaN and Infinity are a ValueError, not a payload."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        parse_json(text)


def test_numbers_come_through_as_they_were_written() -> None:
    """A payload is passed on, not recalculated."""
    text = '{"big":123456789012345678901234567890,"fine":0.1000000000000000000001}'
    assert dumps(parse_json(text)).decode() == text


@pytest.mark.parametrize(
    "content",
    [CLAIM, {"result": {"claim": CLAIM}}, {"ok": True, "result": {"claim": CLAIM}}, {**CLAIM, "more": 1}],
)
def test_a_claim_is_read_bare_or_from_an_envelope(tmp_path: Path, content: object) -> None:
    """Whatever `cg worker claim next` wrote or printed can be given back to it."""
    path = tmp_path / "claim.json"
    path.write_text(json.dumps(content))
    claim = read_claim(str(path))
    assert (claim.turn_id, claim.token) == ("T-1", "secret-token")
    assert "secret-token" not in repr(claim)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "must contain a JSON object"),
        ({"ok": True, "result": {}}, "result.claim"),
        ({"error": {}}, "result.claim"),
        ({"project_id": "p"}, "turn_id"),
        ({**CLAIM, "expires_at": "soon"}, "expires_at"),
    ],
)
def test_a_file_without_a_claim_is_refused_by_what_it_lacks(
    tmp_path: Path, content: object, said: str
) -> None:
    """The message names the place, and never the token."""
    path = tmp_path / "claim.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said) as refused:
        read_claim(str(path))
    assert "secret-token" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("24h", 86400), ("60m", 3600), ("3600s", 3600), ("7d", 604800), (" 90s ", 90)]
)
def test_a_duration_is_a_number_with_a_unit(text: str, seconds: int) -> None:
    """Seconds, minutes, hours or days."""
    assert read_duration(text, "--expires-in") == seconds


@pytest.mark.parametrize("text", ["soon", "", "1.5h", "-5h", "0", "0d", "5w", "30", " 3600 "])
def test_other_durations_are_wrong_usage(text: str) -> None:
    """Zero as well: nothing is meant by it. A bare number could be of any unit."""
    with pytest.raises(UsageError, match="--expires-in"):
        read_duration(text, "--expires-in")


def test_files_that_may_hold_secrets_are_for_their_owner(tmp_path: Path) -> None:
    """Claims and invites are written 0600, whole or not at all (difference 25)."""
    path = tmp_path / "deep" / "invite.json"
    write_json_file(str(path), {"b": "ä", "a": 1}, pretty=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == '{\n  "a": 1,\n  "b": "ä"\n}\n'
    assert list(path.parent.iterdir()) == [path]
