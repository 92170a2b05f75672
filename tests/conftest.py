"""What every test shares. Library tests run on asyncio and on trio (anyio's `anyio_backend`)."""

import os

from hypothesis import settings

from tests.databases import dsn, postgres, template

__all__ = ["dsn", "postgres", "template"]

# The gate draws the same examples each time, so that a red run can be repeated; a developer's draws differ.
settings.register_profile("cgworker", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("cgworker")
