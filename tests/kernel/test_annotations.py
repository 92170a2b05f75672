"""What a ledger event says besides its type (wire 8.1)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cgworker.kernel.store.annotations import annotate, with_remarks
from cgworker.wire.meta import Meta


def said(meta: Meta | None = None, /, **facts: Any) -> Any:
    return json.loads(annotate(meta, **facts))


def test_nothing_to_say_is_an_empty_object() -> None:
    """Remarks without content leave no `caller`, facts that are not there no `system`."""
    assert said() == said(Meta()) == {}


def test_facts_stand_at_the_top_and_under_system() -> None:
    """Readers of either kind find them."""
    assert said(record_role="r") == {"record_role": "r", "system": {"record_role": "r"}}


def test_remarks_never_reach_the_top() -> None:
    """Whatever a caller writes, it cannot pass for a fact of the system."""
    meta = Meta(note="n", reason="r", annotations={"system": {"owner": "me"}, "record_role": "x", "mine": 1})
    assert said(meta, record_role="r") == {
        "record_role": "r",
        "system": {"record_role": "r"},
        "caller": {
            "note": "n",
            "reason": "r",
            "annotations": {"system": {"owner": "me"}, "record_role": "x", "mine": 1},
            "reserved_annotation_keys": ["record_role", "system"],
        },
    }


@pytest.mark.parametrize(
    ("meta", "caller"),
    [
        (Meta(note=""), {"note": ""}),
        (Meta(reason="r"), {"reason": "r"}),
        (Meta(annotations={"a": None}), {"annotations": {"a": None}}),
    ],
)
def test_empty_parts_of_remarks_are_left_out(meta: Meta, caller: dict[str, Any]) -> None:
    """Null and the empty object are empty; an empty string was said."""
    assert said(meta) == {"caller": caller}


def test_what_the_body_says_wins_over_its_remarks() -> None:
    """A suspend's reason and note; what it leaves open comes from the remarks."""
    meta = Meta(note="remarked", reason="remarked", annotations={"a": 1})
    assert with_remarks(meta, reason="said") == Meta(note="remarked", reason="said", annotations={"a": 1})
    assert with_remarks(None, reason="said", note="said") == Meta(note="said", reason="said")
