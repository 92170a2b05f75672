"""Routes that say how the kernel is; nobody has to say who they are."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cgworker.errors import CommonGroundError
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.http import reply
from cgworker.kernel.operation import Operation


async def healthz(request: Request) -> Response:
    """This process answers."""
    return reply({"status": "ok", "service": request.app.state.kernel.config.service_name})


async def readyz(request: Request) -> Response:
    """This process could serve a request now: its database answers (decision 10)."""
    kernel = request.app.state.kernel
    try:
        await kernel.database.fetchval("select 1")
    except CommonGroundError:
        return reply(_state_of(kernel.config, "unavailable"), status=503, headers={"retry-after": "1"})
    return reply(_state_of(kernel.config, "ready"))


def _state_of(config: KernelConfig, status: str) -> dict[str, object]:
    return {
        "status": status,
        "service": config.service_name,
        "backend": "postgres",
        "claim_timeout_seconds": config.claim_timeout_seconds,
        "claim_reaper_interval_seconds": float(config.claim_reaper_interval_seconds),
    }


async def metrics(request: Request) -> Response:
    """What this process does and how much work waits, for Prometheus; hidden by CG_METRICS=off."""
    kernel = request.app.state.kernel
    if not kernel.config.metrics:
        raise HTTPException(404)
    return Response(await kernel.metrics.text(kernel), headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})


routes = [
    Operation("GET", "/healthz", healthz, identified_by=()),
    Operation("GET", "/readyz", readyz, identified_by=()),
    Operation("GET", "/metrics", metrics, gives=str, media_type="text/plain", identified_by=()),
]
