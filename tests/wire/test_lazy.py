"""An answer whose fields are read when they are looked at is any other object of its class."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from cgworker.errors import AnswerInvalid
from cgworker.wire.converter import dumps, loads, structure_request, unstructure
from cgworker.wire.records import SemanticItem
from cgworker.wire.refs import CardBoxRef, RecordRef, TurnRef

BOX = {"project_id": "p", "cardbox_id": "b"}
ITEM: dict[str, Any] = {
    "record": {
        "ref": {"project_id": "p", "record_id": "r"},
        "turn": {"project_id": "p", "turn_id": "T-1"},
        "turn_seq": 7,
        "record_role": "progress",
        "cardbox_ref": BOX,
        "created_at": "2026-11-29T12:00:00.000001+00:00",
    },
    "content": {
        "ref": BOX,
        "box": {"card_ids": ["c"], "box_id": "b"},
        "cards": [
            {
                "content": {"data": {"step": 1}, "__type__": "JsonContent"},
                "tool_calls": None,
                "tool_call_id": None,
                "ttl_seconds": None,
                "metadata": {},
                "card_id": "c",
            }
        ],
    },
}


@pytest.fixture(params=["value", "text"])
def lazy(request: pytest.FixtureRequest) -> SemanticItem:
    """An item that was not looked at, made of a JSON value or of its text."""
    return SemanticItem.of(dumps(ITEM) if request.param == "text" else ITEM)


def test_it_equals_one_that_was_read_at_once(lazy: SemanticItem) -> None:
    """Whatever is done with it first: comparing, printing, writing, copying."""
    eager = structure_request(SemanticItem, ITEM)
    assert lazy == eager
    assert repr(SemanticItem.of(ITEM)) == repr(eager)
    assert unstructure(SemanticItem.of(ITEM)) == unstructure(eager)
    assert loads(dumps(SemanticItem.of(ITEM))) == ITEM
    assert copy.deepcopy(SemanticItem.of(ITEM)) == eager
    assert pickle.loads(pickle.dumps(SemanticItem.of(ITEM))) == eager


def test_its_fields_have_their_types(lazy: SemanticItem) -> None:
    """Also those of the objects within it."""
    assert lazy.payload == {"step": 1}
    assert (lazy.record.turn_seq, lazy.record.created_at.microsecond) == (7, 1)
    assert lazy.record.ref == RecordRef(project_id="p", record_id="r")
    assert lazy.record.turn == TurnRef(project_id="p", turn_id="T-1")
    assert lazy.content.ref == CardBoxRef(project_id="p", cardbox_id="b")


def test_it_has_no_other_attributes(lazy: SemanticItem) -> None:
    assert not hasattr(lazy, "colour")
    assert not hasattr(structure_request(SemanticItem, ITEM), "colour")


@pytest.mark.parametrize(
    "answer", [b"{", b"[]", b"7", {}, {"record": 7}, {"record": {"turn_seq": "seven"}}], ids=str
)
def test_a_fault_of_the_answer_is_found_when_it_is_looked_at(answer: Any) -> None:
    with pytest.raises(AnswerInvalid, match="answer"):
        _ = SemanticItem.of(answer).record.turn_seq
