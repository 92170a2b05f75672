"""Keep the transcript of a Claude session as private steps of a turn, so that any worker can go on with it.

The package mirrors each entry of a transcript to a `SessionStore`. Here every batch becomes a private step,
`session#1`, `session#2` and so on. It is fenced like all steps, and removed when the turn is closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import anyio

from cgworker.adapters.harness import Harness

_BATCH = "session"

Entry = Mapping[str, Any]


class TurnSessions:
    """The sessions of a turn, as the package's `SessionStore`.

    A session is known by its id alone. The package's `project_key` is ignored: it is made of the working
    folder, which on another machine is another one, and the session would not be found there.

    Args:
        harness: the attempt at the turn.

    Attributes:
        failure: why a batch could not be kept; None if all were.
    """

    def __init__(self, harness: Harness) -> None:
        self.failure: Exception | None = None
        self._harness = harness
        self._batches: list[Mapping[str, Any]] = []
        self._known: set[tuple[str, str, str]] = set()
        self._lock = anyio.Lock()
        self._is_changed = anyio.Event()

    async def read(self) -> None:
        """Read what earlier attempts kept; to be called once, before the others.

        Raises:
            PrivateStepMissing: the worker's private store does not have it.
            Suspending: the same, and another worker may have it.
        """
        for batch in await self._harness.kept(_BATCH):
            self._note(batch)

    @property
    def session_id(self) -> str | None:
        """The id of the session to go on with; None if there is none."""
        return self._batches[0]["session"] if self._batches else None

    @property
    def entries(self) -> Iterator[Entry]:
        """All entries, those of subagents included, in the order in which they came."""
        return (entry for batch in self._batches for entry in batch["entries"])

    def blocks(self, kind: str) -> Iterator[Entry]:
        """Yield the content blocks of a kind, of all messages.

        Args:
            kind: the type of the blocks, such as `tool_use` or `tool_result`.
        """
        for entry in self.entries:
            message = entry.get("message")
            content = message.get("content") if isinstance(message, Mapping) else None
            for block in content if isinstance(content, list) else ():
                if isinstance(block, Mapping) and block.get("type") == kind:
                    yield block

    @property
    def prompts(self) -> Iterator[str]:
        """The texts of users' messages: what Claude was told."""
        for entry in self.entries:
            message = entry.get("message")
            if isinstance(message, Mapping) and message.get("role") == "user":
                content = message.get("content")
                for block in content if isinstance(content, list) else [{"text": content}]:
                    if isinstance(block, Mapping) and isinstance(text := block.get("text"), str):
                        yield text

    async def wait_for_call(self, tool_use_id: str) -> None:
        """Wait until the model's message with a tool call is kept.

        Args:
            tool_use_id: the call.

        Raises:
            Exception: a batch could not be kept.
        """
        while all(block.get("id") != tool_use_id for block in self.blocks("tool_use")):
            if self.failure is not None:
                raise self.failure
            await self._is_changed.wait()

    # ------------------------------------------------------------ the package's protocol

    async def append(self, key: Mapping[str, Any], entries: Sequence[Entry]) -> None:
        """Keep a batch of entries; those whose `uuid` is known are left out.

        Args:
            key: the session, and a `subpath` if the batch is of a subagent.
            entries: the entries.
        """
        async with self._lock:
            session, subpath = key["session_id"], key.get("subpath", "")
            known = {uuid for *where, uuid in self._known if where == [session, subpath]}
            new = [each for each in entries if each.get("uuid") is None or not _seen(each["uuid"], known)]
            if not new:
                return
            batch = {"session": session, "subpath": subpath, "entries": new}
            try:
                step = f"{_BATCH}#{len(self._batches) + 1}"
                self._note(await self._harness.turn.once(step, lambda: batch, private=True))
                self.failure = None
            except Exception as failed:  # the package tries again, and then goes on without
                self.failure = failed
                raise
            finally:
                self._is_changed.set()
                self._is_changed = anyio.Event()

    async def load(self, key: Mapping[str, Any]) -> list[Entry] | None:
        """Return the entries of a session or of one of its subagents; None if there are none.

        Args:
            key: as for `append`.
        """
        wanted = (key["session_id"], key.get("subpath", ""))
        batches = [batch for batch in self._batches if (batch["session"], batch["subpath"]) == wanted]
        return [entry for batch in batches for entry in batch["entries"]] or None

    async def list_subkeys(self, key: Mapping[str, Any]) -> list[str]:
        """Return the `subpath`s of a session.

        Args:
            key: the session.
        """
        session = key["session_id"]
        return sorted({each["subpath"] for each in self._batches if each["session"] == session} - {""})

    def _note(self, batch: Mapping[str, Any]) -> None:
        self._batches.append(batch)
        self._known |= {
            (batch["session"], batch["subpath"], entry["uuid"])
            for entry in batch["entries"]
            if isinstance(entry.get("uuid"), str)
        }


def _seen(uuid: str, known: set[str]) -> bool:
    """Return whether a uuid is known, and note it."""
    if uuid in known:
        return True
    known.add(uuid)
    return False
