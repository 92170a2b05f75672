"""Routes that say how the kernel is; nobody has to say who they are."""

from __future__ import annotations

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


routes = [
    Operation("GET", "/healthz", healthz, is_open=True),
    Operation("GET", "/readyz", readyz, is_open=True),
]
