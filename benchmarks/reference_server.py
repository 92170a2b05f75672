"""The reference's `cg` for its servers, mended; run by the reference's Python, never by ours.

`CG_REFERENCE_STORAGE` says what becomes of its storage. As "published", each operation opens connections of
its own and replays the DDL. "pooled" leaves the DDL out of all operations but the first. "open" keeps one
pool for all of them as well, which it cannot do by itself, and so shows how fast the rest of it is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "conformance" / "peer"))

import mended_server  # type: ignore[import-not-found]
from cardbox import structures  # type: ignore[import-not-found]
from mended_server import Storage

published_init = Storage.__init__


def init_without_ddl(storage: Any, config: Any, **more: Any) -> None:
    published_init(storage, config.model_copy(update={"auto_bootstrap": bool(not_yet_made)}), **more)
    not_yet_made.clear()


not_yet_made = ["the storage's tables"]

if __name__ == "__main__":
    kept = os.environ["CG_REFERENCE_STORAGE"]
    if kept == "open":
        mended_server.mend()
    else:
        structures.JsonContent = mended_server.JsonContent
        Storage.save_card_box = mended_server.insert_or_update
    if kept == "pooled":
        Storage.__init__ = init_without_ddl
    from CommonGround.cli import main  # type: ignore[import-not-found]

    sys.exit(main())
