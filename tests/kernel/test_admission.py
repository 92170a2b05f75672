"""Admission: who is let in, as what, and what a code is good for (admission 4, difference 13)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from attrs import evolve, frozen

from cgworker.kernel.app import Kernel, create_app
from cgworker.kernel.invitation_codes import Invitations
from cgworker.kernel.routes.admission import admission_routes
from cgworker.kernel.store.admission_profiles import Admission, registration_of
from cgworker.kernel.store.agent_specs import spec_hash
from cgworker.kernel.store.seed import seed_project
from tests.kernel.project import Project
from tests.kernel.test_agents import RECORDINGS

BEARER = "the-operators-bearer"
OPERATOR = {"authorization": f"Bearer {BEARER}"}
REPORTER, WORKER = "byoa.work_memory_reporter.v1", "byoa.conversation_worker.v1"


@frozen
class Service:
    """An admission service for one project, spoken to over HTTP."""

    project: Project
    client: httpx.AsyncClient

    async def request(self, headers: dict[str, str] = OPERATOR, **fields: Any) -> httpx.Response:
        """Ask for an agent's credential."""
        body = {"request_id": "r-1", "requested_agent_id": "rep", "display_name": "Rep", "runtime_kind": "x"}
        path = f"/admin/v1/projects/{self.project.id}/agent-credential-tokens:request"
        return await self.client.post(path, json={**body, **fields}, headers=headers)

    async def ask_for_invite(self, agent_id: str, **fields: Any) -> httpx.Response:
        body = {"agent_id": agent_id, **fields}
        return await self.client.post(self.invites_path, json=body, headers=OPERATOR)

    async def invite(self, agent_id: str, **fields: Any) -> dict[str, Any]:
        """Make an invite; returns it with its code."""
        made: dict[str, Any] = good(await self.ask_for_invite(agent_id, **fields))
        return made

    async def redeem(self, code: str) -> httpx.Response:
        return await self.client.post("/admin/v1/agent-joins:redeem", json={"join_code": code})

    async def join(self, agent_id: str, **fields: Any) -> dict[str, Any]:
        """Make an invite and redeem it."""
        joined: dict[str, Any] = good(await self.redeem((await self.invite(agent_id, **fields))["join_code"]))
        return joined

    async def revoke(self, invite_id: str) -> httpx.Response:
        return await self.client.post(f"{self.invites_path}/{invite_id}:revoke", headers=OPERATOR)

    async def invites(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = good(await self.client.get(self.invites_path, headers=OPERATOR))[
            "invites"
        ]
        return listed

    async def agent(self, admitted: dict[str, Any]) -> dict[str, Any]:
        """The admitted agent, read with its own new credential."""
        headers = {
            "X-CG-Project-Id": admitted["project_id"],
            "X-CG-Agent-Id": admitted["agent_id"],
            "Authorization": f"Bearer {admitted['agent_credential_token']}",
        }
        path = f"/v3r1/projects/{admitted['project_id']}/agents/{admitted['agent_id']}"
        agent: dict[str, Any] = good(await self.client.get(path, headers=headers))
        return agent

    async def agents(self) -> set[str]:
        """Who is registered."""
        statement = "select agent_id from cg_agents where project_id = $1"
        rows = await self.project.kernel.database.fetch(statement, self.project.id)
        return {row["agent_id"] for row in rows}

    @property
    def invites_path(self) -> str:
        return f"/admin/v1/projects/{self.project.id}/agent-join-invites"


def good(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message."""
    body = answer.json()
    assert set(body) == {"error", "code", "message"}
    return answer.status_code, body["code"], body["message"]


@asynccontextmanager
async def serving(
    kernel: Kernel, project: Project, invitations: Invitations | None = None, **settings: Any
) -> AsyncIterator[Service]:
    """An admission service, with settings of its own."""
    config = evolve(kernel.config, **settings)
    routes = admission_routes(config, project_id=project.id, bearer=BEARER, invitations=invitations)
    transport = httpx.ASGITransport(create_app(kernel, routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://kernel") as client:
        yield Service(project, client)


@pytest.fixture
async def service(kernel: Kernel, project: Project) -> AsyncIterator[Service]:
    """An admission service without an invitations file, for a seeded project."""
    await seed_project(kernel.database, project.id)
    async with serving(kernel, project, redeems_per_minute=0) as service:
        yield service


# ---------------------------------------------------------------- what is registered


async def test_a_code_admits_a_conversation_worker_with_its_offer(service: Service) -> None:
    """The credential works at once, and the agent is what its profile kind says (admission 6)."""
    joined = await service.join("worker-1")
    agent = await service.agent(joined)
    assert (agent["role"], agent["capacity"], agent["grants"]) == ("external.conversation_worker.v1", 1, [])
    assert agent["capabilities"] == ["turn.conversation.v1"]
    assert agent["public_metadata"]["ui"] == {"label": "Worker 1"}
    assert [o["turn_kind"] for o in agent["public_metadata"]["turn_offers"]] == ["turn.conversation.v1"]
    assert agent["registration_provenance_ref"] == joined["request_id"]
    assert joined["invite"]["use_count"] == 1


async def test_the_bearer_admits_a_reporter_that_takes_no_work(service: Service) -> None:
    """It can do nothing but report."""
    agent = await service.agent(good(await service.request()))
    assert (agent["role"], agent["accepts_work"], agent["capabilities"]) == ("external.agent.v1", False, [])


def test_registrations_are_vouched_for_as_the_reference_does() -> None:
    """Spec and approval are hashed bit for bit: recorded agents, registered anew, have their hashes."""
    snapshots = {
        step["step"]: step["response"].get("json")
        for step in json.loads((RECORDINGS / "20-admin-api.json").read_text("utf-8"))
        if step.get("response")
    }
    invite = snapshots["redeem ok (no bearer needed)"]["invite"]
    recorded = (snapshots["use the issued token"], None), (snapshots["joined agent snapshot"], invite)
    for agent, by in recorded:
        spec, provenance = registration_of(
            Admission(
                request_id=agent["registration_provenance_ref"],
                project_id="cg-demo",
                agent_id=agent["agent"]["agent_id"],
                display_name=agent["public_metadata"]["ui"]["label"],
                runtime_kind=agent["public_metadata"]["admin_service"]["runtime_kind"],
                profile_kind=WORKER if by else REPORTER,
                approved_by="local-admin-service",
                invite_id=by and by["invite_id"],
            )
        )
        assert spec_hash(spec) == agent["admitted_spec_hash"]
        assert provenance.payload_hash == agent["registration_provenance_payload_hash"]


async def test_an_invite_can_give_capacity_and_grants(service: Service) -> None:
    """Difference 3: what the operator wrote into the invite, the agent is born with."""
    joined = await service.join("worker", capacity=5, grants=["turn.stop.any", "turn.stop.any"])
    agent = await service.agent(joined)
    assert (agent["capacity"], agent["grants"]) == (5, ["turn.stop.any"])


async def test_an_invite_does_not_promise_to_change_an_agent_that_exists(service: Service) -> None:
    """It would give a new credential and nothing else, so it is refused instead of being half true."""
    await service.join("worker")
    refused = await service.ask_for_invite("worker", capacity=5)
    assert refusal(refused)[:2] == (409, "conflict")


# ---------------------------------------------------------------- repeating, and joining again


async def test_the_same_request_again_gives_another_credential(service: Service) -> None:
    """The earlier one stays valid."""
    first, second = good(await service.request()), good(await service.request(creator_user_id="me"))
    assert first["agent_credential_token"] != second["agent_credential_token"]
    assert await service.agent(first) == await service.agent(second)


async def test_another_request_under_the_same_id_is_a_conflict(service: Service) -> None:
    """And a second request for the same agent is one as well."""
    good(await service.request())
    changed = await service.request(display_name="Other")
    assert refusal(changed) == (409, "conflict", "BYOA request idempotency conflict: r-1")
    second = await service.request(request_id="r-2")
    whose = f"{service.project.id}/rep"
    message = f"BYOA request already exists for project/agent: {whose}"
    assert refusal(second) == (409, "conflict", message)


async def test_a_fresh_invite_lets_an_admitted_worker_in_again(service: Service) -> None:
    """Who lost its credential gets another one, and is not changed (difference 13)."""
    first = await service.join("worker", display_name="First")
    again = await service.join("worker", display_name="Second")
    assert again["request_id"] != first["request_id"]
    assert await service.agent(again) == await service.agent(first)
    assert (await service.agent(again))["public_metadata"]["ui"] == {"label": "First"}


async def test_an_invite_does_not_move_an_agent_to_another_kind_of_profile(service: Service) -> None:
    """A reporter stays a reporter."""
    good(await service.request(requested_agent_id="rep"))
    refused = await service.redeem((await service.invite("rep"))["join_code"])
    assert refusal(refused)[2].startswith("BYOA request already exists for project/agent")


@pytest.mark.parametrize("agent_id", ["admin-service", "foreign"])
async def test_an_agent_registered_by_others_is_not_adopted(service: Service, agent_id: str) -> None:
    """Nothing is left behind: the invite is unused, and no admission stands in the way of a later one."""
    if agent_id == "foreign":
        await service.project.agent("foreign")
    code = (await service.invite(agent_id))["join_code"]
    for _ in range(2):
        refused = await service.redeem(code)
        message = "BYOA registration did not complete: conflict_requires_review"
        assert refusal(refused) == (409, "conflict", message)
    assert (await service.invites())[0]["use_count"] == 0


async def test_a_request_that_the_policy_refuses_takes_no_slot(service: Service) -> None:
    """Mended, the same request succeeds (differences 5 and 13)."""
    refused = await service.request(requested_role="boss")
    assert refusal(refused) == (409, "conflict", "unsupported BYOA requested_role: boss")
    assert (await service.request()).status_code == 200


async def test_a_redeem_that_dies_half_way_can_simply_be_repeated(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agent, credential and use of the code come together or not at all."""
    from cgworker.kernel.store import admission

    code = (await service.invite("worker"))["join_code"]

    async def die(*_: object) -> None:
        raise RuntimeError("the kernel dies here")

    monkeypatch.setattr(admission, "use_invite", die)
    with pytest.raises(RuntimeError):
        await service.redeem(code)
    monkeypatch.undo()
    assert "worker" not in await service.agents()
    assert (await service.redeem(code)).status_code == 200


# ---------------------------------------------------------------- codes


async def test_a_code_works_as_often_as_it_says_under_any_rush(service: Service) -> None:
    """16 at once with 3 uses: three join, each with a credential of its own; the others are told."""
    made = await service.invite("worker", max_uses=3)
    answers: list[httpx.Response] = []

    async def redeem() -> None:
        answers.append(await service.redeem(made["join_code"]))

    async with anyio.create_task_group() as tasks:
        for _ in range(16):
            tasks.start_soon(redeem)
    tokens = {a.json()["agent_credential_token"] for a in answers if a.status_code == 200}
    refused = [refusal(a) for a in answers if a.status_code != 200]
    assert len(tokens) == 3
    assert refused == [(403, "join_code_used", "Agent join code has already been redeemed")] * 13


async def test_two_invites_for_one_agent_redeemed_at_once_admit_it_once(service: Service) -> None:
    """Both holders get a credential for the same agent."""
    codes = [(await service.invite("worker"))["join_code"] for _ in range(6)]
    answers: list[httpx.Response] = []

    async def redeem(code: str) -> None:
        answers.append(await service.redeem(code))

    async with anyio.create_task_group() as tasks:
        for code in codes:
            tasks.start_soon(redeem, code)
    assert [answer.status_code for answer in answers] == [200] * 6


async def test_each_reason_why_a_code_is_useless_has_its_own_word(service: Service, kernel: Kernel) -> None:
    """Clients act on the code, people read the message (admission 3)."""
    expired, revoked = await service.invite("a"), await service.invite("b")
    end = "update cg_invites set expires_at = now() - interval '1 second' where invite_id = $1"
    await kernel.database.execute(end, expired["invite"]["invite_id"])
    assert (await service.revoke(revoked["invite"]["invite_id"])).json()["invite"]["disabled"]
    for code, reason in (
        (expired["join_code"], "expired"),
        (revoked["join_code"], "disabled"),
        ("cgjoin_x", "invalid"),
    ):
        assert refusal(await service.redeem(code)) == (
            403,
            f"join_code_{reason}",
            f"Agent join code is {reason}",
        )


async def test_only_the_hash_of_a_code_is_kept(service: Service, kernel: Kernel) -> None:
    """Who reads the database cannot join; blanks around a code are not part of it."""
    code = (await service.invite("worker"))["join_code"]
    rows = await kernel.database.fetch("select i::text as row from cg_invites i")
    assert not any(code.removeprefix("cgjoin_") in row["row"] for row in rows)
    assert (await service.redeem(f" {code} ")).status_code == 200


async def test_invites_are_listed_newest_first_without_their_codes(service: Service) -> None:
    """Revoked and used ones too; revoking again changes nothing (difference 13)."""
    made = [(await service.invite(name))["invite"] for name in ("a", "b")]
    revoked = (await service.revoke(made[0]["invite_id"])).json()["invite"]
    assert (await service.revoke(made[0]["invite_id"])).json()["invite"] == revoked
    assert await service.invites() == [made[1], revoked]
    unknown = await service.revoke("aginv_none")
    assert refusal(unknown)[:2] == (404, "not_found")


async def test_redeeming_too_fast_from_one_source_has_to_wait(kernel: Kernel, project: Project) -> None:
    """429 says after how many seconds to come back; nothing was tried."""
    await seed_project(kernel.database, project.id)
    async with serving(kernel, project, redeems_per_minute=2) as service:
        codes = [(await service.redeem("cgjoin_x")).json()["code"] for _ in range(2)]
        limited = await service.redeem("cgjoin_x")
    assert codes == ["join_code_invalid"] * 2
    assert (limited.status_code, limited.json()["code"]) == (429, "too_many_requests")
    assert 1 <= int(limited.headers["retry-after"]) <= 30


# ---------------------------------------------------------------- who may ask, and for what


@pytest.mark.parametrize(
    "header", ["", "Bearer", f"bearer {BEARER}", f"Bearer {BEARER} ", "Bearer x", "Bearer é"]
)
async def test_the_bearer_must_match_to_the_letter(service: Service, header: str) -> None:
    """Also its scheme; everything but redeeming needs it."""
    headers = {b"authorization": header.encode("latin-1")} if header else {}
    answers = [
        await service.client.post(service.invites_path, json={"agent_id": "a"}, headers=headers),
        await service.client.get(service.invites_path, headers=headers),
        await service.client.post(f"{service.invites_path}/x:revoke", headers=headers),
    ]
    expected = (401, "unauthorized", "Admin Service bearer auth is required")
    assert [refusal(answer) for answer in answers] == [expected] * 3


async def test_a_code_of_another_project_does_not_open_this_one(
    service: Service, kernel: Kernel, client: httpx.AsyncClient
) -> None:
    """One service admits to one project, also where several share a database."""
    other = Project(kernel, client)
    await seed_project(kernel.database, other.id)
    async with serving(kernel, other) as elsewhere:
        code = (await service.invite("worker"))["join_code"]
        refused = await elsewhere.redeem(code)
    message = "BYOA registration requester is not authorized for project"
    assert refusal(refused) == (403, "forbidden", message)


async def test_a_project_that_is_not_seeded_admits_nobody(kernel: Kernel, project: Project) -> None:
    """404 with its own code; the CLI tells people to seed."""
    async with serving(kernel, project) as service:
        refused = await service.request()
    assert refusal(refused) == (404, "project_not_seeded", f"project is not seeded: {project.id}")


async def test_a_project_with_another_admin_service_admits_nobody(kernel: Kernel, project: Project) -> None:
    """409 with its own code, and the fields that differ."""
    await project.agent("admin-service")
    async with serving(kernel, project) as service:
        refused = await service.request()
    status, code, message = refusal(refused)
    assert (status, code) == (409, "project_bootstrap_conflict")
    assert message.startswith("project admin-service bootstrap conflict: role, accepts_work")


@pytest.mark.parametrize("agent_id", ["a b/c", "..", "x" * 201, "Grüße", "a\u202eb"])
async def test_an_agent_that_no_path_or_header_carries_is_refused_before_any_write(
    service: Service, agent_id: str
) -> None:
    """422 in the shape of every other (differences 11 and 38); the reference registers it and breaks."""
    for answer in (
        await service.request(requested_agent_id=agent_id),
        await service.ask_for_invite(agent_id),
    ):
        assert answer.status_code == 422
        assert set(answer.json()) == {"detail"}
    assert await service.agents() == {"admin-service"}
    assert await service.invites() == []


HOSTILE_INVITES: list[dict[str, Any]] = [
    {"agent_id": "a\0"},
    {"agent_id": None},
    {"max_uses": 2**31},
    {"max_uses": 10**300},
    {"expires_in_seconds": 10**12},
    {"expires_in_seconds": 1.5},
    {"capacity": 2**40},
    {"capacity": None},
    {"grants": ["x", None]},
    {"grants": "x"},
    {"display_name": 7},
    {"unknown": 1},
]


@pytest.mark.parametrize("fields", HOSTILE_INVITES, ids=str)
async def test_an_invite_that_cannot_be_stored_is_a_422_with_its_place(
    service: Service, fields: dict[str, Any]
) -> None:
    """Never a 5xx (difference 1)."""
    answer = await service.ask_for_invite(**{"agent_id": "a", **fields})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][:2] == ["body", next(iter(fields))]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"agent_id": " "}, "agent_id must be non-empty"),
        ({"expires_in_seconds": 0}, "expires_in_seconds must be a positive integer"),
        ({"max_uses": -1}, "max_uses must be a positive integer"),
        ({"capacity": 0}, "capacity must be a positive integer"),
        ({"grants": [""]}, "grants must contain non-empty strings"),
        (
            {"profile_kind": REPORTER},
            "Agent join invite currently supports conversation worker profiles only",
        ),
    ],
)
async def test_an_invite_out_of_bounds_is_a_conflict(
    service: Service, fields: dict[str, Any], message: str
) -> None:
    """As the reference says it."""
    answer = await service.ask_for_invite(**{"agent_id": "a", **fields})
    assert refusal(answer) == (409, "conflict", message)


