"""Payloads are kept as they were sent, and found equal as JSON values are equal (difference 1)."""

from __future__ import annotations

import json
import os
import uuid
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cgworker.kernel.store import ids
from cgworker.kernel.store.ids import digest, keyed_box_id, new_box_id, new_record_id, turn_number
from cgworker.wire.converter import loads
from cgworker.wire.records import JSON_LINES
from tests.kernel.project import Agent, Project

SPELLINGS = (
    "1.0",
    "-0.0",
    "1e400",
    "1E-400",
    "123456789012345678901234567890",
    "0.1234567890123456789",
    "18446744073709551616",
    r'"a\u0000b"',
    '{"b":1,"a":[null,true,{"":"é"}]}',
    '"' + "x" * 100_000 + '"',
    "[" * 150 + "]" * 150,
)

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture
async def worker(project: Project) -> Agent:
    return await project.agent("worker")


async def dispatch_raw(worker: Agent, key: str, input: str) -> str:
    """Dispatch with an input in this very spelling."""
    body = json.dumps(worker.dispatching(worker, key, "@@")).replace('"@@"', input)
    response = await worker.project.client.post(
        f"/v3r1/projects/{worker.project.id}/turns:dispatch",
        content=body,
        headers={**worker.headers, "Content-Type": "application/json"},
    )
    assert response.status_code == 200, response.text
    return str(response.json()["turn_id"])


@pytest.mark.parametrize(
    "text", [*SPELLINGS, '{"a":\r\n [1,\n 2]}', r'"one\ntwo\u2028"'], ids=lambda text: text[:20]
)
async def test_a_context_says_the_same_in_lines(worker: Agent, text: str) -> None:
    """The turn and each record are a line of their own, whatever line breaks were sent (difference 43)."""
    turn_id = await dispatch_raw(worker, "k", text)
    asked = (f"/v3r1/projects/{worker.project.id}/turns/{turn_id}/context", worker.headers)
    whole = await worker.project.client.get(asked[0], headers=asked[1])
    lines = await worker.project.client.get(asked[0], headers={**asked[1], "Accept": JSON_LINES})
    assert lines.headers["content-type"] == JSON_LINES
    turn, *records = map(loads, lines.content.split(b"\n"))
    assert {"turn": turn, "semantic_items": records} == loads(whole.content)
    assert len(records) == 1


@pytest.mark.parametrize("text", SPELLINGS, ids=lambda text: text[:20])
async def test_a_payload_comes_back_digit_by_digit(worker: Agent, text: str) -> None:
    """No parser on the way has changed its value, however large or small."""
    turn_id = await dispatch_raw(worker, "k", text)
    context = await worker.ask("GET", f"turns/{turn_id}/context")
    part = '"text":' if text.startswith('"') else '"data":'
    assert part + text in context.text


@given(value=values)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_value_can_be_an_input_a_record_and_a_result(worker: Agent, value: object) -> None:
    """Scalars, empty strings, any text: the reference answers 500 to some."""
    turn_id = await worker.dispatch(worker, input=value)
    claim = await worker.claim({"Prefer": "return=representation"})
    await worker.append(claim, value)
    assert (await worker.finish(claim, final_payload=value)).status_code == 200
    context = await worker.get(f"turns/{turn_id}/context")
    contents = [item["content"]["cards"][0]["content"] for item in context["semantic_items"]]
    assert [content.get("text", content.get("data")) for content in contents] == [value] * 3
    assert context["turn"]["final_payload"] == value


async def test_a_replay_may_spell_its_payload_otherwise(worker: Agent) -> None:
    """Key order and the spelling of numbers are no difference; another value is."""
    turn_id = await dispatch_raw(worker, "k", '{"a":1,"b":100}')
    assert await dispatch_raw(worker, "k", '{ "b": 1e2, "a": 1.0 }') == turn_id
    other = await worker.ask("POST", "turns:dispatch", worker.dispatching(worker, "k", {"a": 1, "b": 101}))
    assert other.json()["message"] == "cardbox write_key conflict: dispatch-root:worker:k:k"


async def test_a_refused_dispatch_pins_nothing(worker: Agent) -> None:
    """All or nothing (difference 5): the same key can be tried again with another payload."""
    bad = worker.dispatching(worker, "k", 1, turn_kind="turn.unknown.v1")
    assert (await worker.ask("POST", "turns:dispatch", bad)).status_code == 409
    assert await worker.dispatch(worker, "k", 2) == "T-1"


# ---------------------------------------------------------------- ids


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("1", "10e-1"),
        ("100", "1e2"),
        ("-0.0", "0"),
        ("0.10", "1e-1"),
        ("1e400", "10e399"),
        ("12345678901234567890123", "12345678901234567890123.0"),
        ('{"a":1,"b":2}', '{"b":2.0,"a":1}'),
    ],
)
def test_equal_values_have_one_digest(one: str, other: str) -> None:
    """Equal as jsonb."""
    assert digest(loads(one)) == digest(loads(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "true"),
        ("0", "false"),
        ("1", '"1"'),
        ("1e400", "1e401"),
        ("[]", "{}"),
        ("null", "0"),
        ("-1", "1"),
    ],
)
def test_other_values_have_another_digest(one: str, other: str) -> None:
    """Not what Python takes for equal, nor what a float cannot tell apart."""
    assert digest(loads(one)) != digest(loads(other))


def test_a_write_key_always_gives_the_same_box() -> None:
    """As recorded of the reference: a UUIDv5 of the project and the key."""
    recorded = "05e0a111-08ac-54fa-b2c0-05fd87825dbf"
    key = "fnk-17953678264670161161"
    assert keyed_box_id("cg-demo", f"dispatch-root:fn-wrk:{key}:{key}") == recorded


def test_box_ids_are_version_7() -> None:
    """Their milliseconds come first."""
    boxes = [uuid.UUID(new_box_id()) for _ in range(100)]
    assert {(box.version, box.variant) for box in boxes} == {(7, uuid.RFC_4122)}
    assert len(set(boxes)) == 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_makes_other_ids() -> None:
    """Random bytes are fetched for many ids at once; the child does not go on with its parent's."""
    new_box_id()  # there are random bytes to be forked
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, new_record_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 100).decode()
    os.close(writer)
    os.close(reader)
    assert theirs.startswith("record_")
    assert theirs != new_record_id()


@pytest.mark.parametrize("id", ["T-0", "T-01", "t-1", "T-1 ", "T-", "1", "", "T-\uff19", "T-" + "9" * 400])
def test_what_is_no_turn_id_names_no_turn(id: str) -> None:
    """It gets the number 0, which no turn has."""
    assert turn_number(id) == 0


def test_a_text_that_looks_like_a_number_is_not_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prose is long, and a digit with a dot behind it says nothing about the numbers beside it."""
    rewrite = Mock(wraps=lambda value: value)
    monkeypatch.setattr(ids, "_plain_numbers", rewrite)
    digest({"text": "It took 3.5 s, or 1e1.", "count": [3, True, None, {"more": 2**70}]})
    assert rewrite.call_count == 0
    digest({"text": "", "took": [{"seconds": 3.5}]})
    assert rewrite.call_count == 1
