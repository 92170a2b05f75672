"""No request gets a 5xx (difference 1): every field of every body of these routes, replaced by what hurts."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from attrs import evolve

from cgworker.kernel.app import Kernel, create_app
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.routes.admission import admission_routes
from cgworker.kernel.store.seed import seed_project
from tests.kernel.project import Agent, Project, client_of

BEARER = "the-operators-bearer"

HURTFUL: list[Any] = [
    None,
    True,
    0,
    -1,
    2**31,
    10**400,
    1.5,
    "",
    "\0",
    "a/b",
    "x" * 5000,
    "".join(chr(0x4E00 + number) for number in range(4000)),
    [],
    [None],
    ["\0"],
    {},
    {"": {"a": [1, None]}},
]

RAW = [b"", b"{", b"[]", b"null", b'{"a":NaN}', b'{"a":"\\ud800"}', b"[" * 100_000, b"\xff\xfe", b"\0"]

OFFER = {
    "turn_kind": "k",
    "purpose": "p",
    "calling": {"operation": "dispatch", "authority_modes": [{"mode": "root_request"}]},
    "input_contract": {},
    "variants": {},
    "notes": None,
}

META = {"note": "n", "reason": "r", "annotations": {"x": 1}}


def bodies(project_id: str) -> dict[tuple[str, str], dict[str, Any]]:
    """A good body for each route, by method and path."""

    def ref(agent_id: str) -> dict[str, str]:
        return {"project_id": project_id, "agent_id": agent_id}

    v, admin = f"/v3r1/projects/{project_id}", f"/admin/v1/projects/{project_id}"
    managed = f"{v}/management/agents/worker"
    accepts = {
        "agent": ref("worker"),
        "requested_by": ref("worker"),
        "meta": META,
        "trace": {"trace_id": "t"},
    }
    return {
        ("POST", f"{v}/agents:register"): {
            "spec": {
                "agent_id": "new",
                "role": "r",
                "description": "d",
                "enabled": True,
                "accepts_work": True,
                "capacity": 1,
                "capabilities": ["c"],
                "grants": ["g"],
                "public_metadata": {"turn_offers": [OFFER], "provision": {"a": 1}},
            },
            "provenance": {"kind": "k", "external_ref": "e", "payload_hash": "h"},
        },
        ("POST", f"{v}/agents/worker/credentials:issue"): {
            "expires_at": "2099-01-01",
            "provenance_kind": "k",
            "provenance_ref": "r",
            "provenance_payload_hash": "h",
        },
        ("POST", f"{managed}:drain"): accepts,
        ("POST", f"{managed}:heartbeat-presence"): {"agent": ref("worker"), "meta": META},
        ("PUT", f"{managed}/public-metadata"): {
            "agent": ref("worker"),
            "public_metadata": {"turn_offers": [OFFER], "ui": {"label": "x"}},
        },
        ("POST", f"{managed}:update"): {
            "agent": ref("worker"),
            "requested_by": ref("worker"),
            "capacity": 2,
            "enabled": True,
            "capabilities": ["c"],
            "grants": ["agent.registration.birth", "agent.credential.issue.any"],
            "meta": META,
        },
        ("POST", f"{v}/agents/worker/work-memory-reports"): {
            "kind": "agent_work_memory_report_manifest.v1",
            "request_id": "r",
            "summary": "s",
            "records": [{"role": "a", "payload": {"x": 1}, "source_refs": [{"a": 1}]}],
            "final_payload": {"f": 1},
            "declared_project_id": project_id,
            "declared_agent_id": "worker",
        },
        ("POST", f"{admin}/agent-credential-tokens:request"): {
            "request_id": "r",
            "requested_agent_id": "rep",
            "display_name": "d",
            "runtime_kind": "k",
            "description": "d",
            "requested_role": "external.agent.v1",
            "requested_capabilities": ["turn.work_memory_report.v1"],
            "profile_kind": "byoa.work_memory_reporter.v1",
            "invitation_code": "x",
            "creator_user_id": "u",
        },
        ("POST", f"{admin}/agent-join-invites"): {
            "agent_id": "invited",
            "profile_kind": "byoa.conversation_worker.v1",
            "runtime_kind": "k",
            "display_name": "d",
            "description": "d",
            "expires_in_seconds": 60,
            "single_use": True,
            "max_uses": 1,
            "capacity": 1,
            "grants": ["g"],
        },
        ("POST", "/admin/v1/agent-joins:redeem"): {"join_code": "cgjoin_x"},
    }


ROUTES = list(bodies("P"))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a body can be hurt: each of its values, and itself."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    whole = inner = copy.deepcopy(value)
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = by
    return whole


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route[1].rpartition("P")[2])
async def test_no_body_gets_a_5xx(kernel: Kernel, project: Project, route: tuple[str, str]) -> None:
    """And each refusal says in one of the known shapes what was wrong."""
    await seed_project(kernel.database, project.id)
    grants = ("agent.registration.birth", "agent.credential.issue.any")
    worker = await project.agent("worker", grants=grants)
    (method, path), body = _of_project(route, project)
    config = KernelConfig(redeems_per_minute=0)
    routes = admission_routes(config, project_id=project.id, bearer=BEARER)
    transport = httpx.ASGITransport(create_app(kernel, routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://kernel") as client:
        for content in (*_hurt(body), *RAW):
            answer = await client.request(method, path, content=content, headers=_headers(path, worker))
            assert answer.status_code < 500, (content[:300], answer.text)
            if answer.status_code >= 400:
                assert set(answer.json()) in ({"detail"}, {"error", "message"}, {"error", "code", "message"})


async def test_a_body_that_comes_too_slowly_is_408(kernel: Kernel, project: Project) -> None:
    """Nobody keeps a request open by never ending it; the connection is given up with it."""

    async def never_ends() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    worker = await project.agent("worker")
    hasty = evolve(kernel, config=evolve(kernel.config, max_body_seconds=0.2))
    async with client_of(hasty) as client:
        url = f"/v3r1/projects/{project.id}/turns:dispatch"
        answer = await client.post(url, content=never_ends(), headers=_headers(url, worker))
    assert (answer.status_code, answer.headers["connection"]) == (408, "close")
    assert answer.json() == {"detail": "the body did not arrive within 0.2 seconds"}


def _of_project(route: tuple[str, str], project: Project) -> tuple[tuple[str, str], dict[str, Any]]:
    """The route and its body, for the project of a test."""
    return list(bodies(project.id).items())[list(bodies("P")).index(route)]


def _hurt(body: dict[str, Any]) -> Iterator[bytes]:
    for place in places(body):
        for value in HURTFUL:
            yield json.dumps(replaced(body, place, value)).encode()


def _headers(path: str, worker: Agent) -> dict[str, str]:
    own = {"authorization": f"Bearer {BEARER}"} if path.startswith("/admin") else worker.headers
    return {**own, "content-type": "application/json"}
