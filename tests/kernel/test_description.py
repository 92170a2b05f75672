"""What the kernel says about itself: its routes and its figures."""

from __future__ import annotations

import httpx
from attrs import evolve
from openapi_spec_validator import validate

from cgworker.kernel.app import Kernel, create_app
from cgworker.kernel.operation import Operation
from cgworker.kernel.routes.admission import admission_routes
from tests.kernel.project import Project, client_of


async def test_the_description_is_valid_openapi(kernel: Kernel) -> None:
    """`/openapi.json` is OpenAPI 3.1, admission included."""
    app = create_app(kernel, admission_routes(kernel.config, project_id="p", bearer="b"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kernel") as client:
        validate((await client.get("/openapi.json")).raise_for_status().json())


async def test_every_route_is_described(kernel: Kernel, client: httpx.AsyncClient) -> None:
    """What is served and what is told are one table."""
    told = (await client.get("/openapi.json")).json()["paths"]
    served = {(r.path, r.method.lower()) for r in create_app(kernel).routes if isinstance(r, Operation)}
    assert {(path, method) for path, methods in told.items() for method in methods} == served


async def test_people_can_read_the_routes(client: httpx.AsyncClient) -> None:
    """`/docs` lists them in a browser."""
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "turns:dispatch" in page.text


async def test_the_figures_follow_what_happens(project: Project, client: httpx.AsyncClient) -> None:
    """Requests, claims, open turns and leases are counted, by the rows of the route table."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    await requester.dispatch(worker)
    await requester.dispatch(worker)
    await worker.claim()
    text = (await client.get("/metrics")).text
    path = "/v3r1/projects/{project_id}/turns:dispatch"
    assert f'cg_requests_total{{method="POST",path="{path}",status="200"}}' in text
    assert f'cg_open_turns{{project="{project.id}",state="queued"}} 1.0' in text
    assert f'cg_leases{{project="{project.id}"}} 1.0' in text
    assert "cg_claims_total" in text


async def test_the_figures_can_be_hidden(kernel: Kernel) -> None:
    """CG_METRICS=off leaves nothing at /metrics."""
    hiding = evolve(kernel, config=evolve(kernel.config, metrics=False))
    async with client_of(hiding) as client:
        assert (await client.get("/metrics")).status_code == 404
