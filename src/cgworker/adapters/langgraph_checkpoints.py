"""Keep the checkpoints of a LangGraph graph as private steps of a turn, for any worker that goes on."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.memory import InMemorySaver

from cgworker.adapters.harness import Harness

_STEP = "checkpoint"

Typed = tuple[str, bytes]
"""A value as LangGraph's serializer writes it: the kind of its bytes, and the bytes."""


class TurnCheckpoints(InMemorySaver):
    """The checkpoints of a turn: in memory, and each change a private step, `checkpoint#1` and so on.

    Args:
        harness: the attempt at the turn.
        thread_id: the id under which the graph runs in this attempt.
    """

    def __init__(self, harness: Harness, thread_id: str) -> None:
        super().__init__()
        self._harness = harness
        self._thread_id = thread_id
        self._keeping = anyio.Lock()  # nodes side by side must not leave a gap between the steps

    async def read(self) -> None:
        """Read what earlier attempts kept; to be called once, before the graph runs.

        Raises:
            PrivateStepMissing: the worker's private store does not have it.
            Suspending: the same, and another worker may have it.
        """
        for change in await self._harness.kept(_STEP):
            self._take(change)

    # ------------------------------------------------------------ the package's interface

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint, and the channels that changed in it.

        Args:
            config: says where it belongs.
            checkpoint: the checkpoint.
            metadata: what LangGraph says of it.
            new_versions: the channels that changed.
        """
        kept = self.put(config, checkpoint, metadata, new_versions)
        space, name = kept["configurable"]["checkpoint_ns"], checkpoint["id"]
        written, described, parent = self.storage[self._thread_id][space][name]
        changed = {
            channel: self.blobs[self._place(space, channel, at)] for channel, at in new_versions.items()
        }
        await self._keep(
            {
                "space": space,
                "checkpoint": name,
                "parent": parent,
                "written": _text_of(written),
                "described": _text_of(described),
                "channels": [
                    [channel, new_versions[channel], *_text_of(typed)] for channel, typed in changed.items()
                ],
            }
        )
        return kept

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a node has written; with this it does not run again.

        Args:
            config: says where it belongs.
            writes: the values by channel.
            task_id: the node's task.
            task_path: where this is in the graph.
        """
        self.put_writes(config, writes, task_id, task_path)
        space = config["configurable"].get("checkpoint_ns", "")
        name = config["configurable"]["checkpoint_id"]
        places = [WRITES_IDX_MAP.get(channel, place) for place, (channel, _) in enumerate(writes)]
        made = self.writes[self._thread_id, space, name]
        kept = []
        for place in places:
            _, channel, typed, path = made[task_id, place]
            kept.append([place, task_id, channel, *_text_of(typed), path])
        await self._keep({"space": space, "checkpoint": name, "writes": kept})

    # ------------------------------------------------------------ steps

    async def _keep(self, change: Mapping[str, Any]) -> None:
        async with self._keeping:
            await self._harness.keep(_STEP, lambda: change)

    def _take(self, change: Mapping[str, Any]) -> None:
        space, name = change["space"], change["checkpoint"]
        for place, task_id, channel, kind, text, path in change.get("writes", ()):
            made = self.writes[self._thread_id, space, name]
            made[task_id, place] = (task_id, channel, _typed((kind, text)), path)
        for channel, version, kind, text in change.get("channels", ()):
            self.blobs[self._place(space, channel, version)] = _typed((kind, text))
        if "written" in change:
            whole = (_typed(change["written"]), _typed(change["described"]), change["parent"])
            self.storage[self._thread_id][space][name] = whole

    def _place(self, space: str, channel: str, version: Any) -> tuple[str, str, str, Any]:
        return self._thread_id, space, channel, version


def _text_of(typed: Typed) -> tuple[str, str]:
    return typed[0], b64encode(typed[1]).decode()


def _typed(kept: Sequence[str]) -> Typed:
    return kept[0], b64decode(kept[1])
