"""`cg service run`: a kernel, configured by its environment alone."""

from __future__ import annotations


async def run() -> None:
    """Run a kernel until SIGTERM or SIGINT. It makes its schema itself; projects are seeded by `cg setup`."""
    from cgworker.cli.serving import run_service
    from cgworker.kernel.config import KernelConfig

    await run_service(KernelConfig.from_env())
