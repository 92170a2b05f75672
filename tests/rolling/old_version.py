"""The old version: its tree, and an environment that has it installed."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from tests.soak.processes import Servant

# Its own test stage admits the agents, so that the schema and the rows are those of the old version.
_SEED = """
import asyncio, json, sys
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store.opening import open_database
from tests.soak.stage import _admit_agents

async def main():
    async with open_database(KernelConfig(pg_dsn=sys.argv[1], pool_size=2)) as database:
        print(json.dumps(await _admit_agents(database)))

asyncio.run(main())
"""


@frozen
class OldVersion:
    """The version of 1 of 7, commit f7e32f1.

    Attributes:
        python: a Python that has it installed.
        source: the root of its tree; its soak's worker is used.
    """

    python: Path
    source: Path

    async def seed(self, dsn: str) -> dict[str, str]:
        """Make its schema and the soak's agents; returns the agents' tokens."""
        told = await asyncio.to_thread(
            subprocess.run,
            [*self._argv("-c", _SEED), dsn],
            env={"PYTHONPATH": str(self.source)},
            capture_output=True,
            text=True,
            check=False,
        )
        if told.returncode:
            raise RuntimeError(f"the old version does not make its schema: {told.stderr}")
        tokens: dict[str, str] = json.loads(told.stdout)
        return tokens

    def servant(self, name: str, module: tuple[str, ...], environ: Mapping[str, str], logs: Path) -> Servant:
        """A process of it that is not started yet.

        Args:
            name: what the report calls it.
            module: what follows `python -m`.
            environ: its environment.
            logs: the folder in which its output goes.
        """
        return Servant(name, self._argv("-m", *module), {**environ, "PYTHONPATH": str(self.source)}, logs)

    def _argv(self, *arguments: str) -> list[str]:
        # -P: the folder that this program runs in has this version's modules.
        return [str(self.python), "-P", *arguments]
