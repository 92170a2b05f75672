"""What a child writes: no secret gets through, wherever the reads cut it."""

from __future__ import annotations

import pytest

from cgworker.handlers.environment import mask_for
from cgworker.handlers.output import Lines

SECRET = "cgac_cred_x.secret-0123456789"


def lines_of(*reads: bytes) -> list[str]:
    lines = Lines(mask_for([SECRET]))
    return [line for read in reads for line in lines.take(read)] + list(lines.end())


@pytest.mark.parametrize("cut", range(1, len(SECRET)))
def test_a_secret_split_over_two_reads_is_masked(cut: int) -> None:
    """Pipes keep no boundaries."""
    text = SECRET.encode()
    assert lines_of(b"a " + text[:cut], text[cut:] + b" b\n") == ["a *** b"]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_secret_across_the_length_of_a_line_is_masked(end: bytes) -> None:
    """A long line is shown in pieces; the cut must not leave half a secret on each side."""
    for before in range(4096 - len(SECRET), 4097):
        shown = "".join(lines_of(b"x" * before + SECRET.encode() + b"y" * 20_000 + end))
        assert SECRET[:8] not in shown
        assert SECRET[-8:] not in shown


def test_secrets_without_a_line_end_are_masked_read_by_read() -> None:
    """However long it goes on."""
    shown = "".join(lines_of(*[SECRET.encode()[:20], SECRET.encode()[20:]] * 2000))
    assert shown == "***" * 2000


def test_a_line_that_never_ends_is_shown_in_pieces() -> None:
    """It must not fill the memory; nothing of it is lost."""
    shown = lines_of(*[b"z" * 1000] * 100)
    assert sum(map(len, shown)) == 100_000
    assert max(map(len, shown)) <= 4096


def test_characters_split_over_two_reads_are_whole_and_what_is_no_text_is_replaced() -> None:
    """UTF-8, with a mark for what is not; NUL and escapes are spelled out."""
    assert lines_of(b"\xc3", b"\xa9\n", b"\xff\0\x1b[2J\r\n") == ["é", "\ufffd\\x00\\x1b[2J"]
