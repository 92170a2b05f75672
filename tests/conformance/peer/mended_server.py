"""The reference's `cg`, for its servers; run by the reference's Python, never by ours.

As published it cannot store anything: its content store takes a box that already has an id for one that
it already has, and card content that is no object is refused. Both are mended here, from outside, in the
two classes concerned. Each storage call also opens and closes a connection pool of its own, which makes
every request slow; here one storage stays open.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from typing import Any

from cardbox import structures  # type: ignore[import-not-found]
from cardbox.adapters.async_storage import (  # type: ignore[import-not-found]
    AsyncPostgresStorageAdapter as Storage,
)

UPSERT = """
    insert into card_boxes (box_id, tenant_id, card_ids, parent_ids, updated_at)
    values (%s, %s, %s, %s, now())
    on conflict (box_id) do update
       set card_ids = excluded.card_ids, parent_ids = excluded.parent_ids, updated_at = excluded.updated_at
"""


class JsonContent(structures.Content):  # type: ignore[misc]  # stored under this name
    """Card content that may be any JSON value."""

    data: Any


class OpenStorage:
    """One storage, kept open in an event loop of its own."""

    def __init__(self, config: Any) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._storage = self.wait(self._open(config))

    async def _open(self, config: Any) -> Any:
        storage = Storage(config=config)
        await storage.open()
        return storage

    def run(self, operation: Any) -> Any:
        return self.wait(operation(self._storage))

    def wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def run_in_open_storage(service: Any, operation: Any) -> Any:
    with service._lock:  # noqa: SLF001  # mended from outside
        if not hasattr(service, "open_storage"):
            service.open_storage = OpenStorage(service._config)  # noqa: SLF001
        return service.open_storage.run(operation)


published_save = Storage.save_card_box


async def insert_or_update(storage: Any, box: Any, tenant_id: str, *, conn: Any = None) -> Any:
    if box.box_id is None:
        return await published_save(storage, box, tenant_id, conn=conn)
    parents = None if box.parent_ids is None else json.dumps(box.parent_ids)
    async with storage._connection(conn) as connection:  # noqa: SLF001
        await connection.execute(UPSERT, (box.box_id, tenant_id, json.dumps(box.card_ids), parents))
    return str(box.box_id)


def mend() -> None:
    """Replace what is broken; the content class before it is imported by name."""
    structures.JsonContent = JsonContent
    Storage.save_card_box = insert_or_update
    from CommonGround.infra.content import PostgresCardBoxService  # type: ignore[import-not-found]

    PostgresCardBoxService._run = run_in_open_storage  # noqa: SLF001


if __name__ == "__main__":
    mend()
    from CommonGround.cli import main  # type: ignore[import-not-found]

    sys.exit(main())
