"""The kernel's routes, one file per noun. The order matters only where paths overlap."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute

from cgworker.kernel.config import KernelConfig


def kernel_routes(config: KernelConfig) -> Sequence[BaseRoute]:
    """All routes of the kernel service."""
    from cgworker.kernel.routes import agents, claims, credentials, health, projections, reports, turns

    return [
        *health.routes(config),
        *claims.routes,
        *turns.routes,
        *agents.routes,
        *credentials.routes,
        *reports.routes,
        *projections.routes,
    ]
