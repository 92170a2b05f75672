"""The wire types against what the reference took and gave."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from cgworker.errors import InvalidRequest
from cgworker.wire.admission import (
    Admitted,
    CreatedInvite,
    CreateInvite,
    Joined,
    RedeemInvite,
    RequestCredentialToken,
)
from cgworker.wire.agents import AgentSnapshot, RegisterAgent, RenewPresence, ReplaceMetadata, SetAcceptsWork
from cgworker.wire.claims import ClaimedTurn, ClaimNext, Reconciled, ReconcileExpired, Renewal, RenewClaim
from cgworker.wire.converter import dumps, loads, structure_answer, structure_request
from cgworker.wire.credentials import Credentials, IssueCredential, IssuedCredential, RevokedCredential
from cgworker.wire.ledger import FeedPage
from cgworker.wire.projections import AgentPage, EventPage, Lineage, OfferPage, TurnPage
from cgworker.wire.records import AppendRecord, TurnContext
from cgworker.wire.refs import CardBoxRef, TurnRef
from cgworker.wire.reports import Report, SubmittedReport
from cgworker.wire.turns import Dispatch, Done, FinishTurn, ResumeTurn, StopTurn, SuspendTurn, TurnSnapshot

RECORDINGS = Path(__file__).parent.parent / "conformance" / "recordings" / "http"

# What the last part of a path takes and gives.
ROUTES: dict[str, tuple[type[Any] | None, type[Any]]] = {
    r"/agents:register": (RegisterAgent, AgentSnapshot),
    r"/credentials:issue": (IssueCredential, IssuedCredential),
    r"/credentials/[^/]+:revoke": (None, RevokedCredential),
    r"/credentials": (None, Credentials),
    r"/management/agents/[^/]+:(drain|resume)": (SetAcceptsWork, Done),
    r":heartbeat-presence": (RenewPresence, Done),
    r"/public-metadata": (ReplaceMetadata, Done),
    r"/management/turns/[^/]+:stop": (StopTurn, TurnRef),
    r"/turns:dispatch": (Dispatch, TurnRef),
    r"/claims:claim": (ClaimNext, ClaimedTurn),
    r"/claims:renew": (RenewClaim, Renewal),
    r"/claims:reconcile-expired": (ReconcileExpired, Reconciled),
    r"/turns/[^/]+:finish": (FinishTurn, Done),
    r"/turns/[^/]+:suspend": (SuspendTurn, Done),
    r"/turns/[^/]+:resume": (ResumeTurn, Done),
    r"/semantic-records": (AppendRecord, CardBoxRef),
    r"/context": (None, TurnContext),
    r"/work-memory-reports": (Report, SubmittedReport),
    r"/projection/agents": (None, AgentPage),
    r"/projection/turn-offers": (None, OfferPage),
    r"/projection/turns": (None, TurnPage),
    r"/projection/turns/[^/]+/lineage": (None, Lineage),
    r"/projection/feed": (None, EventPage),
    r"/(turns|agents)/[^/]+/feed": (None, FeedPage),
    r"(?<!/management)/agents/[^/:]+": (None, AgentSnapshot),
    r"/turns/[^/:]+": (None, TurnSnapshot),
    r"/agent-credential-tokens:request": (RequestCredentialToken, Admitted),
    r"/agent-join-invites": (CreateInvite, CreatedInvite),
    r"/(agent-joins|byoa/join):redeem": (RedeemInvite, Joined),
}


@frozen
class Exchange:
    """One recorded request and its answer."""

    name: str
    path: str
    sent: Any
    status: int
    answer: Any

    @property
    def types(self) -> tuple[type[Any] | None, type[Any]] | None:
        found = [types for route, types in ROUTES.items() if re.search(f"{route}$", self.path)]
        return found[0] if found else None


def exchanges() -> Iterator[Exchange]:
    for scenario in sorted(RECORDINGS.glob("*.json")):
        for step in json.loads(scenario.read_text()):
            if step.get("response") is None or step["request"].get("raw_body"):
                continue
            request, response = step["request"], step["response"]
            name = f"{scenario.stem}: {step['step']}"
            yield Exchange(
                name, request["path"], request.get("json"), response["status"], response.get("json")
            )


EXCHANGES = list(exchanges())
SUCCEEDED = [e for e in EXCHANGES if e.status == 200 and e.types and e.answer is not None]
TAKEN = [
    e
    for e in EXCHANGES
    if e.status in (200, 401, 403, 404, 409) and e.types and e.types[0] and e.sent is not None
]
REFUSED = [
    e
    for e in EXCHANGES
    if e.status == 422 and e.sent is not None and e.types and e.types[0] and "detail" in e.answer
]


def of_each(found: list[Exchange]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("exchange", found, ids=lambda exchange: exchange.name)


@of_each(SUCCEEDED)
def test_every_recorded_answer_is_read_and_written_back_as_it_was(exchange: Exchange) -> None:
    """Reading an answer of the reference loses nothing, and writing it gives the same JSON."""
    assert exchange.types is not None
    answer = structure_answer(exchange.types[1], exchange.answer)
    assert json.loads(dumps(answer)) == exchange.answer


@of_each(TAKEN)
def test_every_request_that_the_reference_took_is_taken(exchange: Exchange) -> None:
    """A body that passed the reference's validation passes ours."""
    assert exchange.types is not None
    assert exchange.types[0] is not None
    structure_request(exchange.types[0], loads(json.dumps(exchange.sent)))


@of_each(REFUSED)
def test_every_recorded_refusal_is_refused_for_the_same_places(exchange: Exchange) -> None:
    """A body that the reference answered with 422 has the same faults here, in the same order."""
    assert exchange.types is not None
    assert exchange.types[0] is not None
    with pytest.raises(InvalidRequest) as refused:
        structure_request(exchange.types[0], exchange.sent)
    assert [f["loc"] for f in refused.value.faults] == [f["loc"] for f in exchange.answer["detail"]]


def test_the_recordings_cover_every_route_of_the_table() -> None:
    """A route without a recorded answer would be tested by nothing here."""
    answered = {exchange.types for exchange in SUCCEEDED}
    assert answered == set(ROUTES.values())
    assert len(REFUSED) > 40