# ---------------------------------------------------------------- invitations


async def test_a_worker_needs_an_invitation_and_a_file_of_them(service: Service) -> None:
    """The operator's bearer alone does not admit who takes work."""
    refused = await service.request(profile_kind=WORKER, invitation_code="x")
    message = "BYOA conversation worker profile requires an invitation validator"
    assert refusal(refused) == (409, "invitation_validator_required", message)


async def test_an_invitation_admits_a_worker_in_the_name_of_its_issuer(
    kernel: Kernel, project: Project, tmp_path: Any
) -> None:
    """Its code is no part of the request: another code of the same invitation is the same request."""
    await seed_project(kernel.database, project.id)
    entry = {"project_id": project.id, "issued_by_user_id": "owner", "issuer_role": "project_owner"}
    (tmp_path / "codes.json").write_text(json.dumps([{**entry, "invite_id": "inv-1", "code": "good"}]))
    invitations = Invitations.load(tmp_path / "codes.json")
    async with serving(kernel, project, invitations) as service:
        missing = await service.request(profile_kind=WORKER)
        wrong = await service.request(profile_kind=WORKER, invitation_code="bad")
        admitted = good(await service.request(profile_kind=WORKER, invitation_code=" good "))
        agent = await service.agent(admitted)
    message = "BYOA conversation worker profile requires an invitation_code"
    assert refusal(missing) == (403, "invitation_code_required", message)
    assert refusal(wrong) == (403, "invitation_code_invalid", "BYOA invitation code is invalid")
    assert agent["capabilities"] == ["turn.conversation.v1"]
