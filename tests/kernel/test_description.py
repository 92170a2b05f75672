"""What the kernel says about itself: its routes and its figures."""

from __future__ import annotations

import re

import anyio
import anyio.lowlevel
import httpx
from attrs import evolve
from openapi_spec_validator import validate

from cgworker.kernel.app import Kernel, create_app, open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.routes.admission import admission_routes
from cgworker.kernel.store.postgres.database import Database
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


async def test_a_description_cites_nothing(kernel: Kernel) -> None:
    """Sections of the protocol's pages are for readers of the source: a program has no pages."""
    app = create_app(kernel, admission_routes(kernel.config, project_id="p", bearer="b"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kernel") as client:
        told = [(await client.get(path)).raise_for_status().text for path in ("/openapi.json", "/docs")]
    assert re.findall(r"(?:wire|admission|command line|differences?) \d[^\"<]*", "".join(told)) == []


async def test_hidden_figures_are_not_described(kernel: Kernel) -> None:
    """CG_METRICS=off takes the route away, and its description with it."""
    silent = evolve(kernel, config=evolve(kernel.config, metrics=False))
    async with client_of(silent) as client:
        assert "/metrics" not in (await client.get("/openapi.json")).json()["paths"]
        assert (await client.get("/metrics")).status_code == 404


async def test_admission_alone_describes_what_it_serves(kernel: Kernel) -> None:
    """Its own routes, health and the description itself, and none of a kernel's."""
    admission = admission_routes(kernel.config, project_id="p", bearer="b")
    app = create_app(kernel, admission, has_kernel_routes=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kernel") as client:
        told = (await client.get("/openapi.json")).json()
        validate(told)
        assert {path.split("/")[1] for path in told["paths"]} == {
            "admin", "docs", "healthz", "openapi.json", "readyz"
        }  # fmt: skip
        assert (await client.get("/v3r1/projects/p/projection/turns")).status_code == 404


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


async def test_the_figures_of_the_process_need_no_database(dsn: str, config: KernelConfig) -> None:
    """With the database away a scrape succeeds, says so, and has what this process counted."""
    async with Database.open(dsn) as database, open_kernel(config, database) as kernel:
        async with Database.open(dsn) as gone:
            pass
        async with client_of(evolve(kernel, database=gone)) as client:
            assert (await client.get("/readyz")).status_code == 503
            scrape = await client.get("/metrics")
    assert scrape.status_code == 200
    assert "cg_database_up 0.0" in scrape.text
    assert 'cg_requests_total{method="GET",path="/readyz",status="503"} 1.0' in scrape.text
    assert "cg_open_turns{" not in scrape.text


async def test_strangers_paths_are_counted_as_one(client: httpx.AsyncClient) -> None:
    """A path that is no route adds no figure of its own, nor does an id."""
    await client.get("/no/such/path/9f2c")
    await client.get("/v3r1/projects/9f2c/projection/turns")
    text = (await client.get("/metrics")).text
    assert "9f2c" not in text
    assert 'path="(none)",status="404"' in text


async def test_a_project_without_open_turns_is_not_told(project: Project, client: httpx.AsyncClient) -> None:
    """Closed turns are in no figure, and a figure that was told once goes with its turns."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    await requester.dispatch(worker)
    claim = await worker.claim()
    assert (
        f'cg_open_turns{{project="{project.id}",state="running"}} 1.0' in (await client.get("/metrics")).text
    )
    assert (await worker.finish(claim)).status_code == 200
    assert project.id not in (await client.get("/metrics")).text


async def test_waiting_requests_are_counted(project: Project, client: httpx.AsyncClient) -> None:
    """A request that waits for news is seen while it waits."""
    worker = await project.agent("worker")
    waiting = project.kernel.notifier
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.claim, {"Prefer": "wait=30"})
        while not waiting.waiting_count:
            await anyio.lowlevel.checkpoint()
        assert "cg_waiting_requests 1.0" in (await client.get("/metrics")).text
        requester = await project.agent("requester")
        await requester.dispatch(worker)
    assert "cg_waiting_requests 0.0" in (await client.get("/metrics")).text


async def test_the_figures_can_be_hidden(kernel: Kernel) -> None:
    """CG_METRICS=off leaves nothing at /metrics."""
    hiding = evolve(kernel, config=evolve(kernel.config, metrics=False))
    async with client_of(hiding) as client:
        assert (await client.get("/metrics")).status_code == 404
