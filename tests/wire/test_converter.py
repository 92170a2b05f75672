"""Strict requests, tolerant answers, absent fields, and every fault with its place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from cgworker.errors import AnswerInvalid, InvalidRequest
from cgworker.wire.absent import ABSENT
from cgworker.wire.agents import AgentSpec, RegisterAgent, UpdateAgent
from cgworker.wire.claims import ClaimedTurn, ClaimItem, ClaimNext, Renewal
from cgworker.wire.converter import dumps, loads, structure_answer, structure_request, unstructure
from cgworker.wire.credentials import IssueCredential
from cgworker.wire.refs import AgentRef, ClaimToken, TurnRef
from cgworker.wire.reports import Report
from cgworker.wire.turns import Dispatch, FinishTurn

CLAIM = {
    "project_id": "p",
    "turn_id": "T-1",
    "agent_id": "a",
    "token": "secret",
    "expires_at": "2026-11-22T17:07:34.533442+00:00",
}
AGENT = {"project_id": "p", "agent_id": "a"}
DISPATCH = {
    "requested_by": AGENT,
    "target_agent": AGENT,
    "input": None,
    "dispatch_key": "k",
    "authority": {"mode": "root_request", "request_id": "r"},
}


def faults_of(cls: type[Any], body: Any) -> list[tuple[str, list[Any]]]:
    with pytest.raises(InvalidRequest) as refused:
        structure_request(cls, body)
    return [(fault["type"], fault["loc"]) for fault in refused.value.faults]


# ---------------------------------------------------------------- requests are strict


def test_all_faults_of_a_body_come_back_together() -> None:
    """Missing fields in their order, then what is wrong, then what does not belong there."""
    body = {"spec": {"capacity": "many", "bogus": 1}, "provenance": {"kind": 5}, "more": 1}
    assert faults_of(RegisterAgent, body) == [
        ("missing", ["body", "spec", "agent_id"]),
        ("missing", ["body", "spec", "role"]),
        ("int_parsing", ["body", "spec", "capacity"]),
        ("extra_forbidden", ["body", "spec", "bogus"]),
        ("missing", ["body", "provenance", "external_ref"]),
        ("string_type", ["body", "provenance", "kind"]),
        ("extra_forbidden", ["body", "more"]),
    ]


def test_faults_inside_lists_are_named_by_index() -> None:
    """A path leads into the list."""
    body = {"request_id": "r", "records": [{"role": "a", "payload": 1}, {"role": 5}]}
    assert faults_of(Report, body) == [
        ("missing", ["body", "records", 1, "payload"]),
        ("string_type", ["body", "records", 1, "role"]),
    ]


@pytest.mark.parametrize(
    ("authority", "faults"),
    [
        ([], [("model_attributes_type", [])]),
        ({}, [("missing", ["mode"])]),
        ({"mode": "zz"}, [("value_error", [])]),
        ({"mode": "root_request"}, [("value_error", [])]),
        ({"mode": "root_request", "request_id": 5}, [("string_type", ["request_id"])]),
        ({"mode": "root_request", "request_id": "r", "zz": 1}, [("extra_forbidden", ["zz"])]),
        ({"mode": "root_request", "request_id": "r", "parent_claim": CLAIM}, [("value_error", [])]),
        ({"mode": "child_derivation"}, [("value_error", [])]),
        ({"mode": "child_derivation", "request_id": "r", "parent_claim": CLAIM}, [("value_error", [])]),
        (
            {"mode": "child_derivation", "parent_claim": {**CLAIM, "token": 1, "zz": 1}},
            [("string_type", ["parent_claim", "token"]), ("extra_forbidden", ["parent_claim", "zz"])],
        ),
    ],
)
def test_a_dispatch_authority_is_one_of_two_kinds(authority: Any, faults: list[Any]) -> None:
    """A root names its request, a child its parent's claim, and neither anything else."""
    at = ["body", "authority"]
    assert faults_of(Dispatch, {**DISPATCH, "authority": authority}) == [
        (kind, at + loc) for kind, loc in faults
    ]


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "dispatch_key must be non-empty after trimming"),
        (" \t", "dispatch_key must be non-empty after trimming"),
        ("a" * 129, "dispatch_key must be at most 128 characters"),
        ("-a", "dispatch_key must start with a letter or digit and contain only"),
        ("a\n", None),
        ("a\nb", "dispatch_key must start with a letter or digit and contain only"),
        ("a" * 128, None),
        ("Az09._:@/-", None),
    ],
)
def test_a_dispatch_key_is_short_plain_and_trimmed(key: str, says: str | None) -> None:
    """One to 128 characters of a small alphabet; what surrounds them is cut off."""
    body = {**DISPATCH, "dispatch_key": key}
    if says is None:
        assert structure_request(Dispatch, body).dispatch_key == key.strip()
        return
    with pytest.raises(InvalidRequest, match=says):
        structure_request(Dispatch, body)


