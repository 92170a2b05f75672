"""Agents: birth, presence, metadata, accepting work, and what changes later (wire 6.2, 6.3, 9)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from cgworker.errors import ConflictError
from cgworker.kernel.store.agent_specs import normal_spec, spec_hash
from cgworker.kernel.store.offers import normal_metadata
from cgworker.wire.agents import AgentSpec, RegisterAgent
from cgworker.wire.converter import structure_request
from cgworker.wire.refs import AgentRef
from tests.kernel.project import Agent, Project

RECORDINGS = Path(__file__).parent.parent / "conformance" / "recordings" / "http"


@pytest.fixture
async def admin(project: Project) -> Agent:
    """An agent that may register and change others."""
    return await project.agent("admin-service", grants=("agent.registration.birth",))


def birth(agent_id: str = "new", **spec: Any) -> dict[str, Any]:
    """The body of a registration."""
    return {
        "spec": {"agent_id": agent_id, "role": "tester", **spec},
        "provenance": {"kind": "test", "external_ref": "test"},
    }


def change(admin: Agent, target: Agent, **changes: Any) -> tuple[str, dict[str, Any]]:
    """Path and body of an update."""
    path = f"management/agents/{target.ref.agent_id}:update"
    return path, {"agent": target.json, "requested_by": admin.json, **changes}


async def events_of(agent: Agent) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await agent.get(f"agents/{agent.ref.agent_id}/feed"))["items"]
    return items


# ---------------------------------------------------------------- birth


def recorded_births() -> list[tuple[dict[str, Any], str]]:
    """Every registration the reference took, with the hash it gave."""
    births = []
    for file in sorted(RECORDINGS.glob("*.json")):
        for step in json.loads(file.read_text("utf-8")):
            request, response = step.get("request") or {}, step.get("response") or {}
            if str(request.get("path")).endswith("agents:register") and response["status"] == 200:
                births.append((request["json"], response["json"]["admitted_spec_hash"]))
    return births


def test_the_hash_of_a_spec_is_the_references_bit_for_bit() -> None:
    """Admission services recompute it and refuse a registration that differs."""
    births = recorded_births()
    assert len(births) > 20
    for body, expected in births:
        spec = structure_request(RegisterAgent, body).spec
        assert spec_hash(normal_spec(spec)) == expected, body


def test_the_hash_covers_what_python_would_have_read() -> None:
    """Numbers count as the floats they stand for, since the reference hashes what it parsed."""
    exact = structure_request(AgentSpec, {"agent_id": "a", "role": "r", "public_metadata": {"x": 1.5}})
    assert spec_hash(exact) == spec_hash(AgentSpec(agent_id="a", role="r", public_metadata={"x": 1.50}))


async def test_capabilities_and_grants_are_sets_in_order(admin: Agent) -> None:
    """Each is kept once, sorted."""
    born = await admin.post("agents:register", birth(capabilities=["b", "a", "b"], grants=["z", "y", "z"]))
    assert (born["capabilities"], born["grants"]) == (["a", "b"], ["y", "z"])


@pytest.mark.parametrize(
    "agent_id",
    ["a/b", ".", "..", "x" * 201, "a\tb", "a\x7fb", "é", "世界", "a\u202eb", "a\xa0b", " a", "a ", "a\n"],
)
async def test_an_id_that_no_path_or_header_carries_is_refused_before_any_write(
    admin: Agent, agent_id: str
) -> None:
    """Differences 11 and 38: 422, with the place."""
    refused = await admin.ask("POST", "agents:register", birth(agent_id))
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "spec", "agent_id"]
    assert "new" not in str((await admin.get("projection/agents"))["items"])


async def test_odd_ids_that_can_be_named_are_welcome(project: Project) -> None:
    """All of printable ASCII but the slash: paths and headers carry them as they are."""
    for agent_id in ("a b", "a:claim", "100%25?x=#&<>", "x" * 200, "...", "~!\"$'()*+,;=@[\\]^_`{|}"):
        itself = await project.agent(agent_id)
        found = await itself.get(f"agents/{quote(agent_id, safe='')}")
        assert found["agent"]["agent_id"] == agent_id


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"agent_id": "", "role": "", "capacity": 0}, "agent birth spec agent_id must be non-empty"),
        ({"role": "", "capacity": 0}, "agent birth spec role must be non-empty"),
        ({"capacity": 0, "capabilities": [""]}, "agent birth spec capacity must be positive"),
        (
            {"capabilities": [""], "grants": [""]},
            "agent birth spec capabilities must contain non-empty strings",
        ),
        ({"grants": [""]}, "agent birth spec grants must contain non-empty strings"),
    ],
)
async def test_the_first_rule_broken_is_named(admin: Agent, spec: dict[str, Any], message: str) -> None:
    """Rules are checked in the order of wire 6.2."""
    refused = await admin.ask("POST", "agents:register", birth(**{"agent_id": "new", **spec}))
    assert (refused.status_code, refused.json()["message"]) == (409, message)


async def test_blank_is_not_empty(admin: Agent) -> None:
    """The reference takes a role, capability or grant of blanks."""
    born = await admin.post("agents:register", birth(role=" ", capabilities=[" "], grants=[" "]))
    assert (born["role"], born["capabilities"], born["grants"]) == (" ", [" "], [" "])


async def test_of_many_births_under_one_name_one_succeeds(admin: Agent) -> None:
    """The others are told that the agent exists; nobody gets a 500."""
    answers = []

    async def register() -> None:
        answers.append(await admin.ask("POST", "agents:register", birth("twin")))

    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            tasks.start_soon(register)
    refused = [answer.json()["message"] for answer in answers if answer.status_code == 409]
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 11
    assert set(refused) == {"agent already exists: twin"}


async def test_a_registrar_without_the_grant_registers_nobody(project: Project) -> None:
    """The grant comes before every rule."""
    nobody = await project.agent("nobody")
    refused = await nobody.ask("POST", "agents:register", birth(role=""))
    assert refused.status_code == 409
    assert refused.json()["message"] == "caller missing grant: agent.registration.birth"


# ---------------------------------------------------------------- hostile input

HOSTILE_SPECS: list[dict[str, Any]] = [
    {"role": "a\0b"},
    {"description": "\0"},
    {"capacity": 2**31},
    {"capacity": 2**63},
    {"capacity": 10**400},
    {"capacity": 1.5},
    {"capacity": {}},
    {"capabilities": ["x", None]},
    {"capabilities": ["x\0"]},
    {"capabilities": [["x"]]},
    {"capabilities": "abc"},
    {"grants": [1]},
    {"enabled": "perhaps"},
    {"public_metadata": [1]},
    {"public_metadata": None},
]


@pytest.mark.parametrize("spec", HOSTILE_SPECS, ids=str)
async def test_what_cannot_be_stored_is_a_422_with_its_place(admin: Agent, spec: dict[str, Any]) -> None:
    """Difference 1: never a 5xx, and one knows what to mend."""
    refused = await admin.ask("POST", "agents:register", birth(**spec))
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"][:3] == ["body", "spec", next(iter(spec))]


async def test_a_name_too_long_for_an_index_is_a_422(admin: Agent) -> None:
    """PostgreSQL could not index it; nothing is written."""
    long = "".join(chr(0x4E00 + number % 20000) for number in range(6000))
    refused = await admin.ask("POST", "agents:register", birth(capabilities=[long]))
    assert refused.status_code == 422
    assert (await admin.ask("GET", "agents/new")).status_code == 404


async def test_metadata_may_be_any_json(admin: Agent) -> None:
    """NUL in a string, numbers of any size and nesting come back as they were sent (difference 1)."""
    deep: Any = "core"
    for _ in range(150):
        deep = [deep]
    metadata = {"nul": "a\0b", "big": 10**50, "deep": deep, "": None, "emoji": "😀", "turn_offers": None}
    assert (await admin.post("agents:register", birth(public_metadata=metadata)))[
        "public_metadata"
    ] == metadata
    assert (await admin.get("agents/new"))["public_metadata"] == metadata


async def test_odd_metadata_of_one_agent_does_not_hide_the_offers_of_others(
    admin: Agent, project: Project
) -> None:
    """A NUL in a string, which the database itself cannot read, is no obstacle."""
    for agent_id in ("odd", "even"):
        agent = await project.agent(agent_id, capabilities=("k",))
        metadata = {"turn_offers": [OFFER], "ui": {"label": "a\0b"}}
        body = {"agent": agent.json, "public_metadata": metadata}
        answer = await agent.ask("PUT", f"management/agents/{agent_id}/public-metadata", body)
        assert answer.status_code == 200, answer.text
    offers = (await admin.get("projection/turn-offers"))["items"]
    assert [offer["agent_id"] for offer in offers] == ["even", "odd"]
    await agent.ask("PUT", "management/agents/even/public-metadata", {"agent": agent.json})
    offers = (await admin.get("projection/turn-offers"))["items"]
    assert [(offer["agent_id"], offer["agent_label"]) for offer in offers] == [("odd", "a\0b")]


# ---------------------------------------------------------------- accepting work, presence, metadata


async def test_draining_twice_says_so_once(project: Project) -> None:
    """What changes nothing writes no event and leaves updated_at."""
    agent = await project.agent("worker")
    body = {"agent": agent.json, "requested_by": agent.json}
    await agent.post("management/agents/worker:drain", body)
    drained = await agent.get("agents/worker")
    await agent.post("management/agents/worker:drain", body)
    assert await agent.get("agents/worker") == drained
    assert [event["event_type"] for event in await events_of(agent)][1:] == ["agent.drained"]


async def test_presence_moves_last_seen_alone(project: Project) -> None:
    """No event, and updated_at stays."""
    agent = await project.agent("worker")
    before = await agent.get("agents/worker")
    await agent.post("management/agents/worker:heartbeat-presence", {"agent": agent.json})
    after = await agent.get("agents/worker")
    assert before["last_seen_at"] is None
    assert after == {**before, "last_seen_at": after["last_seen_at"]}
    assert after["last_seen_at"] is not None


OFFER: dict[str, Any] = {
    "turn_kind": "k",
    "calling": {"operation": "dispatch", "authority_modes": []},
    "input_contract": {},
}


def test_an_offer_is_completed_and_keeps_what_we_do_not_know() -> None:
    """The normal form adds purpose, variants and notes."""
    metadata = {"turn_offers": [{**OFFER, "extra": {"deep": 1}}], "more": 1}
    assert normal_metadata(metadata) == {
        "turn_offers": [{**OFFER, "extra": {"deep": 1}, "purpose": None, "variants": {}, "notes": None}],
        "more": 1,
    }


@pytest.mark.parametrize(
    ("offers", "message"),
    [
        ({}, "turn_offers must be a list"),
        ([1], "turn_offers items must be objects"),
        ([{**OFFER, "turn_kind": ""}], "turn_offers[].turn_kind must be a non-empty string"),
        ([{**OFFER, "variants": None}], "turn_offers[].variants must be an object"),
        ([{**OFFER, "calling": {"operation": "x"}}, 3], "turn_offers[].calling.operation must be 'dispatch'"),
        ([OFFER, OFFER, {}], "turn_offers contains duplicate turn_kind: k"),
        (
            [{**OFFER, "calling": {"operation": "dispatch", "authority_modes": [{"mode": ["x"]}]}}],
            "turn_offers[].calling.authority_modes[].mode must be one of: root_request, child_derivation",
        ),
    ],
)
def test_the_first_fault_of_offers_is_named(offers: Any, message: str) -> None:
    """Offer by offer, in the order of wire 9."""
    with pytest.raises(ConflictError) as refused:
        normal_metadata({"turn_offers": offers})
    assert refused.value.message == message


# ---------------------------------------------------------------- difference 3


async def test_an_update_changes_what_is_given_and_tells_the_ledger(admin: Agent, project: Project) -> None:
    """What is absent stays; the event carries the new values."""
    worker = await project.agent("worker", grants=("turn.stop.any",))
    updated = await admin.post(*change(admin, worker, capacity=4, capabilities=["b", "a", "a"]))
    assert (updated["capacity"], updated["capabilities"]) == (4, ["a", "b"])
    assert (updated["grants"], updated["enabled"]) == (["turn.stop.any"], True)
    event = (await events_of(worker))[-1]
    assert (event["event_type"], event["actor_id"]) == ("agent.updated", "admin-service")
    assert event["annotations"]["system"] == {"capacity": 4, "capabilities": ["a", "b"]}


async def test_an_update_that_changes_nothing_is_silent(admin: Agent, project: Project) -> None:
    """No event, and updated_at stays."""
    worker = await project.agent("worker", capacity=2)
    before = await admin.get("agents/worker")
    assert await admin.post(*change(admin, worker, capacity=2, enabled=True)) == before
    assert len(await events_of(worker)) == 1


async def test_an_agent_cannot_raise_itself(project: Project) -> None:
    """Changing an agent needs the grant to register, even for itself."""
    worker = await project.agent("worker")
    refused = await worker.ask("POST", *change(worker, worker, capacity=9))
    assert refused.json()["message"] == "caller missing grant: agent.registration.birth"


async def test_disabling_takes_effect_on_the_next_request(admin: Agent, project: Project) -> None:
    """A disabled agent is refused at once, and works again once it is enabled (difference 12)."""
    worker = await project.agent("worker")
    await admin.post(*change(admin, worker, enabled=False))
    refused = await worker.ask("GET", "agents/worker")
    assert (refused.status_code, refused.json()["message"]) == (403, "authenticated agent is disabled")
    await admin.post(*change(admin, worker, enabled=True))
    assert (await worker.ask("GET", "agents/worker")).status_code == 200


async def test_updating_nobody_is_a_404(admin: Agent, project: Project) -> None:
    """Also when nothing is to be changed."""
    ghost = Agent(project, AgentRef(project_id=project.id, agent_id="ghost"), "")
    refused = await admin.ask("POST", *change(admin, ghost))
    assert (refused.status_code, refused.json()["message"]) == (404, "agent not found: ghost")


@pytest.mark.parametrize("changes", [{"capacity": 0}, {"capabilities": [""]}, {"grants": [""]}], ids=str)
async def test_the_rules_of_birth_hold_for_life(
    admin: Agent, project: Project, changes: dict[str, Any]
) -> None:
    """What an agent could not be born with it cannot be given."""
    worker = await project.agent("worker")
    refused = await admin.ask("POST", *change(admin, worker, **changes))
    assert refused.status_code == 409
