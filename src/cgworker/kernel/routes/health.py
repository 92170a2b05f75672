"""Health and metrics routes, which need no credential."""

from __future__ import annotations

from attrs import frozen
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response

from cgworker.errors import CommonGroundError
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.http.messages import reply
from cgworker.kernel.http.request import Request
from cgworker.kernel.openapi.operation import Operation


@frozen(kw_only=True)
class Health:
    """This process answers."""

    status: str = "ok"
    service: str


@frozen(kw_only=True)
class Readiness:
    """Whether requests can be served now: `status` is "ready" or "unavailable". Times are in seconds."""

    status: str
    service: str
    backend: str = "postgres"
    claim_timeout_seconds: float
    claim_reaper_interval_seconds: float


async def healthz(request: Request) -> Response:
    """This process answers."""
    return reply(Health(service=request.kernel.config.service_name))


async def readyz(request: Request) -> Response:
    """This process could serve a request now: its database answers (difference 10)."""
    kernel = request.kernel
    try:
        await kernel.database.fetchval("select 1")
    except CommonGroundError:
        return reply(_readiness(kernel.config, "unavailable"), status=503, headers={"retry-after": "1"})
    return reply(_readiness(kernel.config, "ready"))


def _readiness(config: KernelConfig, status: str) -> Readiness:
    return Readiness(
        status=status,
        service=config.service_name,
        claim_timeout_seconds=config.claim_timeout_seconds,
        claim_reaper_interval_seconds=float(config.claim_reaper_interval_seconds),
    )


async def metrics(request: Request) -> Response:
    """What this process does and how much work waits, for Prometheus; not there with CG_METRICS=off."""
    kernel = request.kernel
    return Response(
        await kernel.metrics.text(kernel.database, kernel.notifier),
        headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4},
    )


routes: list[Operation] = [
    Operation("GET", "/healthz", healthz, gives=Health, identified_by=()),
    Operation("GET", "/readyz", readyz, gives=Readiness, gives_when_away=Readiness, identified_by=()),
]
metrics_routes: list[Operation] = [
    Operation("GET", "/metrics", metrics, gives=str, media_type="text/plain", identified_by=()),
]
