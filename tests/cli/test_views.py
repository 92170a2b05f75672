"""What a person sees: a picture for every answer, without tricks from those who wrote the content."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from cgworker.cli.problems import Problem
from cgworker.cli.rendering import plain_text
from cgworker.cli.results import (
    Diagnosis,
    DispatchedTurn,
    DoctorCheck,
    JoinedAgent,
    TurnResult,
    Why,
)
from cgworker.cli.views import picture, show_problem
from cgworker.cli.worker_results import LoopResult, NothingClaimed
from cgworker.why import StoryLine
from cgworker.wire.credentials import Credentials, CredentialSummary
from cgworker.wire.ledger import FeedPage, LedgerEvent
from cgworker.wire.projections import AgentEntry, AgentPage, Diagnostic, Lineage, TurnEntry, TurnPage
from cgworker.wire.refs import AgentRef, CardBoxRef, Cause, TurnRef
from cgworker.wire.schedules import Schedule
from cgworker.wire.turns import TurnSnapshot

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def seen(result: Any) -> str:
    """What a wide terminal without colours shows of it."""
    out = io.StringIO()
    Console(file=out, width=150, force_terminal=False).print(picture(result))
    return out.getvalue()


def a_turn(**more: Any) -> TurnResult:
    facts = {
        "state": "closed",
        "outcome": "succeeded",
        "final_record_role": "deliverable",
        "closed_at": NOW,
        **more,
    }
    return TurnResult.of(
        TurnSnapshot(
            turn=TurnRef(project_id="p", turn_id="T-7"),
            target_agent=AgentRef(project_id="p", agent_id="desk"),
            cause=Cause(kind="external_request", id="order-1"),
            stop_requested=False,
            spawn_key="k",
            created_at=NOW,
            updated_at=NOW,
            final_cardbox_ref=CardBoxRef(project_id="p", cardbox_id="b"),
            **facts,
        )
    )


def an_entry(turn_id: str, **more: Any) -> TurnEntry:
    facts = {"state": "queued", "stop_requested": False, "cause_kind": "turn", "cause_id": "T-1", **more}
    return TurnEntry(
        turn_id=turn_id,
        project_turn_seq=1,
        target_agent_id="desk",
        turn_kind="turn.conversation.v1",
        created_at=NOW,
        updated_at=NOW,
        **facts,
    )


def an_event(event_type: str, **annotations: Any) -> LedgerEvent:
    return LedgerEvent(
        ledger_seq=4,
        project_id="p",
        event_type=event_type,
        subject_kind="turn",
        subject_id="T-7",
        actor_kind="agent",
        actor_id="desk",
        created_at=NOW,
        annotations=annotations,
    )


AN_AGENT = AgentEntry(
    agent_id="desk",
    enabled=True,
    accepts_work=False,
    capabilities=("turn.conversation.v1",),
    public_metadata={},
)


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (a_turn(final_payload={"answer": 42}), ["T-7", "succeeded", "desk", "order-1", "deliverable", "42"]),
        (a_turn(final_payload="plain text"), ["plain text"]),
        (TurnPage(project_id="p", items=(an_entry("T-3"),), limit=1), ["T-3", "queued", "desk"]),
        (TurnPage(project_id="p", items=(), limit=1), ["nothing"]),
        (
            Lineage(
                project_id="p",
                turn_id="T-1",
                parent=an_entry("T-1"),
                direct_children=(an_entry("T-2"),),
                limit=9,
            ),
            ["T-1 and its children", "T-2"],
        ),
        (
            AgentPage(
                project_id="p",
                items=(AN_AGENT,),
                limit=1,
                diagnostics=(Diagnostic(code="c", message="left out", subject_id="x"),),
            ),
            ["desk", "yes", "no", "turn.conversation.v1", "! left out (x)"],
        ),
        (
            FeedPage(
                items=(an_event("turn.suspended", caller={"reason": "need_input", "note": "pls"}),),
                next_after_ledger_seq=4,
            ),
            ["turn.suspended", "T-7", "need_input: pls"],
        ),
        (
            Credentials(
                credentials=(
                    CredentialSummary(
                        credential_id="cred_1",
                        project_id="p",
                        agent_id="desk",
                        status="active",
                        created_at=NOW,
                        updated_at=NOW,
                        expires_at=NOW + timedelta(days=1),
                    ),
                )
            ),
            ["cred_1", "active"],
        ),
        (NothingClaimed(), ["no turn was claimed"]),
        (LoopResult(iterations=4, claimed_count=2, last=NothingClaimed()), ["2 turns", "4 times"]),
        (
            JoinedAgent(
                profile="p/desk",
                project_id="p",
                agent_id="desk",
                base_url="http://k",
                admin_base_url="http://k",
                credential_id="c",
            ),
            ["p/desk", "http://k", "cg worker loop --profile p/desk"],
        ),
        (
            Why(
                project_id="p",
                turn_id="T-7",
                state="queued",
                outcome=None,
                because=("it waits",),
                story=(StoryLine(at=NOW, text="born"),),
            ),
            ["T-7", "queued", "→ it waits", "born"],
        ),
        (
            Diagnosis(
                healthy=False,
                checks=(DoctorCheck(name="server", healthy=False, message="refused", advice="start it"),),
            ),
            ["✗ server", "refused", "→ start it"],
        ),
        (
            DispatchedTurn(project_id="p", turn_id="T-9", agent_id="desk", request_id="r", dispatch_key="d"),
            ["turn id", "T-9", "dispatch key"],
        ),
        (
            Schedule(
                schedule_id="nightly",
                cron="30 2 * * *",
                target_agent=AgentRef(project_id="p", agent_id="desk"),
                input={"task": "report"},
                requested_by=AgentRef(project_id="p", agent_id="me"),
                paused=False,
                last_turn=TurnRef(project_id="p", turn_id="T-7"),
                created_at=NOW,
                updated_at=NOW,
            ),
            [
                "target agent    desk ",
                "requested by    me ",
                "paused          no ",
                "last turn       T-7 ",
                "report",
            ],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_answer_shows_what_one_asks_of_it(result: Any, shown: list[str]) -> None:
    """The facts, in words; types without a picture of their own are a list of their fields."""
    text = seen(result)
    for words in shown:
        assert words in text


def test_a_loop_that_was_told_to_end_says_nothing_of_a_queue_it_did_not_see() -> None:
    """Ctrl-C while the kernel is away: whether a turn waits there, nobody here knows."""
    told = seen(LoopResult(iterations=4, claimed_count=0, last=NothingClaimed()))
    assert "waiting" not in told
    assert "no turn" not in told


def test_content_cannot_play_tricks_with_the_terminal() -> None:
    """Others wrote payloads, names and error texts: control characters are spelled out."""
    evil = "\x1b]0;owned\x07\x1b[2Jhello\r"
    assert plain_text(evil).plain == "\\x1b]0;owned\\x07\\x1b[2Jhello\\x0d"
    for result in (
        a_turn(final_payload=evil),
        a_turn(final_payload={"text": evil}),
        a_turn(final_record_role="r"),
    ):
        assert "\x1b" not in seen(result)
    page = TurnPage(project_id="p", items=(an_entry(evil, cause_id=evil),), limit=1)
    assert "\x1b" not in seen(page)


def test_a_problem_names_what_happened_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Two lines on stderr, so that a pipe behind stdout gets neither."""
    show_problem(Problem("profile_missing", "CLI profile not found: p/a", 404, "Make one."))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "profile_missing" in shown.err
    assert "→ Make one." in shown.err
