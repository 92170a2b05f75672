"""What a refused request tells: enough to mend it, and no more than that, whatever was sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cgworker.errors import InvalidRequest
from cgworker.wire import faults
from cgworker.wire.agents import AgentSpec
from cgworker.wire.claims import ClaimMany, RenewClaim, RenewMany
from cgworker.wire.converter import dumps, structure_request
from cgworker.wire.turns import MAX_ITEMS, SettleMany


class Watched(list[Any]):
    """A list that counts how many of its items were looked at."""

    looked_at = 0

    def __iter__(self) -> Iterator[Any]:
        for item in super().__iter__():
            self.looked_at += 1
            yield item


def faults_of(cls: type, value: Any) -> tuple[dict[str, Any], ...]:
    with pytest.raises(InvalidRequest) as refused:
        structure_request(cls, value)
    return refused.value.faults


@pytest.mark.parametrize("cls", [SettleMany, ClaimMany, RenewMany])
def test_the_items_of_a_bulk_request_are_counted_before_they_are_read(cls: type) -> None:
    """A thousand and one are refused with one fault, and none of them was looked at."""
    items = Watched([{}] * (MAX_ITEMS + 1))
    [fault] = faults_of(cls, {"items": items})
    assert (fault["type"], fault["loc"], items.looked_at) == ("too_long", ["body", "items"], 0)


def test_at_most_fifty_faults_are_named_and_the_others_are_counted() -> None:
    """An object of a million unknown keys is refused with fifty names and the number of the others."""
    *named, last = faults_of(RenewClaim, {"claim": None, **{f"k{n}": 0 for n in range(1_000_000)}})
    assert len(named) == faults.MAX_FAULTS
    assert (last["type"], last["loc"]) == ("too_many_faults", ["body"])
    assert last["msg"] == f"{1_000_001 - faults.MAX_FAULTS} more faults are not named here"


def test_a_list_is_looked_at_until_it_has_fifty_faults() -> None:
    """Each fault is an exception; the items after the fiftieth are counted and cost none."""
    capabilities = Watched(["good", *[1] * 80_000])
    *named, last = faults_of(AgentSpec, {"agent_id": "a", "role": "r", "capabilities": capabilities})
    assert (len(named), capabilities.looked_at) == (faults.MAX_FAULTS, faults.MAX_FAULTS + 1)
    assert named[0]["loc"] == ["body", "capabilities", 1]
    assert last["msg"] == "0 more faults are not named here, and 79950 more items were not looked at"


def test_fewer_faults_are_all_named() -> None:
    """And nothing is said of others."""
    found = faults_of(SettleMany, {"items": [{}] * 25})
    assert len(found) == 50
    assert {fault["type"] for fault in found} == {"missing"}


def test_a_refusal_never_repeats_what_is_long() -> None:
    """Neither the name of an unknown key nor a value that a message speaks of."""
    name = "k" * 1_000_000
    found = faults_of(RenewClaim, {name: 0, "claim": {"expires_at": name}})
    assert len(dumps(list(found))) < 2_000
