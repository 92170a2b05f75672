"""Refusals that only their words tell apart."""

from __future__ import annotations

import pytest

from cgworker.errors import NotFoundError
from cgworker.wire.refusals import Refusal


@pytest.mark.parametrize("refusal", Refusal)
@pytest.mark.parametrize("detail", ["", "revoked", "a: b"])
def test_a_refusal_is_recognised_in_the_error_that_it_makes(refusal: Refusal, detail: str) -> None:
    """The kernel and its clients have the words from one place."""
    assert Refusal.of(refusal.error(detail)) is refusal


def test_the_same_words_under_another_class_are_another_refusal() -> None:
    """A credential that is not in a list is a 404, and says nothing of the caller's own."""
    assert Refusal.of(NotFoundError("agent credential not found: cred_1")) is None


def test_a_message_that_merely_contains_the_words_is_none() -> None:
    """Words that a user chose, such as a turn's note, give no advice."""
    kind = type(Refusal.MAY_NOT_STOP.error())
    assert Refusal.of(kind("it said: requested_by is not authorized to stop this turn")) is None