@pytest.mark.parametrize("value", [True, 0, 1, "yes", "TRUE", "off", 1.0])
def test_a_flag_of_a_request_is_read_laxly(value: Any) -> None:
    """The reference takes words and digits for flags, so we do."""
    spec = structure_request(AgentSpec, {"agent_id": "a", "role": "r", "enabled": value})
    assert spec.enabled is (value not in (0, "off"))


@pytest.mark.parametrize("value", [2, None, "maybe", "", 0.5, []])
def test_what_is_no_flag_is_refused(value: Any) -> None:
    """Lax has an end."""
    body = {"agent_id": "a", "role": "r", "enabled": value}
    assert faults_of(AgentSpec, body) == [("bool_parsing", ["body", "enabled"])]


@pytest.mark.parametrize(("value", "read"), [(3, 3), ("3", 3), (3.0, 3), (" +3.00 ", 3), (True, 1)])
def test_an_integer_of_a_request_is_read_laxly(value: Any, read: int) -> None:
    """The reference takes digits in a string and whole floats for integers, so we do."""
    spec = structure_request(AgentSpec, {"agent_id": "a", "role": "r", "capacity": value})
    assert spec.capacity == read
    assert type(spec.capacity) is int


@pytest.mark.parametrize(
    ("value", "type"),
    [
        (2.5, "int_from_float"),
        ("x", "int_parsing"),
        ("", "int_parsing"),
        ("٣", "int_parsing"),
        (None, "int_parsing"),
        (2**63, "int_parsing_size"),
        (10**400, "int_parsing_size"),
        (1e300, "int_parsing_size"),
        ("9" * 40, "int_parsing_size"),
        ("9" * 5000, "int_parsing"),
    ],
)
def test_what_is_no_integer_is_refused(value: Any, type: str) -> None:
    """Among them whatever would not fit into the database."""
    assert faults_of(AgentSpec, {"agent_id": "a", "role": "r", "capacity": value}) == [
        (type, ["body", "capacity"])
    ]


@pytest.mark.parametrize(
    ("value", "type"),
    [
        (5, "string_type"),
        (None, "string_type"),
        (True, "string_type"),
        (["a"], "string_type"),
        ("a\0b", "value_error"),
    ],
)
def test_a_string_is_a_string_without_nul(value: Any, type: str) -> None:
    """Nothing is turned into a string by itself, and PostgreSQL keeps no NUL."""
    assert faults_of(TurnRef, {"project_id": "p", "turn_id": value}) == [(type, ["body", "turn_id"])]


@pytest.mark.parametrize("value", ["tomorrow", "", 5, None, "9999-12-31T23:59:59-23:00", "2026-13-01"])
def test_what_is_no_instant_is_refused(value: Any) -> None:
    """An instant that cannot be read, or not be brought to UTC, is a fault and no crash."""
    [(_, loc)] = faults_of(ClaimToken, {**CLAIM, "expires_at": value})
    assert loc == ["body", "expires_at"]


@pytest.mark.parametrize(
    "value",
    ["2026-11-22T18:00:00+01:00", "2026-11-22T17:00:00Z", "2026-11-22T17:00:00", "20261122T170000"],
)
def test_an_instant_is_brought_to_utc(value: str) -> None:
    """One without an offset is taken as UTC."""
    read = structure_request(IssueCredential, {"expires_at": value})
    assert read.expires_at == datetime(2026, 11, 22, 17, tzinfo=UTC)
    assert read.expires_at is not None
    assert read.expires_at.tzinfo is UTC


@pytest.mark.parametrize("body", [None, [], "x", 5, True])
def test_a_body_is_an_object(body: Any) -> None:
    """Anything else has one fault, at the body itself."""
    assert faults_of(ClaimNext, body) == [("model_attributes_type", ["body"])]


def test_metadata_is_an_object_and_a_list_is_a_list() -> None:
    """Containers are not converted into each other."""
    body = {"agent_id": "a", "role": "r", "public_metadata": [], "grants": {}, "capabilities": "ab"}
    assert faults_of(AgentSpec, body) == [
        ("list_type", ["body", "capabilities"]),
        ("list_type", ["body", "grants"]),
        ("dict_type", ["body", "public_metadata"]),
    ]


# ---------------------------------------------------------------- answers are tolerant


def test_an_answer_may_carry_keys_we_do_not_know() -> None:
    """A newer kernel is not an error."""
    assert structure_answer(AgentRef, {**AGENT, "colour": "green"}) == AgentRef(**AGENT)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"project_id": "p"}, "answer.agent_id: Field required"),
        ({"project_id": "p", "agent_id": 1}, "answer.agent_id: Input should be a valid string"),
        ([], "answer: Input should be a valid dictionary"),
    ],
)
def test_an_answer_without_its_form_is_named_so(answer: Any, says: str) -> None:
    """The error says which type was expected and what is wrong where."""
    with pytest.raises(AnswerInvalid, match="not a AgentRef") as invalid:
        structure_answer(AgentRef, answer)
    assert says in str(invalid.value)


@pytest.mark.parametrize(
    ("field", "value"), [("limit", "1"), ("limit", True), ("limit", 1.0), ("credential", 1)]
)
def test_an_answer_is_not_bent_into_shape(field: str, value: Any) -> None:
    """Laxness is for what clients send; a kernel that sends the wrong type is not understood."""
    with pytest.raises(AnswerInvalid, match=field):
        structure_answer(ClaimItem, {"agent": AGENT, "credential": "c", "limit": 1, field: value})


# ---------------------------------------------------------------- absent is not null


def test_a_field_that_may_be_absent_is_left_out_again() -> None:
    """What was not sent is not sent on."""
    update = UpdateAgent(agent=AgentRef(**AGENT), requested_by=AgentRef(**AGENT), grants=())
    assert unstructure(update) == {
        "agent": AGENT,
        "requested_by": AGENT,
        "grants": [],
        "meta": None,
        "trace": None,
    }


def test_a_payload_of_null_is_a_payload() -> None:
    """Finishing with null leaves a record; finishing without a payload leaves none."""
    without = structure_request(FinishTurn, {"claim": CLAIM, "outcome": "succeeded"})
    with_null = structure_request(FinishTurn, {"claim": CLAIM, "outcome": "succeeded", "final_payload": None})
    assert without.final_payload is ABSENT
    assert with_null.final_payload is None
    assert "final_payload" not in unstructure(without)
    assert unstructure(with_null)["final_payload"] is None


def test_what_only_our_kernel_says_may_be_absent() -> None:
    """The reference's kernel answers a claim and a renewal without our extra keys."""
    assert structure_answer(ClaimedTurn, CLAIM).context is ABSENT
    renewal = {
        "server_time": CLAIM["expires_at"],
        "expires_at": CLAIM["expires_at"],
        "recommended_interval_seconds": 15,
    }
    assert structure_answer(Renewal, renewal).stop_requested is ABSENT


def test_absent_is_false_and_says_what_it_is() -> None:
    """So that `if field:` and a printed value read well."""
    assert not ABSENT
    assert repr(ABSENT) == "ABSENT"


# ---------------------------------------------------------------- what is written


def test_instants_are_written_as_the_reference_writes_them() -> None:
    """UTC as +00:00, microseconds only where there are some."""
    east = timezone(timedelta(hours=1))
    whole = dumps(IssueCredential(expires_at=datetime(2026, 11, 22, 17, tzinfo=UTC)))
    assert loads(whole)["expires_at"] == "2026-11-22T17:00:00+00:00"
    read = structure_request(
        IssueCredential, {"expires_at": datetime(2026, 1, 1, 1, 0, 0, 5, east).isoformat()}
    )
    assert loads(dumps(read))["expires_at"] == "2026-01-01T00:00:00.000005+00:00"


@pytest.mark.parametrize("value", [{1}, object(), {"a": {1: 2}}, b"bytes"])
def test_what_is_not_json_is_not_written(value: Any) -> None:
    """A set, a key that is no string, bytes: the caller's mistake, said at once."""
    with pytest.raises(TypeError):
        dumps({"value": value})
